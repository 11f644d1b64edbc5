"""Masks as they are kept, eight voxels to a byte, how far two agree, and which to question. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A structure that fills more of its slice than this is rare: a liver on a CT is at 0.15.
_LARGE = 1 / 6
# A mask that lines this much of each side of its bounding box was cut off there; a disk lines less.
_CUT = 0.5
# Voxels along a side below which nothing can be told from it.
_SIDE = 16


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


def numbered_pieces(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The connected pieces of a mask by number: 1 for the largest, 0 where there is none.

    Args:
        mask: bool of any shape; neighbours across edges and corners are connected.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    numbers = np.zeros(count + 1, np.int32)
    numbers[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    return numbers[labels]


def floods(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask of one slice is probably not what a few clicks meant.

    Args:
        mask: (rows, columns).

    Returns:
        Whether it fills a sixth of the slice, or ends in a straight line on all four sides, as a mask does that
        fills the crop which the network saw.
    """
    if int(np.count_nonzero(mask)) >= _LARGE * mask.size:
        return True
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size < _SIDE or columns.size < _SIDE:
        return False
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    sides = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    return all(int(np.count_nonzero(side)) >= _CUT * side.size for side in sides)
