"""TotalSegmentator: a folder for each scan, with a file for each of its structures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .case import Target
from .layout import DatasetOptions, stem


def targets(labels: tuple[Path, ...], groups: Mapping[str, str], options: DatasetOptions) -> tuple[Target, ...]:
    """A target for each file, under its name."""
    return tuple(Target(structure_name(stem(path)), (path,)) for path in labels)


def modality(groups: Mapping[str, str]) -> str:
    """CT or MR, as the scan's file says."""
    return {"ct": "CT", "mri": "MR"}[groups["scan"]]


def structure_name(name: str) -> str:
    """A structure as other datasets call it: ``kidney_left`` is the left kidney."""
    words = name.split("_")
    if words[-1] in ("left", "right"):
        words = [words[-1], *words[:-1]]
    return _OTHER_NAMES.get(name, " ".join(words))


_OTHER_NAMES = {"urinary_bladder": "bladder"}
