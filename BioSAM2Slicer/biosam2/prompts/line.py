"""A ruler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import msgspec

from ..errors import PromptError
from .base import IJK, Drawing, Markup, PromptKind, SlicePrompt
from .stroke import Way, check_way, on_slice, way_of

if TYPE_CHECKING:
    from typing import Self

    from ..frames import Frames


class Line(PromptKind, frozen=True, tag="line"):
    """The longest diameter of a segment on one slice, as radiologists measure it (RECIST).

    It stands for a box around the disc whose diameter it is, as MedSAM2's baseline for RECIST does (arXiv 2504.03600;
    `get_diameter_bbox` in medfm-flare/MedSAM2-RECIST); the disc is round in millimetres. Points on the line besides
    the box made it worse (docs/datasets-and-evaluation.md), and that baseline gives either of them, never both.

    Args:
        slice_index: index along the session's axis.
        ends: both, (row, column) on the slice; may be fractional.

    Raises:
        PromptError: not two ends, ends that are not two finite numbers each, or that are one place.
    """

    markup: ClassVar[Markup | None] = Markup("Line", "vtkMRMLMarkupsLineNode", "line", places=2)
    help: ClassVar[str] = "The segment's longest diameter on one slice (RECIST), as a ruler measures it"
    aliases: ClassVar[tuple[str, ...]] = ("recist",)

    slice_index: int
    ends: Way

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "slice_index", int(self.slice_index))
        ends = way_of(self.ends, 2, "line")
        if len(ends) != 2 or ends[0] == ends[1]:
            raise PromptError("a line has two ends, at different places")
        msgspec.structs.force_setattr(self, "ends", ends)

    @classmethod
    def from_places(
        cls, places: Sequence[IJK], frames: Frames, positive: bool = True, *, millimetres: bool = False
    ) -> Self:
        """The line between both places, which lie on one slice."""
        return cls(*on_slice(places, "line", frames))

    def slice_of(self, frames: Frames) -> int:
        """Its own slice."""
        return self.slice_index

    def check(self, frames: Frames) -> None:
        """See `PromptKind.check`."""
        check_way(self.slice_index, self.ends, "line", frames)

    def box(self, frames: Frames) -> tuple[float, float, float, float]:
        """(row0, column0, row1, column1) around the disc, cut at the slice's border."""
        (row0, column0), (row1, column1) = self.ends
        per_row, per_column = frames.pixel_size
        radius = ((row1 - row0) ** 2 * per_row**2 + (column1 - column0) ** 2 * per_column**2) ** 0.5 / 2
        row, column = (row0 + row1) / 2, (column0 + column1) / 2
        return (
            max(row - radius / per_row, 0.0),
            max(column - radius / per_column, 0.0),
            min(row + radius / per_row, frames.rows - 1.0),
            min(column + radius / per_column, frames.columns - 1.0),
        )

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """The box instead of an earlier one; a mask drawn before it becomes what it refines."""
        return replace(told, box=self.box(frames), mask=None, start=told.drawn)

    def drawing(self, frames: Frames) -> Drawing:
        """The line."""
        return Drawing(self.slice_index, self.slice_index, "line", self.ends)
