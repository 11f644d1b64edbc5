"""Videos as DAVIS and its kin keep them: ``JPEGImages/…/name/00000.jpg`` and ``Annotations/…/name/00000.png``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import label_pictures
from .case import Case, Target
from .layout import DatasetOptions, named_targets, targets_from_values

_IMAGES, _LABELS = "JPEGImages", "Annotations"
_VOID = 255
"""Beside other values: pixels that belong to no object in particular. Alone it is the one object there is."""


def is_davis(folder: Path) -> bool:
    """Whether a folder has the two parts."""
    return (folder / _IMAGES).is_dir() and (folder / _LABELS).is_dir()


def read(folder: Path, options: DatasetOptions) -> list[Case]:
    """The videos, with a target for each object; the split is that of the lists in ``ImageSets``.

    Raises:
        InputError: a video has no masks, or not one for each frame.
    """
    splits = _splits(folder)
    cases = []
    for frames in sorted({p.parent for p in (folder / _IMAGES).rglob("*") if p.is_file() and p.name[0] != "."}):
        inner = frames.relative_to(folder / _IMAGES)
        labels = folder / _LABELS / inner
        name = inner.as_posix()
        label_pictures.check_frames(name, frames, labels)
        cases.append(
            Case(
                name,
                frames,
                named_targets((labels,), options) or _objects(labels),
                options.modality,
                splits.get(frames.name, options.split),
                "video",
            )
        )
    return cases


def _objects(labels: Path) -> tuple[Target, ...]:
    values = [int(v) for v in np.unique(label_pictures.read(labels)) if v]
    objects = [v for v in values if v != _VOID] if len(values) > 1 else values
    if len(objects) > 1:
        return targets_from_values((labels,), objects, "object")
    # One object: whatever is marked, unless void is.
    return (Target("object", (labels,), tuple(objects) if objects != values else ()),)


def _splits(folder: Path) -> dict[str, str]:
    """Split by name of the video."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        for path in sorted((folder / "ImageSets").rglob(f"{split}.txt")):
            for line in path.read_text(encoding="utf-8").splitlines():
                words = line.split()  # a video's name, or the paths of a frame and its mask
                if words:
                    found.setdefault(Path(words[0]).parent.name or words[0], split)
    return found
