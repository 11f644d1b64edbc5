"""The network's masks, by the propagation that made them. A cache: what is missing can be made again."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..masks import pack


@dataclass(frozen=True)
class Result:
    """What the network said of one slice.

    Attributes:
        mask: packed, see `masks`.
        score: predicted quality, 0 to 1.
    """

    mask: NDArray[np.uint8]
    score: float


class ResultStore:
    """Results by (propagation, segment, slice); kept deflated, so that those which only undo can reach cost little."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str, int], tuple[bytes, float]] = {}

    def put(self, propagation: int, segment: str, slice_index: int, mask: NDArray[np.bool_], score: float) -> None:
        """Keep a result.

        Args:
            propagation: identifier of its entry.
            segment: whose result it is.
            slice_index: the slice.
            mask: bool (rows, columns), what the network said.
            score: its predicted quality, 0 to 1.
        """
        self._kept[propagation, segment, slice_index] = (zlib.compress(pack(mask).tobytes(), 1), score)

    def get(self, propagation: int, segment: str, slice_index: int) -> Result:
        """A result that was kept.

        Raises:
            KeyError: there is none.
        """
        mask, score = self._kept[propagation, segment, slice_index]
        return Result(np.frombuffer(zlib.decompress(mask), np.uint8), score)

    def drop(self, propagations: Iterable[int]) -> None:
        """Forget the results of propagations that cannot come into force again."""
        gone = set(propagations)
        if gone:
            self._kept = {key: value for key, value in self._kept.items() if key[0] not in gone}
