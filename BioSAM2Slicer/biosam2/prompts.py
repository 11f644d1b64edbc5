"""What a user says about a segment: points, boxes and masks, in voxel indices. Immutable.

Voxel (i, j, k) is centred on the integers; a click may be fractional. Boxes are inclusive voxel bounds.

A kind of prompt is one class here: its shape, which slice it is for, what it may not be, and how it adds to what the
network is told about that slice. Records, messages and saved scenes hold it under the class's tag.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import PromptError

if TYPE_CHECKING:
    from .frames import Frames

IJK: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class SlicePrompt:
    """All that one segment was told about one slice, reduced to one call of the network.

    Attributes:
        slice_index: the slice.
        box: (row0, column0, row1, column1) inclusive voxel bounds, or None.
        points: (row, column, positive) in the order in which they were given; may be fractional.
        mask: the user's own pixels, bool (rows, columns); then there is neither box nor point.
        start: a mask drawn on this slice before the points, whose logits the points refine.
    """

    slice_index: int
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    mask: NDArray[np.bool_] | None = None
    start: NDArray[np.bool_] | None = None

    @property
    def drawn(self) -> NDArray[np.bool_] | None:
        """The mask drawn on the slice, refined by what came after it or not."""
        return self.start if self.mask is None else self.mask


class _Prompt(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """Common to all kinds."""

    @abstractmethod
    def slice_of(self, frames: Frames) -> int:
        """The slice that the prompt is for, along the axis of `frames`."""

    @abstractmethod
    def check(self, frames: Frames) -> None:
        """Refuse a prompt that does not fit the volume or the axis.

        Raises:
            PromptError: it lies outside the volume, belongs to another axis, or has the wrong shape.
        """

    @abstractmethod
    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """What the network is told about the slice with this prompt after what was told before."""

    def span(self, frames: Frames) -> tuple[int, int] | None:
        """First and last slice that the prompt allows a segment; None where it sets no bounds."""
        return None


class Point(_Prompt, frozen=True, tag="point"):
    """A click: this voxel belongs to the segment (positive) or does not.

    Args:
        ijk: voxel index, may be fractional within a slice.
        positive: whether the voxel belongs to the segment.

    Raises:
        PromptError: `ijk` is not three finite numbers.
    """

    ijk: IJK
    positive: bool = True

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ijk", _three(self.ijk, "a point"))
        msgspec.structs.force_setattr(self, "positive", bool(self.positive))

    def slice_of(self, frames: Frames) -> int:
        """The slice nearest to the click."""
        return _nearest(self.ijk, frames)

    def check(self, frames: Frames) -> None:
        """See `_Prompt.check`."""
        _check_inside(self.ijk, "point", frames)

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """One point more; a mask drawn before it becomes what the points refine."""
        _, row, column = frames.from_ijk(self.ijk)
        return replace(told, points=(*told.points, (row, column, self.positive)), mask=None, start=told.drawn)


class Box(_Prompt, frozen=True, tag="box"):
    """The segment lies within these inclusive voxel bounds; flat along the session's axis: one slice.

    Over several slices it prompts the middle one and bounds the segment.

    Args:
        min_ijk: lowest voxel index on each axis.
        max_ijk: highest voxel index on each axis, inclusive.

    Raises:
        PromptError: a corner is not three finite numbers, or a minimum lies above its maximum.
    """

    min_ijk: IJK
    max_ijk: IJK

    def __post_init__(self) -> None:
        low, high = _three(self.min_ijk, "a box's minimum"), _three(self.max_ijk, "a box's maximum")
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise PromptError(f"a box's minimum {low} must not lie above its maximum {high}")
        msgspec.structs.force_setattr(self, "min_ijk", low)
        msgspec.structs.force_setattr(self, "max_ijk", high)

    def slices(self, frames: Frames) -> tuple[int, int]:
        """First and last slice of the box."""
        return _nearest(self.min_ijk, frames), _nearest(self.max_ijk, frames)

    def slice_of(self, frames: Frames) -> int:
        """The middle one of the box's slices."""
        low, high = self.slices(frames)
        return (low + high) // 2

    def span(self, frames: Frames) -> tuple[int, int] | None:
        """The box's slices, where there are several."""
        low, high = self.slices(frames)
        return (low, high) if low != high else None

    def check(self, frames: Frames) -> None:
        """See `_Prompt.check`; a box that is flat along another axis was drawn in another view."""
        _check_inside(self.min_ijk, "box", frames)
        _check_inside(self.max_ijk, "box", frames)
        low, high = self.slices(frames)
        extent = {a: high - low for a, low, high in zip("ijk", self.min_ijk, self.max_ijk, strict=True)}
        flat = [a for a in "ijk" if a != frames.axis and extent[a] == 0]
        if low != high and len(flat) == 1:
            raise PromptError(
                f"the box is flat along {flat[0]}, and this session runs along {frames.axis}; "
                f'start a second session with axis="{flat[0]}" for it'
            )

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """The box instead of an earlier one; a mask drawn before it becomes what it refines."""
        _, row0, column0 = frames.from_ijk(self.min_ijk)
        _, row1, column1 = frames.from_ijk(self.max_ijk)
        return replace(told, box=(row0, column0, row1, column1), mask=None, start=told.drawn)


