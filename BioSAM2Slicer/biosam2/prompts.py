"""What a user says about a segment: points, boxes and masks, in voxel indices. Immutable.

Voxel (i, j, k) is centred on the integers; a click may be fractional. Boxes are inclusive voxel bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import PromptError


def _three(values, what: str) -> tuple[float, float, float]:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise PromptError(f"{what} must be three numbers i, j, k, not {values!r}") from None
    if len(numbers) != 3 or not np.all(np.isfinite(numbers)):
        raise PromptError(f"{what} must be three finite numbers i, j, k, not {values!r}")
    return numbers


@dataclass(frozen=True)
class Point:
    """A click: this voxel belongs to the segment (positive) or does not.

    Args:
        ijk: voxel index, may be fractional within a slice.
        positive: whether the voxel belongs to the segment.
    """

    ijk: tuple[float, float, float]
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ijk", _three(self.ijk, "a point"))
        object.__setattr__(self, "positive", bool(self.positive))


@dataclass(frozen=True)
class Box:
    """The segment lies within these inclusive voxel bounds; flat along the session's axis: one slice.

    Args:
        min_ijk: lowest voxel index on each axis.
        max_ijk: highest voxel index on each axis, inclusive.

    Raises:
        PromptError: a minimum lies above its maximum.
    """

    min_ijk: tuple[float, float, float]
    max_ijk: tuple[float, float, float]

    def __post_init__(self) -> None:
        low, high = _three(self.min_ijk, "a box's minimum"), _three(self.max_ijk, "a box's maximum")
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise PromptError(f"a box's minimum {low} must not lie above its maximum {high}")
        object.__setattr__(self, "min_ijk", low)
        object.__setattr__(self, "max_ijk", high)


@dataclass(frozen=True, eq=False)
class Mask:
    """The segment on one slice, drawn by hand.

    Args:
        slice_index: index along the session's axis.
        array2d: bool, the slice's own (rows, columns); one without a voxel says that the segment is not there.

    Raises:
        PromptError: the array is not two-dimensional.
    """

    slice_index: int
    array2d: NDArray[np.bool_]

    def __post_init__(self) -> None:
        array = np.array(self.array2d, dtype=bool)
        if array.ndim != 2:
            raise PromptError(f"a mask prompt is one slice (rows, columns), not an array of shape {array.shape}")
        array.setflags(write=False)
        object.__setattr__(self, "array2d", array)
        object.__setattr__(self, "slice_index", int(self.slice_index))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mask)
            and self.slice_index == other.slice_index
            and np.array_equal(self.array2d, other.array2d)
        )

    def __hash__(self) -> int:
        return hash((self.slice_index, self.array2d.shape, self.array2d.tobytes()))


Prompt: TypeAlias = Point | Box | Mask
