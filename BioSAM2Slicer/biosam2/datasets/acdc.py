"""ACDC: a folder for each patient; its ``Info.cfg`` says which frames are end-diastole (ED) and end-systole (ES)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError


def case_name(root: Path, groups: Mapping[str, str]) -> str:
    """``patient001_ED`` or ``patient001_ES``, as the patient's ``Info.cfg`` says of the frame; else the file's name.

    Raises:
        InputError: ``Info.cfg`` cannot be read.
    """
    path = root / groups["part"] / groups["patient"] / "Info.cfg"
    if not path.is_file():
        return groups["name"]
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; complete the download") from error
    for line in lines:
        match = re.fullmatch(r"\s*(ED|ES)\s*:\s*(\d+)\s*", line)
        if match and int(match[2]) == int(groups["frame"]):
            return f"{groups['patient']}_{match[1]}"
    return groups["name"]