class Mask(_Prompt, frozen=True, eq=False, tag="mask", rename={"array2d": "mask"}):
    """The segment on one slice, drawn by hand.

    Args:
        slice_index: index along the session's axis.
        array2d: bool, the slice's own (rows, columns); one without a voxel says that the segment is not there.

    Raises:
        PromptError: the array is not two-dimensional.
    """

    slice_index: int
    array2d: np.ndarray

    def __post_init__(self) -> None:
        array = np.array(self.array2d, dtype=bool)
        if array.ndim != 2:
            raise PromptError(f"a mask prompt is one slice (rows, columns), not an array of shape {array.shape}")
        array.setflags(write=False)
        msgspec.structs.force_setattr(self, "array2d", array)
        msgspec.structs.force_setattr(self, "slice_index", int(self.slice_index))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mask)
            and self.slice_index == other.slice_index
            and np.array_equal(self.array2d, other.array2d)
        )

    def __hash__(self) -> int:
        return hash((self.slice_index, self.array2d.shape, self.array2d.tobytes()))

    def slice_of(self, frames: Frames) -> int:
        """Its own slice."""
        return self.slice_index

    def check(self, frames: Frames) -> None:
        """See `_Prompt.check`."""
        shape, expected = self.array2d.shape, (frames.rows, frames.columns)
        if shape != expected:
            k, j, i = frames.volume.shape
            fits = [a for a, other in {"k": (j, i), "j": (k, i), "i": (k, j)}.items() if other == shape]
            advice = f'; for a slice along {fits[0]} start a second session with axis="{fits[0]}"' if fits else ""
            raise PromptError(f"a mask on a slice along {frames.axis} has shape {expected}, not {shape}{advice}")
        if not 0 <= self.slice_index < frames.count:
            raise PromptError(
                f"there is no slice {self.slice_index} along {frames.axis}; slices are 0 to {frames.count - 1}"
            )

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """The mask, instead of all that was told before."""
        return SlicePrompt(told.slice_index, mask=self.array2d)


Prompt: TypeAlias = Point | Box | Mask


def _three(values, what: str) -> IJK:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise PromptError(f"{what} must be three numbers i, j, k, not {values!r}") from None
    if len(numbers) != 3 or not np.all(np.isfinite(numbers)):
        raise PromptError(f"{what} must be three finite numbers i, j, k, not {values!r}")
    return numbers


def _check_inside(ijk: IJK, what: str, frames: Frames) -> None:
    k, j, i = frames.volume.shape
    if not all(-0.5 <= v <= n - 0.5 for v, n in zip(ijk, (i, j, k), strict=True)):
        text = ", ".join(f"{v:g}" for v in ijk)
        raise PromptError(
            f"the {what} at i, j, k = {text} lies outside the volume of {i} × {j} × {k} voxels (counted from 0)"
        )


def _nearest(ijk: IJK, frames: Frames) -> int:
    return min(max(0, math.floor(frames.from_ijk(ijk)[0] + 0.5)), frames.count - 1)
