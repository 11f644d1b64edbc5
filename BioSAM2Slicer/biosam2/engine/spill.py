"""Tensors that lie in a temporary file instead of in memory, and are read when they are used."""

from __future__ import annotations

import math
import mmap
import tempfile
import warnings
from dataclasses import dataclass

import torch

_BLOCK_BYTES = 8 * 1024**2
_ZEROS = bytes(64 * 1024)


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor's place in a temporary file. Small, where a mapped tensor is not: its parts tear holes into the heap."""

    block: mmap.mmap
    offset: int
    size: int
    dtype: torch.dtype
    # Axes of the tensor, from the slowest to the fastest; and its extents in that order.
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def tensor(self) -> torch.Tensor:
        """The tensor itself, on the CPU, mapped from the file."""
        values = torch.frombuffer(self.block, dtype=self.dtype, count=math.prod(self.shape), offset=self.offset)
        return values.view(self.shape).permute([self.order.index(d) for d in range(len(self.order))])

    def rest(self) -> None:
        """Let its pages leave memory."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.block.madvise(mmap.MADV_DONTNEED, self.offset, self.size)


class Spill:
    """Keeps tensors in temporary files that go when the last tensor in them goes.

    Files are mapped into memory: a tensor's pages leave memory once it is stored, and come back when it is read.
    """

    def __init__(self) -> None:
        self._block: mmap.mmap | None = None
        self._used = 0
        self._reason: str | None = None

    def store(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same values on the CPU, in the file; in memory where there is no room on the disk, which is told once."""
        possible = self._reason is None
        stored = self.place(tensor)
        if stored is not None:
            return stored.tensor()
        if possible:
            warnings.warn(
                f"results are kept in memory, because no temporary file can be written ({self._reason})",
                RuntimeWarning,
                stacklevel=2,
            )
        return tensor.detach().to("cpu", copy=True)

    def place(self, tensor: torch.Tensor) -> Stored | None:
        """Where the tensor's values lie from now on; None where there is no room on the disk."""
        # As the values lie in memory: another layout would be multiplied in another order.
        order = tuple(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))
        values = tensor.detach().to("cpu").permute(order)
        size = values.numel() * values.element_size()
        # Whole pages, so that one tensor's can leave memory without another's.
        room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if self._block is None or self._used + room > len(self._block):
            self._block = self._new_block(max(_BLOCK_BYTES, room)) if self._reason is None else None
            self._used = 0
        if self._block is None:
            return None
        stored = Stored(self._block, self._used, room, values.dtype, order, tuple(values.shape))
        stored.tensor().copy_(tensor)
        stored.rest()
        self._used += room
        return stored

    def _new_block(self, size: int) -> mmap.mmap | None:
        try:
            with tempfile.TemporaryFile(prefix="biosam2-") as file:
                # Written, not only sized: a full disk must be noticed here, where it is an exception.
                for begin in range(0, size, len(_ZEROS)):
                    file.write(_ZEROS[: size - begin])
                file.flush()
                return mmap.mmap(file.fileno(), size)
        except OSError as error:
            self._reason = error.strerror
            return None
