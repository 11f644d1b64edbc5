"""Masks as they are kept, eight voxels to a byte, and how far two of them agree. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask of one slice or of the volume as it is kept."""
    return np.packbits(mask)


def unpack(packed: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.bool_]:
    """The mask of this shape that was packed."""
    return np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).view(bool)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks of one shape, 0 to 1; 1 where both are empty."""
    together = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / together if together else 1.0
