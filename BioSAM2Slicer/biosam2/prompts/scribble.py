"""A scribble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import msgspec

from .base import IJK, Drawing, Markup, PromptKind, SlicePrompt
from .stroke import Way, along, check_way, on_slice, way_of

if TYPE_CHECKING:
    from typing import Self

    from ..frames import Frames

# Where along its length a scribble's points are taken. Of 1, 2, 3, 5 and 8 points, at the middles of equal parts or
# from end to end, these were best (docs/datasets-and-evaluation.md).
FRACTIONS = (1 / 6, 3 / 6, 5 / 6)


class Scribble(PromptKind, frozen=True, tag="scribble"):
    """A line drawn on one slice: what it runs over belongs to the segment (positive) or does not.

    Args:
        slice_index: index along the session's axis.
        polyline: its vertices, (row, column) on the slice, at least two; may be fractional.
        positive: whether what it runs over belongs to the segment.

    Raises:
        PromptError: fewer than two vertices, or one that is not two finite numbers.
    """

    markup: ClassVar[Markup | None] = Markup("Curve", "vtkMRMLMarkupsCurveNode", "scribble", signed=True)
    help: ClassVar[str] = "A line drawn on one slice over what belongs to the segment"

    slice_index: int
    polyline: Way
    positive: bool = True

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "slice_index", int(self.slice_index))
        msgspec.structs.force_setattr(self, "polyline", way_of(self.polyline, 2, "scribble"))
        msgspec.structs.force_setattr(self, "positive", bool(self.positive))

    @classmethod
    def from_places(
        cls, places: Sequence[IJK], frames: Frames, positive: bool = True, *, millimetres: bool = False
    ) -> Self:
        """The line through the places, which lie on one slice."""
        return cls(*on_slice(places, "scribble", frames), positive)

    def slice_of(self, frames: Frames) -> int:
        """Its own slice."""
        return self.slice_index

    def check(self, frames: Frames) -> None:
        """See `PromptKind.check`."""
        check_way(self.slice_index, self.polyline, "scribble", frames)

    def points(self, frames: Frames) -> Way:
        """The places that the network is told of, (row, column), at equal distances along the line in mm."""
        return along(self.polyline, FRACTIONS, frames.pixel_size)

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """Points along it; a mask drawn before it becomes what they refine."""
        points = tuple((row, column, self.positive) for row, column in self.points(frames))
        return replace(told, points=(*told.points, *points), mask=None, start=told.drawn)

    def drawing(self, frames: Frames) -> Drawing:
        """The line."""
        return Drawing(self.slice_index, self.slice_index, "line", self.polyline, self.positive)
