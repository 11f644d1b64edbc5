"""A lasso."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError
from ..masks import pack, unpack
from .base import IJK, Drawing, Markup, PromptKind, SlicePrompt
from .stroke import Way, check_way, on_slice, way_of

if TYPE_CHECKING:
    from typing import Self

    from ..frames import Frames

Floats: TypeAlias = NDArray[np.float64]
# Pairs of sides that are compared at once.
_PAIRS = 1 << 20


class Lasso(PromptKind, frozen=True, eq=False, dict=True, tag="lasso"):
    """An outline drawn on one slice: what it encloses is added to the segment's mask there (positive) or erased.

    The slice's mask is then the user's own, as with `Mask`. A voxel is enclosed where its centre is.

    An earlier lasso or mask that is taken away takes what it drew with it. What the network answered before this one
    stays, whatever prompts are taken away: it depends on all that the network was told, masks that clicks refined
    included.

    Args:
        slice_index: index along the session's axis.
        polygon: its vertices, (row, column) on the slice, at least three; the last one is joined to the first.
        positive: whether what it encloses belongs to the segment.
        shown: bool (rows, columns), the segment on the slice before it, without the masks drawn there that nothing
            refined; a session fills it in.

    Raises:
        PromptError: fewer than three vertices, one that is not two finite numbers, or an outline that meets itself.
    """

    markup: ClassVar[Markup | None] = Markup("ClosedCurve", "vtkMRMLMarkupsClosedCurveNode", "lasso", signed=True)
    help: ClassVar[str] = "An outline drawn on one slice around what belongs to the segment"

    draws: ClassVar[bool] = True

    slice_index: int
    polygon: Way
    positive: bool = True
    shown: np.ndarray | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "slice_index", int(self.slice_index))
        polygon = way_of(self.polygon, 3, "lasso")
        msgspec.structs.force_setattr(self, "polygon", polygon)
        msgspec.structs.force_setattr(self, "positive", bool(self.positive))
        if self.shown is not None:
            shown = np.array(self.shown, dtype=bool)
            shown.setflags(write=False)
            msgspec.structs.force_setattr(self, "shown", shown)
        crossing = _crossing(polygon)
        if crossing is not None:
            raise PromptError(
                f"the lasso crosses itself near row {crossing[0]:.0f}, column {crossing[1]:.0f}; "
                "draw it again without a loop"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lasso) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def _compared(self) -> tuple[object, ...]:
        shown = None if self.shown is None else (self.shown.shape, self.shown.tobytes())
        return self.slice_index, self.polygon, self.positive, shown

    @classmethod
    def from_places(
        cls, places: Sequence[IJK], frames: Frames, positive: bool = True, *, millimetres: bool = False
    ) -> Self:
        """The outline through the places, which lie on one slice."""
        return cls(*on_slice(places, "lasso", frames), positive)

    def slice_of(self, frames: Frames) -> int:
        """Its own slice."""
        return self.slice_index

    def check(self, frames: Frames) -> None:
        """See `PromptKind.check`."""
        check_way(self.slice_index, self.polygon, "lasso", frames)
        shape = (frames.rows, frames.columns)
        if self.shown is not None and self.shown.shape != shape:
            raise PromptError(f"a mask on a slice along {frames.axis} has shape {shape}, not {self.shown.shape}")
        if not self.positive and self.shown is None:
            raise PromptError("an erasing lasso needs what its slice shows; complete it first")
        if not self.inside(shape).any():
            raise PromptError("the lasso encloses no voxel's centre; draw it larger")

    def completed(self, shown: Callable[[], NDArray[np.bool_]], beneath: Callable[[], NDArray[np.bool_]]) -> Self:
        """With what the slice shows beneath what was drawn there, to which it adds or from which it erases."""
        if self.shown is not None:
            return self
        if not self.positive and not shown().any():
            raise PromptError(f"slice {self.slice_index} shows nothing of the segment that a lasso could erase")
        return msgspec.structs.replace(self, shown=beneath())

    def inside(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The voxels whose centres it encloses, bool (rows, columns)."""
        known = vars(self).get("filled")  # no field: neither compared nor written
        if known is None or known[0] != shape:
            known = vars(self)["filled"] = shape, pack(_enclosed(self.polygon, shape))
        return unpack(known[1], shape)

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """The slice's mask with what it encloses, or without, instead of all that was told before."""
        inside = self.inside((frames.rows, frames.columns))
        before = self.shown if told.mask is None else told.mask
        if before is not None:
            inside = before | inside if self.positive else before & ~inside
        return SlicePrompt(told.slice_index, mask=inside)

    def drawing(self, frames: Frames) -> Drawing:
        """The outline."""
        return Drawing(self.slice_index, self.slice_index, "outline", self.polygon, self.positive)


def _enclosed(polygon: Way, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Voxels whose centres lie inside a polygon: an odd number of its sides lies to their left in their row.

    A side holds its upper end and not its lower one, and a centre on a side is inside where the polygon lies to its
    right, so that polygons that share sides share no voxel. No package that every client has does this: Pillow's
    polygons hold the voxels that they touch.
    """
    ends = np.array(polygon)
    crossed = np.zeros((shape[0], shape[1] + 1), bool)
    for (row0, column0), (row1, column1) in zip(ends, np.roll(ends, -1, axis=0), strict=True):
        if row0 > row1:
            row0, column0, row1, column1 = row1, column1, row0, column0
        rows = np.arange(max(0, int(np.ceil(row0))), min(shape[0], int(np.ceil(row1))))
        if rows.size:
            columns = column0 + (rows - row0) * ((column1 - column0) / (row1 - row0))
            crossed[rows, np.clip(np.ceil(columns), 0, shape[1]).astype(int)] ^= True
    return np.logical_xor.accumulate(crossed[:, :-1], axis=1)


def _crossing(polygon: Way) -> tuple[float, float] | None:
    """Where two sides of a polygon that are no neighbours meet, None where none do."""
    a = np.array(polygon)
    a = a[(a != np.roll(a, 1, axis=0)).any(axis=1)]
    b = np.roll(a, -1, axis=0)
    low, high = np.minimum(a, b), np.maximum(a, b)
    count = len(a)
    numbers = np.arange(count)
    for first in range(0, count, step := max(1, _PAIRS // max(count, 1))):
        part = slice(first, first + step)
        p, q = a[part, None], b[part, None]
        meet = (_side(p, q, a) * _side(p, q, b) <= 0) & (_side(a, b, p) * _side(a, b, q) <= 0)
        meet &= ((low[part, None] <= high) & (low <= high[part, None])).all(axis=-1)
        meet &= ~np.isin((numbers[part, None] - numbers) % count, (0, 1, count - 1))
        if meet.any():
            one, other = np.argwhere(meet)[0]
            row, column = ((a[first + one] + b[first + one] + a[other] + b[other]) / 4).tolist()
            return row, column
    return None


def _side(p: Floats, q: Floats, r: Floats) -> Floats:
    """Sign of the turn from p to q to r: on which side of the line through p and q r lies."""
    d, e = q - p, r - p
    return np.sign(d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0])
