"""Encoded frames, kept within a memory budget so that a second look at a slice costs no second encoding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import torch

DEFAULT_BUDGET = 2 * 1024**3


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

    def to(self, device: torch.device) -> EncodedFrame:
        """The same on another device."""
        return EncodedFrame(self.coarse.to(device), tuple(t.to(device) for t in self.fine))


class FeatureCache:
    """Encoded frames by key, least recently used out first.

    Args:
        budget: bytes that may be held; the frame asked for last is kept even when it alone is larger.

    Example:
        >>> cache = FeatureCache(budget=2 * 1024**3)
        >>> encoded = cache.get((slice_index, region), lambda: encode(slice_index, region))
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self.nbytes = 0
        self._frames: OrderedDict[Hashable, EncodedFrame] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def holds(self, key: Hashable) -> bool:
        """Whether a frame is kept under this key."""
        return key in self._frames

    @property
    def room(self) -> int:
        """Bytes that can be held without letting go of a frame."""
        return self.budget - self.nbytes

    def get(self, key: Hashable, encode: Callable[[], EncodedFrame]) -> EncodedFrame:
        """The frame kept under this key, or a new encoding of it."""
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
            return frame
        frame = encode()
        self._frames[key] = frame
        self.nbytes += frame.nbytes
        while self.nbytes > self.budget and len(self._frames) > 1:
            _, evicted = self._frames.popitem(last=False)
            self.nbytes -= evicted.nbytes
        return frame

    def discard(self, keys: Iterable[Hashable]) -> None:
        """Forget the frames under these keys, where they are still kept."""
        for key in keys:
            frame = self._frames.pop(key, None)
            if frame is not None:
                self.nbytes -= frame.nbytes

    def clear(self) -> None:
        """Forget every frame."""
        self._frames.clear()
        self.nbytes = 0
