"""The .seg.nrrd file of 3D Slicer.

An NRRD file with one 3D labelmap, or, where segments overlap, several (layers, the fastest axis, of kind "list").
Each segment's name, colour, label, layer and terminology are key/value pairs of the header. The data is gzipped.
ITK writes the layers' axis as kind "vector" and other writers allow ASCII names only, so the header, which is
plain text, is written here.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError
from ..volume import Volume
from .atomic import atomic_path
from .colours import segment_colour
from .guards import require_memory, unreadable
from .itk import quiet, volume_from_image
from .nrrd import OPENING, escaped, type_lines, vector
from .segmented import Segmented, label_type

# What Slicer gives a segment that nobody has classified.
_TAGS = (
    "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Anatomic codes - DICOM master list~^^~^^|"
)


def write(path: Path, session: Segmented, *, overwrite: bool = True) -> None:
    """Write every segment with its name and colour; overlapping segments go to layers of their own; atomic.

    Raises:
        OutputError: the file cannot be written.
    """
    layers, layer_of = _layers(session)
    header = _header(session, layers, layer_of)
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "wb") as stream:
        stream.write(header.encode())
        # mtime 0: the same segmentation gives the same bytes.
        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed:
            for slices in zip(*layers, strict=True):
                packed.write(np.stack(slices, axis=-1).data)  # (J, I, layers)


def read(path: Path) -> tuple[Volume, dict[str, NDArray[np.bool_]]]:
    """The grid and each segment's mask by name, in the file's order.

    Raises:
        InputError: the file cannot be read or holds no segments.
    """
    reader, _ = _open(path)
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) != 3:
        raise InputError(f"{path} has {len(size)} dimensions; a segmentation has three")
    require_memory(path, 4.0 * np.prod(size, dtype=float) * components * 4)
    with unreadable(path, "a segmentation"), quiet():
        image = reader.Execute()
        header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    names = _names(path, header)
    data = sitk.GetArrayFromImage(image).reshape(*size[::-1], components)
    masks: dict[str, NDArray[np.bool_]] = {}
    for number, name in names.items():
        with unreadable(path, "a segmentation"):
            label = int(header[f"Segment{number}_LabelValue"])
            layer = int(header.get(f"Segment{number}_Layer", "0"))
        if not 0 <= layer < components:
            raise InputError(f"{path} is damaged: segment {name!r} is on layer {layer} of {components}")
        masks[name] = data[..., layer] == label
    with unreadable(path, "a segmentation"):
        first = sitk.VectorIndexSelectionCast(image, 0) if components > 1 else image
    return volume_from_image(path, first), masks


def segment_names(path: Path) -> list[str]:
    """Names of the segments in the file's order; its voxels are not read.

    Raises:
        InputError: the file cannot be read or holds no segments.
    """
    return list(_names(path, _open(path)[1]).values())


def _open(path: Path) -> tuple[sitk.ImageFileReader, dict[str, str]]:
    """A reader that has read the header, and its key/value pairs."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with unreadable(path, "a segmentation"), quiet():
        reader.ReadImageInformation()
        return reader, {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _names(path: Path, header: dict[str, str]) -> dict[int, str]:
    """Names by the number that the header gives a segment; of two alike the later one gets a mark."""
    numbers = sorted(int(m[1]) for key in header if (m := re.fullmatch(r"Segment(\d+)_LabelValue", key)))
    if not numbers:
        raise InputError(f"{path} holds no segments of 3D Slicer; read it as a labelmap (.nrrd)")
    names: dict[int, str] = {}
    for number in numbers:
        name = header.get(f"Segment{number}_Name", f"Segment_{number + 1}")
        while name in names.values():
            name += "_"
        names[number] = name
    return names


def _layers(session: Segmented) -> tuple[list[NDArray[Any]], list[int]]:
    """Pack segments into as few labelmaps as a first fit finds, and say on which each lies.

    Returns:
        Labelmaps (K, J, I) in which segment n has label n + 1, and the layer of each segment.
    """
    kind = label_type(len(session.segments))
    layers: list[NDArray[Any]] = []
    layer_of = []
    for number, name in enumerate(session.segments):
        mask = session.mask(name)
        fits = next((n for n, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if fits == len(layers):
            layers.append(np.zeros(session.volume.shape, kind))
        layers[fits][mask] = number + 1
        layer_of.append(fits)
    return layers, layer_of


def _header(session: Segmented, layers: list[NDArray[Any]], layer_of: list[int]) -> str:
    """The NRRD header up to and with the empty line that ends it."""
    volume = session.volume
    k, j, i = volume.shape
    several = len(layers) > 1
    axes = volume.ijk_to_lps[:3, :3].T
    lines = [
        *OPENING,
        *type_lines(layers[0].dtype),
        f"dimension: {4 if several else 3}",
        "space: left-posterior-superior",
        f"sizes: {f'{len(layers)} ' if several else ''}{i} {j} {k}",
        f"space directions: {'none ' if several else ''}{' '.join(vector(axis) for axis in axes)}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "encoding: gzip",
        f"space origin: {vector(np.asarray(volume.origin))}",
    ]
    for number, name in enumerate(session.segments):
        pairs = {
            "ID": f"Segment_{number + 1}",
            "Name": name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{c:g}" for c in segment_colour(number)),
            "ColorAutoGenerated": "1",
            "LabelValue": str(number + 1),
            "Layer": str(layer_of[number]),
            # Slicer cuts a whole layer to the extent of its first segment: give the extent that all share.
            "Extent": f"0 {i - 1} 0 {j - 1} 0 {k - 1}",
            "Tags": _TAGS,
        }
        lines += [f"Segment{number}_{key}:={escaped(value)}" for key, value in pairs.items()]
    # "Master" is the name that every version reads; "Source" replaced it in the interface only.
    lines += [
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ConversionParameters:="
        f"Reference image geometry|{_reference_geometry(volume)}|Image geometry description string determining the "
        "geometry of the labelmap that is created in course of conversion. Can be copied from a volume, using the "
        "button.&",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    return "\n".join(lines) + "\n\n"


def _reference_geometry(volume: Volume) -> str:
    """The image's grid as Slicer serializes it: the IJK to RAS matrix by rows, then the extent."""
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.ijk_to_lps
    k, j, i = volume.shape
    return "".join(f"{v!r};" for v in (*matrix.ravel().tolist(), 0, i - 1, 0, j - 1, 0, k - 1))
