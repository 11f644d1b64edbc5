"""NPZ files as MedSAM's tools write them: ``imgs``, ``gts`` and, for volumes, ``spacing``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..io.guards import existing, require_memory, unreadable
from ..io.itk import finite
from ..volume import Volume
from .case import Case, CaseKind, Target
from .layout import DatasetOptions, named_targets, targets_from_values

# As MedSAM's tools begin the names of their files.
_MODALITIES = (
    "CT", "MR", "PET", "US", "XRay", "X-Ray", "Dermoscopy", "Endoscopy", "Fundus", "Mammography", "Microscopy", "OCT",
)  # fmt: skip


def read_image(path: Path) -> Volume:
    """The image: ``imgs`` is (K, J, I), (J, I) or colour with a last axis of 3; ``spacing`` is along i, j, k in mm.

    Raises:
        InputError: the file is damaged or lacks an image.
    """
    arrays = _load(path, ("imgs",), optional=("spacing",))
    image = finite(path, arrays["imgs"])
    if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3):
        image = image[None]
    spacing = arrays.get("spacing")
    if spacing is None:
        return Volume(image, metadata={"source": str(path)})
    if spacing.size not in (2, 3):
        raise InputError(f"{path}: spacing holds {spacing.size} numbers; give one for each of i, j, k")
    i, j, k = (*(float(s) for s in spacing.ravel()), 1.0)[:3]
    return Volume(image, (i, j, k), metadata={"source": str(path)})


def read_labels(path: Path) -> NDArray[Any]:
    """The labels ``gts``, whole numbers (K, J, I).

    Raises:
        InputError: the file is damaged or lacks labels.
    """
    labels = _load(path, ("gts",))["gts"]
    if labels.dtype.kind == "f" and np.array_equal(labels, np.rint(labels)):
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "bui" or labels.ndim not in (2, 3):
        raise InputError(f"{path}: gts must hold whole numbers in two or three dimensions; write it again")
    return labels if labels.ndim == 3 else labels[None]


def _load(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Some of a file's arrays. Pickled objects are refused: they could run anything."""
    found: dict[str, NDArray[Any]] = {}
    with unreadable(existing(path), "NPZ"), np.load(path, allow_pickle=False) as file:
        present = set(file.files)
        for name in (*names, *optional):
            if name in present:
                _check_size(path, file, name)
                found[name] = file[name]
    for name in names:
        if name not in found:
            held = ", ".join(sorted(present)) or "nothing"
            raise InputError(
                f"{path} holds {held}, but no {name}; write image, labels and spacing as imgs, gts, spacing"
            )
    return found


def _check_size(path: Path, file: np.lib.npyio.NpzFile, name: str) -> None:
    """Refuse an array that memory cannot take, by its header alone."""
    assert file.zip is not None  # while it is open
    with file.zip.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    require_memory(path, 2.0 * math.prod(shape) * dtype.itemsize)


def find(folder: Path, options: DatasetOptions) -> list[Case]:
    """A case for each NPZ file below a folder; the modality is the first word of its name where that is one.

    Raises:
        InputError: a file is damaged or lacks image or labels.
    """
    cases = []
    for path in sorted(folder.rglob("*.npz")):
        arrays = _load(path, ("imgs",))
        values = [int(value) for value in np.unique(read_labels(path)) if value]
        word = path.stem.partition("_")[0]
        image = arrays["imgs"]
        name = path.relative_to(folder).with_suffix("").as_posix()
        targets = named_targets((path,), options) or (
            targets_from_values((path,), values) if len(values) > 1 else (Target("target", (path,)),)
        )
        kind: CaseKind = "2D" if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3) else "3D"
        cases.append(
            Case(name, path, targets, options.modality or (word if word in _MODALITIES else ""), options.split, kind)
        )
    return cases
