"""EndoVis 2017 and 2018: frames of the left eye, and masks whose values or colours `endovis.json` names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from .case import Target, colour
from .label_pictures import check_frames
from .layout import DatasetOptions


def instruments(labels: tuple[Path, ...], groups: Mapping[str, str], options: DatasetOptions) -> tuple[Target, ...]:
    """2017: a target for each instrument, which has a folder of masks of its own; its parts are its values.

    Two instruments of one kind are told apart as the folders do, by the side of the patient.

    Raises:
        InputError: a folder is of no instrument that the table knows, or lacks a frame's mask.
    """
    table = _table()["2017"]["instruments"]
    found = []
    for folder in labels:
        _check(folder, groups)
        key = re.sub(r"^(Left|Right)_|_labels$", "", folder.name)
        if key not in table:
            raise InputError(f"{folder} is of no instrument of EndoVis 2017 ({', '.join(table)}); rename it")
        side = re.match(r"Left|Right", folder.name)
        found.append(Target(table[key] + (f", {side[0].lower()}" if side else ""), (folder,)))
    return tuple(found)


def scene(labels: tuple[Path, ...], groups: Mapping[str, str], options: DatasetOptions) -> tuple[Target, ...]:
    """2018: a target for each class, which has a colour of its own.

    Raises:
        InputError: a frame has no mask.
    """
    (folder,) = labels
    _check(folder, groups)
    return tuple(Target(name, labels, (colour(text),)) for name, text in _table()["2018"]["colours"].items())


def _check(masks: Path, groups: Mapping[str, str]) -> None:
    above = Path(*masks.parts[: masks.parts.index(groups["name"])])
    check_frames(groups["name"], above / groups["image"], masks)


@cache
def _table() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "endovis.json").read_text(encoding="utf-8"))
