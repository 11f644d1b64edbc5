"""A box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import msgspec

from ..errors import PromptError
from .base import IJK, Drawing, Markup, PromptKind, SlicePrompt, check_inside, nearest_slice, nearest_voxel, three

if TYPE_CHECKING:
    from typing import Self

    from ..frames import Frames


class Box(PromptKind, frozen=True, tag="box"):
    """The segment lies within these inclusive voxel bounds; flat along the session's axis: one slice.

    Over several slices it prompts the middle one and bounds the segment.

    Args:
        min_ijk: lowest voxel index on each axis.
        max_ijk: highest voxel index on each axis, inclusive.

    Raises:
        PromptError: a corner is not three finite numbers, or a minimum lies above its maximum.
    """

    markup: ClassVar[Markup | None] = Markup("ROI", "vtkMRMLMarkupsROINode", "box", places=2)
    help: ClassVar[str] = "The segment lies within; both corners inclusive"

    min_ijk: IJK
    max_ijk: IJK

    def __post_init__(self) -> None:
        low, high = three(self.min_ijk, "a box's minimum"), three(self.max_ijk, "a box's maximum")
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise PromptError(f"a box's minimum {low} must not lie above its maximum {high}")
        msgspec.structs.force_setattr(self, "min_ijk", low)
        msgspec.structs.force_setattr(self, "max_ijk", high)

    @classmethod
    def from_places(
        cls, places: Sequence[IJK], frames: Frames, positive: bool = True, *, millimetres: bool = False
    ) -> Self:
        """The box around the places, two opposite corners or all of a turned one; from millimetres, of whole voxels."""
        corners = [nearest_voxel(place, frames) for place in places] if millimetres else places
        i, j, k = zip(*corners, strict=True)
        return cls((min(i), min(j), min(k)), (max(i), max(j), max(k)))

    def slices(self, frames: Frames) -> tuple[int, int]:
        """First and last slice of the box."""
        return nearest_slice(self.min_ijk, frames), nearest_slice(self.max_ijk, frames)

    def slice_of(self, frames: Frames) -> int:
        """The middle one of the box's slices."""
        low, high = self.slices(frames)
        return (low + high) // 2

    def span(self, frames: Frames) -> tuple[int, int] | None:
        """The box's slices, where there are several."""
        low, high = self.slices(frames)
        return (low, high) if low != high else None

    def check(self, frames: Frames) -> None:
        """See `PromptKind.check`; a box that is flat along another axis was drawn in another view."""
        check_inside(self.min_ijk, "box", frames)
        check_inside(self.max_ijk, "box", frames)
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

    def drawing(self, frames: Frames) -> Drawing:
        """A rectangle around the voxels, not through their centres."""
        first, row0, column0 = frames.from_ijk(self.min_ijk)
        last, row1, column1 = frames.from_ijk(self.max_ijk)
        top, left, bottom, right = row0 - 0.5, column0 - 0.5, row1 + 0.5, column1 + 0.5
        return Drawing(first, last, "outline", ((top, left), (top, right), (bottom, right), (bottom, left)))
