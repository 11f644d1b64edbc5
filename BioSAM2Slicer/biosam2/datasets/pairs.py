"""Folders of image and mask files that belong together by their names.

``x.png`` with ``x_mask.png`` and ``x_mask_1.png`` (BUSI), ``images/x.png`` with ``masks/x.png``, or a folder for each
case with ``image.nrrd`` and ``label.nrrd``: what remains of the path without such words is the case's name.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io import read_labelmap, read_segmentation
from ..io.formats import PICTURE, SEGMENTATION, extension
from .case import Case, Target
from .layout import DatasetOptions, images_in, named_targets, stem, targets_from_values

_IMAGE = ("image", "images", "img", "imgs")
_LABEL = (
    "mask", "masks", "label", "labels", "seg", "segmentation", "segmentations",
    "gt", "gts", "groundtruth", "ground_truth", "annotation", "annotations",
)  # fmt: skip
_NUMBERED = re.compile(rf"(.+?)[_-](?:{'|'.join(_LABEL)})(?:[_-]?\d+)?", re.IGNORECASE)
_NAMED = re.compile(rf"(.+?)[_-](?:{'|'.join(_IMAGE)})", re.IGNORECASE)


def read(folder: Path, options: DatasetOptions) -> list[Case]:
    """The images that have labels; images without one are left out.

    A volume's label file is looked into for its label values; a picture's mask is one target, of every value
    but 0 (a JPEG's of every value above half of 255).

    Raises:
        InputError: a label has no image or several, or a label file cannot be read.
    """
    images: dict[str, list[Path]] = {}
    labels: dict[str, list[Path]] = {}
    for path in images_in(folder):
        name, is_label = role(path.relative_to(folder))
        (labels if is_label else images).setdefault(name, []).append(path)
    cases = []
    for name, masks in labels.items():
        found = images.get(name, [])
        if len(found) != 1:
            which = f"{len(found)} images ({', '.join(p.name for p in found)})" if found else "no image"
            raise InputError(f"case {name or folder.name}: {masks[0]} has {which} to go with; rename or remove it")
        cases.append(
            Case(
                name or folder.name,
                found[0],
                _targets(tuple(masks), options),
                options.modality,
                options.split,
                "2D" if extension(found[0]) in PICTURE else "3D",
            )
        )
    return cases


def role(path: Path) -> tuple[str, bool]:
    """The name of the case that a file belongs to, and whether the file is a label.

    Args:
        path: relative to the dataset's folder.
    """
    kept, is_label = [], extension(path) in SEGMENTATION
    for part in (*path.parts[:-1], stem(path)):
        lower = part.lower()
        if lower in _LABEL:
            is_label = True
        elif match := _NUMBERED.fullmatch(part):
            kept.append(match[1])
            is_label = True
        elif lower not in _IMAGE:
            named = _NAMED.fullmatch(part)
            kept.append(named[1] if named else part)
    return "/".join(kept), is_label


def _targets(labels: tuple[Path, ...], options: DatasetOptions) -> tuple[Target, ...]:
    if options.targets:
        return named_targets(labels, options)
    if extension(labels[0]) in PICTURE:
        return (Target("target", labels),)
    if len(labels) > 1:  # a file for each target
        return tuple(Target(stem(path), (path,)) for path in labels)
    return targets_in(labels[0])


def targets_in(label: Path) -> tuple[Target, ...]:
    """What a label file of a volume holds: its segments by name, or its label values.

    Raises:
        InputError: it cannot be read.
    """
    if extension(label) in SEGMENTATION:
        _, segments = read_segmentation(label)
        return tuple(Target(name, (label,), (number,)) for number, name in enumerate(segments, start=1))
    values = np.unique(read_labelmap(label).array)
    found = [int(value) for value in values if value]
    return targets_from_values((label,), found) if len(found) > 1 else (Target("target", (label,)),)
