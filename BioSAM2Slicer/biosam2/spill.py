"""Tensors that lie in a temporary file instead of in memory, and are read where they are looked at."""

from __future__ import annotations

import mmap
import tempfile
import warnings

import torch

_BLOCK_BYTES = 8 * 1024**2


class Spill:
    """Keeps float32 tensors in temporary files that go when the last tensor in them goes.

    Files are mapped into memory: a tensor's pages leave memory once it is stored, and come back when it is read.
    Where there is no room on the disk, tensors stay in memory.
    """

    def __init__(self) -> None:
        self._block: mmap.mmap | None = None
        self._used = 0
        self._possible = True

    def store(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same values, float32 on the CPU, in the file."""
        values = tensor.detach().to("cpu", torch.float32)
        size = values.numel() * values.element_size()
        # Whole pages, so that one tensor's can leave memory without another's.
        room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if self._block is None or self._used + room > len(self._block):
            self._block = self._new_block(max(_BLOCK_BYTES, room)) if self._possible else None
            self._used = 0
        if self._block is None:
            return values.clone()
        stored = torch.frombuffer(self._block, dtype=torch.float32, count=values.numel(), offset=self._used)
        stored = stored.view(values.shape)
        stored.copy_(values)
        if hasattr(mmap, "MADV_DONTNEED"):
            self._block.madvise(mmap.MADV_DONTNEED, self._used, room)
        self._used += room
        return stored

    def _new_block(self, size: int) -> mmap.mmap | None:
        try:
            with tempfile.TemporaryFile(prefix="biosam2-") as file:
                # Written, not only sized: a full disk must be noticed here, where it is an exception.
                file.write(bytes(size))
                file.flush()
                return mmap.mmap(file.fileno(), size)
        except OSError as error:
            warnings.warn(
                f"results are kept in memory, because no temporary file can be written ({error.strerror})",
                RuntimeWarning,
                stacklevel=2,
            )
            self._possible = False
            return None
