"""The pixels of one DICOM file, decoded, in colour or rescaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder, pixel_array
from pydicom.uid import JPEGBaseline8Bit

from ...errors import DependencyError, InputError
from ..guards import quiet, unreadable
from ..itk import finite
from .header import Header


def read_pixels(header: Header) -> NDArray[Any]:
    """Decode every frame of a file.

    Grey pixels get their rescale slope and intercept or modality table, frame by frame where the file says so;
    MONOCHROME1 is turned round, so that larger is brighter. YBR and palettes become RGB of 8 bits.

    Returns:
        (frames, J, I) or (frames, J, I, 3), uint8.

    Raises:
        InputError: the pixels are damaged or of a kind that is not an image.
        DependencyError: the compression needs a decoder that is not installed.
    """
    path = header.path
    with unreadable(path, "DICOM"), quiet():
        ds = dcmread(path)
        check_decoder(header, ds)
        stored = np.asarray(pixel_array(ds, raw=False, decoding_plugin=_decoder_of(ds)))
        photometric = str(ds.get("PhotometricInterpretation", ""))
        if photometric == "PALETTE COLOR":
            stored = _eight_bits(apply_color_lut(stored, ds)[..., :3], full_scale=True)
        elif header.samples == 3:
            stored = _eight_bits(stored, bits=int(ds.get("BitsStored", header.bits)))
        stored = stored if header.n_frames > 1 else stored[None]
        expected = (header.n_frames, header.rows, header.columns)
        if stored.shape[:3] != expected or stored.shape[3:] not in ((), (3,)):
            raise InputError(f"{path} is damaged: its pixels have shape {stored.shape}, its header says {expected}")
        if stored.ndim == 4:
            return stored
        if photometric == "MONOCHROME1":
            stored = _turned_round(stored, int(ds.get("BitsStored", header.bits)))
        array = _rescaled(ds, stored)
    return finite(path, array)


def check_decoder(header: Header, ds: Dataset) -> None:
    """Say which compression cannot be read, before pydicom fails at length."""
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InputError(
            f"{header.path} is compressed as {syntax.name}, which cannot be read; export it uncompressed or as mp4"
        ) from None
    if not decoder.is_available:
        raise DependencyError(
            f"{header.path} is compressed as {syntax.name}, which needs a decoder: pip install 'biosam2[dicom]'"
        )


def _decoder_of(ds: Dataset) -> str:
    """The decoder by name, empty for the first that is installed.

    gdcm, pydicom's first choice for baseline JPEG, ends the whole process on some damaged pictures.
    """
    return "pillow" if ds.file_meta.TransferSyntaxUID == JPEGBaseline8Bit else ""


def _eight_bits(array: NDArray[Any], *, bits: int = 8, full_scale: bool = False) -> NDArray[np.uint8]:
    """Colours as bytes: the highest eight of `bits`, or of a palette's own 16."""
    if full_scale:
        bits = 8 * array.dtype.itemsize
    return (array >> max(bits - 8, 0)).astype(np.uint8)


def _turned_round(array: NDArray[Any], bits: int) -> NDArray[Any]:
    """MONOCHROME1 shows small values bright."""
    return ~array if array.dtype.kind == "i" else (2**bits - 1 - array).astype(array.dtype)


def _rescaled(ds: Dataset, stored: NDArray[Any]) -> NDArray[Any]:
    """Stored numbers in the modality's units; whole numbers stay whole."""
    if "ModalityLUTSequence" in ds:
        return apply_modality_lut(stored, ds)
    slopes, intercepts = _rescaling(ds, len(stored))
    if np.all(slopes == 1) and np.all(intercepts == 0):
        return stored
    if stored.dtype.kind in "iu" and np.all(slopes == 1) and np.all(intercepts == np.rint(intercepts)):
        whole = stored.astype(np.int64) + intercepts.astype(np.int64)[:, None, None]
        fits = np.iinfo(np.int16).min <= whole.min() and whole.max() <= np.iinfo(np.int16).max
        return whole.astype(np.int16 if fits else np.int32)
    return (stored * slopes[:, None, None] + intercepts[:, None, None]).astype(np.float32)


def _rescaling(ds: Dataset, n_frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and intercept of each frame."""
    frames = ds.get("PerFrameFunctionalGroupsSequence") or [ds] * n_frames
    shared = (ds.get("SharedFunctionalGroupsSequence") or [None])[0]
    pairs = []
    for frame in frames[:n_frames]:
        sources = [s.get("PixelValueTransformationSequence") for s in (frame, shared) if s is not None]
        group = next((s[0] for s in sources if s), ds)
        pairs.append((float(group.get("RescaleSlope") or 1), float(group.get("RescaleIntercept") or 0)))
    slopes, intercepts = np.array(pairs).T
    return slopes, intercepts
