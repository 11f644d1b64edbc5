"""A volume on its way to a server: its header, its hash, and its voxels as frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..volume import Volume
from . import arrays
from . import messages as m
from .framing import encode

# Bytes of voxels in one frame.
CHUNK = 4 << 20


def geometry_of(volume: Volume) -> dict[str, Any]:
    """A volume's geometry as messages tell it: spacing, origin and direction."""
    rows = tuple(tuple(float(v) for v in row) for row in volume.direction)
    return {"spacing": volume.spacing, "origin": volume.origin, "direction": rows}


def header_of(volume: Volume) -> m.VolumeHeader:
    """What is told of a volume: voxels' type, shape and geometry, and nothing of the patient's.

    Raises:
        ProtocolError: voxels of a type that cannot be sent.
    """
    return m.VolumeHeader(
        dtype=arrays.type_name(volume.array.dtype),
        shape=list(volume.array.shape),
        **geometry_of(volume),
    )


def volume_id(volume: Volume) -> str:
    """SHA-256 of geometry and voxels, in lower-case hex."""
    digest = begin_hash(header_of(volume))
    for piece in _pieces(volume):
        digest.update(piece.data)
    return digest.hexdigest()


def upload(volume: Volume) -> Iterator[tuple[bytes, float]]:
    """The volume as frames, each with the fraction that has been sent when it has."""
    yield encode(header_of(volume)), 0.0
    sent = 0
    for piece in _pieces(volume):
        sent += piece.size
        yield encode(m.Chunk(data=piece), deflate=True), sent / volume.array.nbytes


def _pieces(volume: Volume) -> Iterator[np.ndarray]:
    """The voxels' bytes in C order, little-endian, some megabytes at a time."""
    plane = max(1, volume.array[0].nbytes)
    step = max(1, CHUNK // plane)
    little = volume.array.dtype.newbyteorder("<")
    for k in range(0, len(volume.array), step):
        flat = np.ascontiguousarray(volume.array[k : k + step], dtype=little).reshape(-1).view(np.uint8)
        for start in range(0, flat.size, CHUNK):
            yield flat[start : start + CHUNK]


def begin_hash(header: m.VolumeHeader) -> hashlib._Hash:
    """The hash of a volume, with its geometry taken in and its voxels still to come."""
    geometry = [*header.spacing, *header.origin, *(v for row in header.direction for v in row)]
    text = f"{header.dtype} {header.shape} {' '.join(float(v).hex() for v in geometry)}\n"
    return hashlib.sha256(text.encode())
