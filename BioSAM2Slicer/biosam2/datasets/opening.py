"""A case's files as a volume and the masks of its targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DependencyError, InputError
from ..io import read_labelmap, read_video, read_volume
from ..io.formats import DICOM, PICTURE, SEGMENTATION, extension, is_dicom
from ..io.grid import difference, placed
from ..masks import numbered_pieces
from ..volume import Volume
from . import label_pictures, npz
from .case import COLOUR, Case, Sample, Target

Bools = NDArray[np.bool_]
# Whether a voxel has one of some values; none of them stands for every value but 0.
Marked = Callable[[tuple[int, ...]], Bools]


def open_case(case: Case) -> Sample:
    """Read the image of a case and its labels.

    Args:
        case: of a dataset.

    Returns:
        The image, and a mask of the same shape for each target.

    Raises:
        InputError: a file cannot be read, or a label lies elsewhere than the image; the message names the case.
        DependencyError: a DICOM file's compression, or a video, needs a package that is not installed.
    """
    try:
        volume = _image(case)
        masks = _masks(case, volume)
    except DependencyError as error:
        raise DependencyError(f"case {case.name}: {error}") from error
    except InputError as error:
        raise InputError(f"case {case.name}: {error}") from error
    return Sample(case, volume, masks)


def _image(case: Case) -> Volume:
    if extension(case.image) == ".npz":
        return npz.read_image(case.image)
    if case.channel is not None:
        from ..io import itk

        return itk.read_channel(case.image, case.channel)
    volume = read_video(case.image) if case.kind == "video" else read_volume(case.image, case.series or None)
    if case.kind == "2D" and volume.shape[0] != 1:
        raise InputError(f"{case.image} holds {volume.shape[0]} slices, not one; it is not 2D")
    return volume


def _masks(case: Case, volume: Volume) -> dict[str, Bools]:
    """The mask of each target, bool (K, J, I)."""
    known: dict[Path, Marked] = {}
    # Of what is taken apart, the pieces by number.
    numbered: dict[Target, NDArray[np.int32]] = {}
    masks = {}
    for target in case.targets:
        if target.piece is None:
            masks[target.name] = _mask(target, case, volume, known)
            continue
        whole = replace(target, name="", piece=None)
        if whole not in numbered:
            numbered[whole] = numbered_pieces(_mask(target, case, volume, known))
        masks[target.name] = numbered[whole] == target.piece
    return masks


def _mask(target: Target, case: Case, volume: Volume, known: dict[Path, Marked]) -> Bools:
    found = np.zeros(volume.shape, bool)
    for path in target.labels:
        if path not in known:
            known[path] = _marked(path, case, volume)
        found |= known[path](target.values)
    return found


def _marked(path: Path, case: Case, volume: Volume) -> Marked:
    """What a label file says of the volume's voxels.

    Raises:
        InputError: the file cannot be read, or lies elsewhere.
    """
    kind = extension(path)
    if kind in SEGMENTATION:
        from ..io import read_segmentation

        grid, segments = read_segmentation(path)
        on_image: dict[int, Bools] = {}
        for number, mask in enumerate(segments.values(), start=1):
            moved = placed(volume, grid, mask)
            if moved is None:
                raise _elsewhere(path, volume, grid)
            on_image[number] = moved
        return _of_segments(on_image, volume)
    if kind in DICOM or kind == ".seg.dcm" or (path.is_file() and not kind and is_dicom(path)):
        from ..io.dicom import seg

        return _of_segments({number: mask for number, (_, mask) in seg.read(path, volume).items()}, volume)
    if kind == ".npz":
        array = npz.read_labels(path)
    elif path.is_dir() or kind in (*PICTURE, ".gif"):
        array = label_pictures.read(path, _in_colours(path, case))
    else:
        array = read_labelmap(path, like=volume).array
    if array.shape != volume.shape:
        raise _elsewhere(path, volume, Volume(array, volume.spacing, volume.origin, volume.direction))
    return lambda values: np.isin(array, values) if values else array != 0


def _in_colours(path: Path, case: Case) -> bool:
    """Whether the values that are asked for in a label file are colours."""
    values = {value for target in case.targets if path in target.labels for value in target.values}
    return any(value >= COLOUR for value in values)


def _of_segments(segments: dict[int, Bools], volume: Volume) -> Marked:
    def marked(values: tuple[int, ...]) -> Bools:
        chosen = [mask for number, mask in segments.items() if not values or number in values]
        return np.logical_or.reduce(chosen) if chosen else np.zeros(volume.shape, bool)

    return marked


def _elsewhere(path: Path, volume: Volume, label: Volume) -> InputError:
    return InputError(
        f"the label {path} does not lie on the image's voxels: {difference(volume, label)}; "
        "resample it to the image, or correct the manifest"
    )
