"""Reading images, volumes and videos: find out what a file is and hand it to the module that knows."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from ..volume import Volume
from .formats import DICOM, MOVIE, PICTURE, SEGMENTATION, SEQUENCE, extension, is_dicom
from .guards import existing


def read_volume(path: str | os.PathLike[str], series_uid: str | None = None) -> Volume:
    """Read a volume.

    Args:
        path: NRRD, NIfTI, MetaImage or whatever else SimpleITK reads; a DICOM file; a folder of DICOM slices, or of
            pictures in natural order of their names; a picture (one slice, or a TIFF's pages).
        series_uid: which series, where a DICOM folder holds several (SeriesInstanceUID).

    Returns:
        The volume: grey (K, J, I) or colour (K, J, I, 3). DICOM slices are sorted by position and rescaled.

    Raises:
        InputError: the file cannot be used; the message says why and what to do.
        DependencyError: a DICOM file's compression needs a package that is not installed.
    """
    source = existing(path)
    kind = extension(source)
    if source.is_dir():
        return _read_folder(source, series_uid)
    if kind in MOVIE or kind == SEQUENCE:
        raise InputError(f"{source} is a video; use read_video (command line: biosam2 video)")
    if kind in SEGMENTATION:
        raise InputError(f"{source} is a segmentation, not an image; give it as a mask, or give the image itself")
    if kind in PICTURE:
        from . import pictures

        return pictures.read(source)
    if kind in DICOM or is_dicom(source):
        from . import dicom

        return dicom.read_file(source)
    from . import itk

    return itk.read(source)


def read_image(path: str | os.PathLike[str]) -> Volume:
    """Read one image, grey or RGB: a picture, a DICOM file of one frame, or a volume file of one slice.

    Returns:
        Volume with K = 1. A picture's voxels count as 1 mm; a photograph is turned upright by its EXIF orientation.

    Raises:
        InputError: the file cannot be used, or holds several slices or frames.
        DependencyError: a DICOM file's compression needs a package that is not installed.
    """
    volume = read_volume(path)
    if volume.shape[0] != 1:
        raise InputError(
            f"{path} holds {volume.shape[0]} slices; read it as a volume (biosam2 segment) or a video (biosam2 video)"
        )
    return volume


def read_video(path: str | os.PathLike[str], slice_index: int | None = None) -> Volume:
    """Read a video: a file (mp4, avi …), a folder of pictures, a DICOM cine, or a sequence of 3D Slicer (.seq.nrrd).

    The pictures of a folder are in natural order of their names (frame2 before frame10).

    Args:
        path: the file or folder.
        slice_index: of a sequence of volumes the slice k that is followed; others have none to choose.

    Returns:
        Volume with K = frames; metadata["fps"] is the frame rate and metadata["frame_times"] the seconds of each
        frame where the file says them; metadata["calibrated"] is False where a pixel's size is not known.

    Raises:
        InputError: the file cannot be used; frames differ in size.
        DependencyError: PyAV, which reads videos, is not installed.
    """
    source = existing(path)
    if extension(source) == SEQUENCE:
        from . import sequence

        return sequence.read(source, slice_index)
    if slice_index is not None:
        raise InputError(f"{source} is no sequence of volumes, of which one slice could be chosen; leave the slice out")
    if source.is_dir():
        return _read_folder(source, None)
    if extension(source) in MOVIE:
        from . import movies

        return movies.read(source)
    if extension(source) in DICOM or is_dicom(source):
        from . import dicom

        return dicom.read_file(source, keep_order=True)
    return read_volume(source)


def _read_folder(folder: Path, series_uid: str | None) -> Volume:
    """A folder of DICOM files or, where there is none, of pictures."""
    # A link that leads nowhere may have been a slice: let it be named rather than left out.
    found = (p for p in folder.rglob("*") if p.is_file() or (p.is_symlink() and not p.exists()))
    files = sorted(p for p in found if not p.name.startswith("."))
    slices = [p for p in files if is_dicom(p)]
    if slices:
        from . import dicom

        return dicom.read_folder(folder, slices, series_uid)
    frames = [p for p in folder.iterdir() if extension(p) in PICTURE and not p.name.startswith(".")]
    if frames:
        from . import pictures

        return pictures.read_frames(folder, frames)
    if not files:
        raise InputError(f"the folder {folder} is empty; give a folder of DICOM slices or pictures")
    raise InputError(f"the folder {folder} holds neither DICOM slices nor pictures; give one of its files")
