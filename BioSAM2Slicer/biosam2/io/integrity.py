"""Whether a file is whole, where ITK itself does not notice or crashes."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError
from .formats import extension

_HEADER_BYTES = 348  # of NIfTI-1 and Analyze 7.5


def check(path: Path) -> None:
    """Look into a NIfTI or MetaImage file; others are ITK's matter.

    Raises:
        InputError: the file is truncated or damaged.
    """
    kind = extension(path)
    if kind in (".nii", ".nii.gz"):
        _check_nifti(path)
    elif kind in (".hdr", ".img"):
        _check_nifti_pair(path)
    elif kind in (".mha", ".mhd"):
        _check_metaimage(path)


def _check_nifti(path: Path) -> None:
    """Refuse a cut file, which ITK reads without complaint, giving whatever lay in memory; verify gzip's checksum."""
    try:
        opened = gzip.open(path) if extension(path) == ".nii.gz" else open(path, "rb")  # noqa: SIM115 - closed below
        with opened as stream:
            header = stream.read(_HEADER_BYTES)
            length = len(header)
            while chunk := stream.read(1 << 20):
                length += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: it is damaged or truncated ({error})") from None
    if header[344:348] == b"n+1\0":  # otherwise header and data lie in two files
        _check_length(path, header, length)


def _check_nifti_pair(path: Path) -> None:
    """The same for a header and its voxels in two files, NIfTI or Analyze."""
    header, voxels = path.with_suffix(".hdr"), path.with_suffix(".img")
    if not header.is_file() or not voxels.is_file():
        raise InputError(f"cannot read {path}: it takes a .hdr and a .img of the same name; keep the two together")
    with open(header, "rb") as stream:
        _check_length(path, stream.read(_HEADER_BYTES), voxels.stat().st_size)


def _check_length(path: Path, header: bytes, length: int) -> None:
    """Compare what a NIfTI or Analyze header announces with how much there is."""
    if len(header) < _HEADER_BYTES:
        raise InputError(f"cannot read {path}: its header is truncated")
    order = "<" if struct.unpack("<i", header[:4])[0] == _HEADER_BYTES else ">"
    dimensions = struct.unpack(f"{order}8h", header[40:56])
    bits = struct.unpack(f"{order}h", header[72:74])[0]
    offset = struct.unpack(f"{order}f", header[108:112])[0]
    voxels = np.prod([max(n, 1) for n in dimensions[1 : 1 + max(0, min(dimensions[0], 7))]], dtype=float)
    if length < offset + voxels * bits / 8:
        raise InputError(f"cannot read {path}: it is truncated (the header announces more voxels than the file holds)")


def _check_metaimage(path: Path) -> None:
    """Refuse a header that names no data file: ITK takes a damaged name for a pattern and divides by zero."""
    with open(path, "rb") as stream:
        header = stream.read(1 << 16)
    for line in header.split(b"\n"):
        key, _, value = line.partition(b"=")
        if key.strip() == b"ElementDataFile":
            break
    else:
        raise InputError(f"cannot read {path}: it is damaged (its header names no ElementDataFile)")
    name = value.strip().decode(errors="replace")
    if name.upper() == "LOCAL":
        return
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"cannot read {path}: its voxels are spread over several files; convert it to .mha first")
    if not name.isprintable() or not (path.parent / name).is_file():
        raise InputError(f"cannot read {path}: its data file {name[:80]!r} is missing; keep the two together")
