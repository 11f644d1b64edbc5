"""What the model drew last on each slice, to tell what the next propagation changes."""

from __future__ import annotations

import zlib

import numpy as np
from biosam2.masks import dice, pack, unpack
from numpy.typing import NDArray


class DrawnMasks:
    """Masks by segment and slice, compressed: a few hundred bytes each.

    Example:
        >>> drawn = DrawnMasks()
        >>> drawn.change("Segment_1", 12, mask), drawn.change("Segment_1", 12, mask)
        (None, 0.0)
    """

    def __init__(self) -> None:
        self._masks: dict[tuple[str, int], bytes] = {}

    def change(self, segmentId: str, index: int, mask: NDArray[np.bool_]) -> float | None:
        """How much a new mask (rows, columns) differs from the one before, which it takes the place of.

        Returns:
            1 − Dice of the two, 0 where both are empty; None where there was none.
        """
        key = (segmentId, index)
        before = self._masks.get(key)
        self._masks[key] = zlib.compress(pack(mask).tobytes(), 1)
        if before is None:
            return None
        return 1 - dice(mask, unpack(np.frombuffer(zlib.decompress(before), np.uint8), mask.shape))

    def forget(self, segmentId: str | None = None) -> None:
        """Drop the masks of one segment, or all."""
        self._masks = {} if segmentId is None else {k: v for k, v in self._masks.items() if k[0] != segmentId}
