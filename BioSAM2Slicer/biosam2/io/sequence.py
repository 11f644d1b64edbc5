"""The .seq.nrrd file of 3D Slicer: one image, or one labelmap, for each frame of a video.

An NRRD file of four dimensions, the slowest of them of kind "list", whose label, unit and values (``axis 3 index
values``) say which frame is when; ``DataNodeClassName`` says what Slicer makes of a frame. It is what Slicer's
vtkMRMLVolumeSequenceStorageNode reads and writes.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..volume import Volume
from .atomic import atomic_path
from .colours import segment_colours
from .guards import require_memory, unreadable
from .itk import quiet, volume_from_image
from .nrrd import OPENING, escaped, type_lines, vector
from .segmented import Segmented
from .times import frame_times, metadata_of_index


def write(
    path: Path,
    session: Segmented,
    *,
    colours: Sequence[tuple[float, float, float]] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a labelmap for each frame (slice k); atomic.

    A frame lies where the volume's slice 0 lies, one voxel thick. Names and colours of the segments are keys of the
    header, as in a .seg.nrrd; Slicer keeps them as attributes of the sequence.

    Args:
        path: .seq.nrrd.
        session: segments and frames; of overlapping segments the later one counts.
        colours: of the segments, red, green and blue, 0 to 1; None for those of `biosam2.io.colours`.
        overwrite: whether an earlier file of that name may be replaced.

    Raises:
        InputError: there is no segment.
        OutputError: the file cannot be written.
    """
    if not session.segments:
        raise InputError(f"nothing to write to {path}: there is no segment yet")
    labels = session.labelmap()
    header = _header(session, labels.dtype, colours or segment_colours(len(session.segments)))
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "wb") as stream:
        stream.write(header.encode())
        # mtime 0: the same masks give the same bytes.
        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed:
            for frame in labels:
                packed.write(np.ascontiguousarray(frame).data)


def read(path: Path, slice_index: int | None = None) -> Volume:
    """Read a sequence as a video: frames of one slice, or one slice of a sequence of volumes.

    Args:
        path: .seq.nrrd, grey or in colour.
        slice_index: which slice k of each frame; needed where frames have several.

    Returns:
        Volume (K, J, I) or (K, J, I, 3) with K = frames, where that slice lies; metadata["frame_times"] are their
        seconds where the file says them.

    Raises:
        InputError: it is damaged or no sequence, or its frames have several slices and none is chosen.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with unreadable(path, "a sequence"), quiet():
        reader.ReadImageInformation()
        header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
        size, components = reader.GetSize(), reader.GetNumberOfComponents()
    # The list is what ITK takes for a voxel's components, or in colour for a fourth dimension.
    grey = len(size) == 3 and header.get("NRRD_kinds[pixel]") == "list"
    colour = len(size) == 4 and header.get("NRRD_kinds[3]") == "list" and components in (1, 3, 4)
    if not (grey or colour):
        raise InputError(f"{path} is no sequence of images; export its frames from 3D Slicer as pictures")
    frames = components if grey else size[3]
    k = _chosen_slice(path, slice_index, size[2], frames)
    require_memory(path, 4.0 * np.prod(size, dtype=float) * components * 4)
    with unreadable(path, "a sequence"), quiet():
        image = reader.Execute()
        array = sitk.GetArrayFromImage(image)
        if grey:
            array = np.moveaxis(array.reshape(*size[::-1], frames), -1, 0)
            place = sitk.VectorIndexSelectionCast(image, 0) if frames > 1 else image
        else:
            array = array.reshape(*size[::-1], components)[..., :3]
            array = array[..., 0] if components == 1 else array
            reader.SetExtractSize([*size[:3], 0])
            place = reader.Execute()
            place = sitk.VectorIndexSelectionCast(place, 0) if components > 1 else place
    grid = volume_from_image(path, place)
    metadata: dict[str, Any] = {"source": str(path)}
    values = header.get("axis 3 index values", "").split()
    if len(values) == frames:
        metadata |= metadata_of_index(values, header.get("NRRD_units[pixel]" if grey else "NRRD_units[3]", ""))
    origin = grid.lps_from_ijk(np.array([[0.0, 0.0, k]]))[0]
    return Volume(array[:, k].copy(), grid.spacing, tuple(origin.tolist()), grid.direction, metadata)


def _chosen_slice(path: Path, slice_index: int | None, slices: int, frames: int) -> int:
    """The slice that is followed.

    Raises:
        InputError: there are several and none is chosen, or there is no such slice.
    """
    if slice_index is None and slices > 1:
        raise InputError(
            f"{path} holds {slices} slices in each of {frames} frames; choose the one to follow (--slice, 0 to "
            f"{slices - 1})"
        )
    if slice_index is not None and not 0 <= slice_index < slices:
        raise InputError(f"{path} has no slice {slice_index}; its slices are 0 to {slices - 1}")
    return slice_index or 0


def _header(session: Segmented, dtype: np.dtype, colours: Sequence[tuple[float, float, float]]) -> str:
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
            f"Segment{number}_Color:={' '.join(f'{c:g}' for c in colours[number])}",
        ]
    return "\n".join(lines) + "\n\n"
