"""What the readers of the known layouts have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.formats import PICTURE, SEGMENTATION, VOLUME, extension
from ..io.guards import existing
from .case import Case, Target


@dataclass(frozen=True)
class DatasetOptions:
    """What the user says of a dataset beyond what its files say.

    Attributes:
        modality: of all cases, instead of what the layout says.
        split: of cases whose layout does not say it.
        targets: names with their label values (none: every value but 0), instead of what the files say.
        channel: which of several channels is the image.
        split_files: that say which case is in which split, instead of what the layout says; see `splits`.
        fold: of split files that hold several.
        instances: of labels whose every value is an object of its own (cells), so many of each image; None for all.
    """

    modality: str = ""
    split: str = ""
    targets: tuple[tuple[str, tuple[int, ...]], ...] = ()
    channel: int = 0
    split_files: tuple[Path, ...] = ()
    fold: int = 0
    instances: int | None = None


Reader = Callable[[Path, DatasetOptions], list[Case]]


def read_json(path: Path) -> dict[str, Any]:
    """A dataset's description.

    Raises:
        InputError: it cannot be read or is no JSON object.
    """
    try:
        content = json.loads(existing(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}; correct the file") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not describe a dataset; it must be a JSON object")
    return content


def images_in(folder: Path) -> list[Path]:
    """All pictures, volumes and segmentations below a folder, in order of their names."""
    known = {*PICTURE, *VOLUME, *SEGMENTATION} - {".hdr"}  # the header's partner .img stands for both
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(p for p in found if extension(p) in known)


def stem(path: Path) -> str:
    """A file's name without all of its extension."""
    return path.name[: len(path.name) - len(extension(path))] or path.name


def named_targets(labels: tuple[Path, ...], options: DatasetOptions) -> tuple[Target, ...]:
    """The targets that the user named, in these files.

    Args:
        labels: the files that mark them.
        options: names with their values.

    Returns:
        One target for each name; none where the user named none.
    """
    return tuple(Target(name, labels, values) for name, values in options.targets)


def targets_from_values(labels: tuple[Path, ...], values: list[int], name: str = "label") -> tuple[Target, ...]:
    """A target for each label value.

    Args:
        labels: the files that mark them.
        values: of the labels, without the background.
        name: what each target is called, before its value.
    """
    return tuple(Target(f"{name} {value}", labels, (value,)) for value in values)
