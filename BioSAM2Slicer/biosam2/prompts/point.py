"""A click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import msgspec

from .base import IJK, Drawing, Markup, PromptKind, SlicePrompt, check_inside, nearest_slice, nearest_voxel, three

if TYPE_CHECKING:
    from typing import Self

    from ..frames import Frames


class Point(PromptKind, frozen=True, tag="point"):
    """A click: this voxel belongs to the segment (positive) or does not.

    Args:
        ijk: voxel index, may be fractional within a slice.
        positive: whether the voxel belongs to the segment.

    Raises:
        PromptError: `ijk` is not three finite numbers.
    """

    markup: ClassVar[Markup | None] = Markup("Fiducial", "vtkMRMLMarkupsFiducialNode", signed=True, places=1)
    help: ClassVar[str] = "A click on what belongs to the segment"

    ijk: IJK
    positive: bool = True

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ijk", three(self.ijk, "a point"))
        msgspec.structs.force_setattr(self, "positive", bool(self.positive))

    @classmethod
    def from_places(
        cls, places: Sequence[IJK], frames: Frames, positive: bool = True, *, millimetres: bool = False
    ) -> Self:
        """The one place; from millimetres it goes to the nearest slice and keeps its place there."""
        (ijk,) = places
        if millimetres:
            near = nearest_voxel(ijk, frames)
            i, j, k = (b if axis == frames.axis else a for a, b, axis in zip(ijk, near, "ijk", strict=True))
            ijk = (i, j, k)
        return cls(ijk, positive)

    def slice_of(self, frames: Frames) -> int:
        """The slice nearest to the click."""
        return nearest_slice(self.ijk, frames)

    def check(self, frames: Frames) -> None:
        """See `PromptKind.check`."""
        check_inside(self.ijk, "point", frames)

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """One point more; a mask drawn before it becomes what the points refine."""
        _, row, column = frames.from_ijk(self.ijk)
        return replace(told, points=(*told.points, (row, column, self.positive)), mask=None, start=told.drawn)

    def drawing(self, frames: Frames) -> Drawing:
        """A plus or a minus in a ring."""
        s, row, column = frames.from_ijk(self.ijk)
        return Drawing(s, s, "mark", ((row, column),), self.positive)
