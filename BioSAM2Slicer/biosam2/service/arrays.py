"""Arrays as bytes and back: a short description, and data that unfolds to no more than the description says."""

from __future__ import annotations

import math
import zlib
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import ProtocolError

Buffer: TypeAlias = bytes | bytearray | memoryview

_DIMENSIONS = 4
# By name, not by numpy's own parser, which knows object and structured types too.
_TYPES = {
    name: np.dtype(name) for name in ("bool", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
# Fast; masks shrink to a few hundred bytes, CT to a half.
_LEVEL = 1


class Description(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the bytes of an array mean.

    Attributes:
        dtype: little-endian; ``bool`` is sent as bits.
        shape: up to four lengths, each at least 1.
        deflated: whether the bytes are a zlib stream.
        size: how many bytes there are.
    """

    dtype: str
    shape: tuple[int, ...]
    deflated: bool
    size: int

    @property
    def decoded(self) -> int:
        """Bytes of the array in memory.

        Raises:
            ProtocolError: no such type or shape.
        """
        dtype = dtype_of(self.dtype)
        if not 1 <= len(self.shape) <= _DIMENSIONS or min(self.shape) < 1 or self.size < 0:
            raise ProtocolError("an array has a shape that cannot be")
        return math.prod(self.shape) * dtype.itemsize


def type_name(dtype: np.dtype) -> str:
    """The name under which arrays of a type travel.

    Raises:
        ProtocolError: they do not.
    """
    name = _NAMES.get(dtype.newbyteorder("<"))
    if name is None:
        raise ProtocolError(f"arrays of type {dtype} cannot be sent")
    return name


def dtype_of(name: str) -> np.dtype:
    """The type that travels under a name.

    Raises:
        ProtocolError: there is none.
    """
    if name not in _TYPES:
        raise ProtocolError(f"there is no array type {name[:16]!r}")
    return _TYPES[name]


def pack(array: NDArray[Any], deflate: bool) -> tuple[Description, bytes | memoryview]:
    """An array as bytes, and their description.

    Args:
        array: at least one-dimensional, not empty.
        deflate: whether to compress; bits always are.
    """
    name = type_name(array.dtype)
    shape = array.shape
    if name == "bool":
        array, deflate = np.packbits(array), True
    else:
        array = np.ascontiguousarray(array, dtype=_TYPES[name])
    data: bytes | memoryview = array.reshape(-1).view(np.uint8).data
    if deflate:
        data = zlib.compress(data, _LEVEL)
    return Description(name, shape, deflate, len(data)), data


def unpack(description: Description, data: Buffer) -> NDArray[Any]:
    """The array that `pack` described; its `decoded` bytes must have been allowed by the caller.

    Raises:
        ProtocolError: description and bytes do not belong together.
    """
    dtype = _TYPES[description.dtype]
    count = math.prod(description.shape)
    size = (count + 7) // 8 if description.dtype == "bool" else count * dtype.itemsize
    if description.deflated:
        unfold = zlib.decompressobj()
        try:
            data = unfold.decompress(data, size + 1)
        except zlib.error as error:
            raise ProtocolError(f"an array's bytes are damaged ({error})") from error
        if not unfold.eof or unfold.unused_data:
            raise ProtocolError("an array's bytes do not end where they should")
    if memoryview(data).nbytes != size:
        raise ProtocolError(f"an array has {memoryview(data).nbytes} bytes where its shape needs {size}")
    if description.dtype == "bool":
        return np.unpackbits(np.frombuffer(data, np.uint8), count=count).view(bool).reshape(description.shape)
    return np.frombuffer(data, dtype).reshape(description.shape)
