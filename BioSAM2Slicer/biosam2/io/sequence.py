"""The .seq.nrrd file of 3D Slicer: one image for each frame of a video, or one labelmap.

An NRRD file of four dimensions, the slowest of them of kind "list", whose label, unit and values (``axis 3 index
values``) say which frame is when; ``DataNodeClassName`` says what Slicer makes of a frame. It is what Slicer's
vtkMRMLVolumeSequenceStorageNode reads and writes.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..volume import Volume
from .atomic import atomic_path
from .colours import segment_colour
from .guards import require_memory, unreadable
from .itk import quiet, volume_from_image
from .nrrd import OPENING, escaped, type_lines, vector
from .segmented import Segmented
from .times import frame_times, rate_of

_UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3}
"""Seconds in the units that an axis of time may have."""


def write(path: Path, session: Segmented, *, overwrite: bool = True) -> None:
    """Write a labelmap for each frame (slice k); atomic.

    A frame lies where the volume's slice 0 lies, one voxel thick. Names and colours of the segments are keys of the
    header, as in a .seg.nrrd; Slicer keeps them as attributes of the sequence.

    Args:
        path: .seq.nrrd.
        session: segments and frames; of overlapping segments the later one counts.
        overwrite: whether an earlier file of that name may be replaced.

    Raises:
        InputError: there is no segment.
        OutputError: the file cannot be written.
    """
    if not session.segments:
        raise InputError(f"nothing to write to {path}: there is no segment yet")
    labels = session.labelmap()
    header = _header(session, labels.dtype)
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "wb") as stream:
        stream.write(header.encode())
        # mtime 0: the same masks give the same bytes.
        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed:
            for frame in labels:
                packed.write(np.ascontiguousarray(frame).data)


def read(path: Path) -> Volume:
    """Read a sequence of single slices as a video.

    Returns:
        Volume (K, J, I) with K = frames; metadata["frame_times"] are their seconds where the file says them.

    Raises:
        InputError: it is damaged, in colour, no sequence, or its frames have several slices.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with unreadable(path, "a sequence"), quiet():
        reader.ReadImageInformation()
        header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
        size, frames = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) != 3 or header.get("NRRD_kinds[pixel]") != "list":
        raise InputError(f"{path} is no sequence of grey images; export its frames from 3D Slicer as pictures")
    if size[2] != 1:
        raise InputError(f"{path} holds {size[2]} slices in each of {frames} frames; a video has one")
    require_memory(path, 4.0 * np.prod(size, dtype=float) * frames * 4)
    with unreadable(path, "a sequence"), quiet():
        image = reader.Execute()
        array = sitk.GetArrayFromImage(image).reshape(size[1], size[0], frames)
        first = sitk.VectorIndexSelectionCast(image, 0) if frames > 1 else image
        values = [float(value) for value in header.get("axis 3 index values", "").split()]
    place = volume_from_image(path, first)
    unit = _UNITS.get(header.get("NRRD_units[pixel]", ""))
    metadata: dict[str, Any] = {"source": str(path)}
    if unit and len(values) == frames and np.isfinite(values).all() and (np.diff(values) > 0).all():
        metadata["frame_times"] = [(value - values[0]) * unit for value in values]
        if rate := rate_of(np.array(metadata["frame_times"])):
            metadata["fps"] = rate
    return Volume(np.moveaxis(array, -1, 0).copy(), place.spacing, place.origin, place.direction, metadata)


def _header(session: Segmented, dtype: np.dtype) -> str:
    """The NRRD header up to and with the empty line that ends it."""
    volume = session.volume
    frames, rows, columns = volume.shape
    axes = volume.ijk_to_lps[:3, :3].T
    times = frame_times(volume)
    values = range(frames) if times is None else (f"{time:.6f}".rstrip("0").rstrip(".") for time in times)
    lines = [
        *OPENING,
        *type_lines(dtype),
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {columns} {rows} 1 {frames}",
        f"space directions: {' '.join(vector(axis) for axis in axes)} none",
        "kinds: domain domain domain list",
        f'labels: "" "" "" "{"frame" if times is None else "time"}"',
        *([] if times is None else ['units: "" "" "" "s"']),
        "encoding: gzip",
        f"space origin: {vector(np.asarray(volume.origin))}",
        "DataNodeClassName:=vtkMRMLLabelMapVolumeNode",
        "axis 3 index type:=numeric",
        f"axis 3 index values:={' '.join(map(str, values))}",
    ]
    for number, name in enumerate(session.segments):
        lines += [
            f"Segment{number}_Name:={escaped(name)}",
            f"Segment{number}_LabelValue:={number + 1}",
            f"Segment{number}_Color:={' '.join(f'{c:g}' for c in segment_colour(number))}",
        ]
    return "\n".join(lines) + "\n\n"
