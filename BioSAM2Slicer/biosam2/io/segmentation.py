"""Segmentations: what a session found, in the format that the file's name asks for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputError
from ..volume import Volume
from .formats import SEGMENTATION, SEQUENCE, extension
from .grid import difference, same_grid
from .guards import existing
from .segmented import Segmented, label_type, labelmap_of

LABELMAP = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
WRITABLE = ".seg.nrrd (3D Slicer), .nrrd .nii .nii.gz .mha .mhd (labelmap), .dcm (DICOM SEG), .seq.nrrd (of a video)"


def write_segmentation(path: str | os.PathLike[str], session: Segmented, *, overwrite: bool = True) -> None:
    """Write every segment of a session; atomic.

    Args:
        path: the extension says the format: .seg.nrrd keeps names, colours and overlaps; .nrrd, .nii, .nii.gz, .mha
            and .mhd hold a labelmap; .dcm is a DICOM SEG and needs an image that came from DICOM; .seq.nrrd is a
            sequence of labelmaps, one for each frame (slice k) of a video.
        session: the segments and their volume.
        overwrite: whether an earlier file of that name may be replaced.

    Raises:
        OutputError: unknown extension, or the file cannot be written.
        InputError: there is no segment, or a DICOM SEG is asked for an image that is not DICOM.
        DependencyError: highdicom, which writes DICOM SEG, is not installed.
    """
    target = Path(path).expanduser()
    if not session.segments:
        raise InputError(f"nothing to write to {target}: there is no segment yet")
    kind = extension(target)
    if kind == ".seg.nrrd":
        from . import seg_nrrd

        seg_nrrd.write(target, session, overwrite=overwrite)
    elif kind in (".dcm", ".seg.dcm"):
        from .dicom import seg

        seg.write(target, session, overwrite=overwrite)
    elif kind == SEQUENCE:
        from . import sequence

        sequence.write(target, session, overwrite=overwrite)
    elif kind in LABELMAP:
        write_labelmap(target, session.volume, session.labelmap(), overwrite=overwrite)
    else:
        raise OutputError(f"cannot write a segmentation as {target.name}; known are {WRITABLE}")


def write_labelmap(
    path: str | os.PathLike[str], volume: Volume, array: NDArray[Any], *, overwrite: bool = True
) -> None:
    """Write labels on the grid of a volume, uint8 where they fit and uint16 otherwise; atomic.

    Args:
        path: .nrrd, .nhdr, .nii, .nii.gz, .mha or .mhd.
        volume: the image whose grid the labels lie on.
        array: bool or whole numbers from 0 to 65535, shape (K, J, I).
        overwrite: whether an earlier file of that name may be replaced.

    Raises:
        InputError: the labels are not whole numbers in range, or lie on another grid.
        OutputError: unknown extension, or the file cannot be written.
    """
    from . import itk

    target = Path(path).expanduser()
    if extension(target) not in LABELMAP:
        raise OutputError(f"cannot write a labelmap as {target.name}; known are {' '.join(LABELMAP)}")
    if array.ndim != 3 or array.dtype.kind not in "bui" or array.min() < 0 or array.max() > 65535:
        raise InputError("a labelmap holds whole numbers from 0 to 65535 in three dimensions")
    itk.write(target, volume.with_array(array.astype(label_type(int(array.max())))), overwrite=overwrite)


def read_labelmap(path: str | os.PathLike[str], like: Volume | None = None) -> Volume:
    """Read labels: a labelmap of any volume format, a picture, or a .seg.nrrd (labels in order of its segments).

    Args:
        path: the file.
        like: the image that the labels belong to.

    Returns:
        Volume of uint8 or uint16.

    Raises:
        InputError: the file cannot be read, holds colours or broken numbers, or lies on another grid than `like`.
    """
    from .reading import read_volume

    source = existing(path)
    if extension(source) in SEGMENTATION:
        grid, masks = read_segmentation(source)
        array = labelmap_of(grid.shape, masks, masks.__getitem__)
    else:
        grid = read_volume(source)
        array = _labels(source, grid)
    labels = grid.with_array(array)
    if like is not None and not same_grid(like, labels):
        raise InputError(f"{source} does not lie on the image's voxels: {difference(like, labels)}; resample it first")
    return labels


def read_segmentation(path: str | os.PathLike[str]) -> tuple[Volume, dict[str, NDArray[np.bool_]]]:
    """Read a .seg.nrrd of 3D Slicer or of `write_segmentation`.

    Returns:
        The grid (a Volume of the first layer's labels) and each segment's mask, bool (K, J, I), by name, in order.

    Raises:
        InputError: the file cannot be read or holds no segments.
    """
    from . import seg_nrrd

    return seg_nrrd.read(existing(path))


def _labels(path: Path, volume: Volume) -> NDArray[Any]:
    array = volume.array
    if volume.is_colour:
        raise InputError(f"{path} holds colours, not labels; give a labelmap of whole numbers")
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(f"{path} holds broken numbers, not labels; give a labelmap of whole numbers")
    if array.min() < 0 or array.max() > 65535:
        raise InputError(f"{path} holds labels from {array.min():g} to {array.max():g}; labels are 0 to 65535")
    return array.astype(label_type(int(array.max())))
