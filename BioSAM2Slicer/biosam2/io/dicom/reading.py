"""DICOM files and folders as volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...volume import Volume
from ..guards import require_memory
from .geometry import FrameGrid, arrange
from .header import Header, read_header
from .pixels import read_pixels
from .series import choose


def read_file(path: Path, *, keep_order: bool = False) -> Volume:
    """Read one file, of one frame or many.

    Args:
        path: the file.
        keep_order: leave frames in the file's order (a video) rather than sorting them by position.

    Returns:
        Frames sorted by position where the file says where they lie; otherwise in the file's order, 1 mm apart.

    Raises:
        InputError: it is damaged, no image, too large, or its frames do not form a regular grid.
        DependencyError: its compression needs a package that is not installed.
    """
    header = read_header(path)
    if header.is_segmentation:
        raise InputError(f"{path} is a DICOM segmentation, not an image; give the image that it belongs to")
    if not header.is_image:
        raise InputError(f"{path} holds no image ({header.kind}); give the image's own file or folder")
    return _volume(path, [header], keep_order)


def read_folder(folder: Path, files: list[Path], series_uid: str | None) -> Volume:
    """Read a series of single-frame files, or the one multi-frame file of a series.

    Raises:
        InputError: no image, several series and none chosen, or slices that do not form one regular grid.
        DependencyError: the compression needs a package that is not installed.
    """
    headers = choose(folder, [read_header(path) for path in files], series_uid)
    multi = [h for h in headers if h.n_frames > 1]
    if multi and len(headers) > 1:
        names = ", ".join(h.path.name for h in multi[:5])
        raise InputError(f"{folder} holds {len(multi)} multi-frame files in one series; give one of them: {names}")
    if len({(h.rows, h.columns, h.samples) for h in headers}) > 1:
        sizes = sorted({(h.columns, h.rows, h.samples): h.path.name for h in reversed(headers)}.items())
        shown = "; ".join(f"{i}×{j}{' in colour' if s == 3 else ''} such as {name}" for (i, j, s), name in sizes[:3])
        raise InputError(f"{folder} mixes sizes of slices ({shown}); keep the slices of one")
    missing = [h.path.name for h in headers if not h.places]
    if missing and len(headers) > 1:
        raise InputError(
            f"{folder}: {len(missing)} of {len(headers)} slices do not say where they lie (ImagePositionPatient), "
            f"for example {missing[0]}; give single files"
        )
    return _volume(folder, headers, False)


def _volume(source: Path, headers: list[Header], keep_order: bool) -> Volume:
    """One volume of all frames of files that agree in size; either all or none say where they lie."""
    first = headers[0]
    # Stored, rescaled (twice as wide), and both again while slices are stacked.
    require_memory(source, 4.0 * sum(h.n_bytes for h in headers))
    places = [place for header in headers for place in header.places]
    n_frames = sum(h.n_frames for h in headers)
    if places and not (keep_order and n_frames > 1):
        one_file = len(headers) == 1
        names = [f"frame {n + 1}" for n in range(n_frames)] if one_file else [h.path.name for h in headers]
        grid = arrange(source, places, names, first.thickness)
    else:
        spacing = places[0].spacing if places else first.pixel_spacing
        grid = FrameGrid(tuple(range(n_frames)), (*spacing, 1.0), (0.0, 0.0, 0.0), np.eye(3))

    metadata: dict[str, Any] = {"source": str(source), "modality": first.modality, "series_uid": first.series_uid}
    if len(headers) == 1:
        array = read_pixels(first)
        if grid.order != tuple(range(n_frames)):
            array = array[list(grid.order)]
        metadata |= {"dicom_files": [str(first.path)], "dicom_frames": list(grid.order)}
    else:
        slices = [read_pixels(headers[n])[0] for n in grid.order]
        if len({s.ndim for s in slices}) > 1:
            raise InputError(f"{source} mixes grey and colour slices; keep those of one kind")
        array = np.stack(slices)
        metadata |= {"dicom_files": [str(headers[n].path) for n in grid.order]}
    metadata["calibrated"] = first.calibrated
    if first.fps:
        metadata["fps"] = first.fps
    if first.times and len(headers) == 1:
        metadata["frame_times"] = [first.times[n] for n in grid.order]
    return Volume(array, grid.spacing, grid.origin, grid.direction, metadata)
