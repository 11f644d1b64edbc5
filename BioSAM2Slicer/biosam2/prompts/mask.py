"""A mask drawn by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np

from ..errors import PromptError
from .base import Drawing, PromptKind, SlicePrompt, check_slice

if TYPE_CHECKING:
    from ..frames import Frames


class Mask(PromptKind, frozen=True, eq=False, tag="mask", rename={"array2d": "mask"}):
    """The segment on one slice, drawn by hand.

    Args:
        slice_index: index along the session's axis.
        array2d: bool, the slice's own (rows, columns); one without a voxel says that the segment is not there.

    Raises:
        PromptError: the array is not two-dimensional.
    """

    draws: ClassVar[bool] = True

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
        """See `PromptKind.check`."""
        shape, expected = self.array2d.shape, (frames.rows, frames.columns)
        if shape != expected:
            k, j, i = frames.volume.shape
            fits = [a for a, other in {"k": (j, i), "j": (k, i), "i": (k, j)}.items() if other == shape]
            advice = f'; for a slice along {fits[0]} start a second session with axis="{fits[0]}"' if fits else ""
            raise PromptError(f"a mask on a slice along {frames.axis} has shape {expected}, not {shape}{advice}")
        check_slice(self.slice_index, frames)

    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """The mask, instead of all that was told before."""
        return SlicePrompt(told.slice_index, mask=self.array2d)

    def drawing(self, frames: Frames) -> Drawing:
        """The word, beside the corners of what is marked."""
        rows, columns = np.nonzero(self.array2d)
        places: tuple[tuple[float, float], ...] = ((0.0, 0.0),)  # an empty one says that there is nothing here
        if rows.size:
            places = (float(rows.min()), float(columns.min())), (float(rows.max()), float(columns.max()))
        return Drawing(self.slice_index, self.slice_index, "word", places, word="mask")
