"""Encoded frames, kept within budgets of memory and disk so that a second look at a slice costs no second encoding."""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import torch

from .spill import Spill, Stored

DEFAULT_BUDGET = 2 * 1024**3
DEFAULT_DISK = 8 * 1024**3
# Of the disk that temporary files lie on, at most this share of what is free when the cache is made.
_FREE_SHARE = 0.25


@dataclass(frozen=True)
class EncodedFrame:
    """What the image encoder made of one frame region, for a batch of one.

    Attributes:
        coarse: (1, C, S/16, S/16), what memory attention and the mask decoder start from.
        fine: (1, C/8, S/4, S/4) and (1, C/4, S/8, S/8), what the mask decoder sharpens its mask with.
    """

    coarse: torch.Tensor
    fine: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in (self.coarse, *self.fine))


@dataclass(frozen=True, slots=True)
class _StoredFrame:
    """An encoded frame on the disk, and the device that it comes back to."""

    parts: tuple[Stored, ...]
    device: torch.device
    nbytes: int

    def read(self) -> EncodedFrame:
        coarse, *fine = (part.tensor().to(self.device, copy=True) for part in self.parts)
        for part in self.parts:
            part.rest()
        return EncodedFrame(coarse, tuple(fine))


class FeatureCache:
    """Encoded frames by key, least recently used out first: of memory onto the disk, of the disk for good.

    A sweep over more slices than memory holds would otherwise find none of them the second time.

    Args:
        budget: bytes that may be held in memory; the frame asked for last is kept even when it alone is larger.
        disk: bytes that may lie in temporary files; less where less than four times as much is free.

    Example:
        >>> cache = FeatureCache(budget=2 * 1024**3)
        >>> encoded = cache.get((slice_index, region), lambda: encode(slice_index, region))
    """

    def __init__(self, budget: int = DEFAULT_BUDGET, disk: int = 0) -> None:
        self.budget = budget
        self.nbytes = 0
        self._frames: OrderedDict[Hashable, EncodedFrame] = OrderedDict()
        self._disk = min(disk, _free_disk()) if disk else 0
        self._spill = Spill()
        # Frames on the disk, some of which are in memory too.
        self._stored: OrderedDict[Hashable, _StoredFrame] = OrderedDict()
        self._stored_bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def holds(self, key: Hashable) -> bool:
        """Whether a frame is kept under this key, in memory or on the disk."""
        return key in self._frames or key in self._stored

    @property
    def room(self) -> int:
        """Bytes that can be held without releasing a frame."""
        return self.budget - self.nbytes

    def get(self, key: Hashable, encode: Callable[[], EncodedFrame]) -> EncodedFrame:
        """The frame kept under this key, or a new encoding of it."""
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
            return frame
        stored = self._stored.get(key)
        if stored is None:
            frame = encode()
        else:
            self._stored.move_to_end(key)
            frame = stored.read()
        self._frames[key] = frame
        self.nbytes += frame.nbytes
        while self.nbytes > self.budget and len(self._frames) > 1:
            old, evicted = self._frames.popitem(last=False)
            self.nbytes -= evicted.nbytes
            self._store(old, evicted)
        return frame

    def discard(self, keys: Iterable[Hashable]) -> None:
        """Forget the frames under these keys, where they are still kept."""
        for key in keys:
            frame = self._frames.pop(key, None)
            if frame is not None:
                self.nbytes -= frame.nbytes
            stored = self._stored.pop(key, None)
            if stored is not None:
                self._stored_bytes -= stored.nbytes

    def clear(self) -> None:
        """Forget every frame."""
        self._frames.clear()
        self._stored.clear()
        self.nbytes = self._stored_bytes = 0

    def _store(self, key: Hashable, frame: EncodedFrame) -> None:
        if key in self._stored or frame.nbytes > self._disk:
            return
        while self._stored_bytes + frame.nbytes > self._disk:
            _, oldest = self._stored.popitem(last=False)
            self._stored_bytes -= oldest.nbytes
        placed = [self._spill.place(tensor) for tensor in (frame.coarse, *frame.fine)]
        parts = tuple(part for part in placed if part is not None)
        if len(parts) < len(placed):
            self._disk = 0  # it is full; what lies there can still be read
            return
        self._stored[key] = _StoredFrame(parts, frame.coarse.device, frame.nbytes)
        self._stored_bytes += frame.nbytes


def _free_disk() -> int:
    """Bytes that temporary files may take."""
    try:
        return int(shutil.disk_usage(tempfile.gettempdir()).free * _FREE_SHARE)
    except OSError:
        return 0
