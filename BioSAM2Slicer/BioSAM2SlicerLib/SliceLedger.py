"""Whose the slices are: what the session wrote is known, so that what the user drew is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .History import Step
from .SegmentSlices import SegmentSlices, SliceChange
from .Signal import Signal


class SliceLedger:
    """Slices of segments along the session's axis, read and written, with a note of what was written last.

    Signals:
        written(segmentId, axis, index, score): a slice of a segment was written.

    Args:
        axis: gives the session's axis.
    """

    def __init__(self, axis: Callable[[], str]) -> None:
        self.written = Signal()
        self._axis = axis
        self._segmentation: Any = None
        self._slices: SegmentSlices | None = None
        # Packed; a slice that looks different was changed by the user.
        self._last: dict[tuple[str, int], NDArray[np.uint8]] = {}

    def open(self, segmentationNode: Any, slices: SegmentSlices) -> None:
        """Work on this segmentation."""
        self.forget()
        self._segmentation, self._slices = segmentationNode, slices

    def close(self) -> None:
        """Let go of the segmentation."""
        self.forget()
        self._segmentation = self._slices = None

    def forget(self, segmentId: str | None = None) -> None:
        """Note nothing any more, of one segment or of all; voxels stay as they are."""
        self._last = {key: last for key, last in self._last.items() if segmentId is not None and key[0] != segmentId}

    def read(self, segmentId: str, index: int) -> NDArray[np.bool_]:
        """The slice as it is, bool (rows, columns)."""
        assert self._slices is not None
        return self._slices.readSlice(segmentId, self._axis(), index)

    def adopt(self, segmentId: str, index: int) -> None:
        """Take the slice as it is for one that the session wrote."""
        self._last[segmentId, index] = np.packbits(self.read(segmentId, index))

    def isTheirs(self, segmentId: str, index: int) -> bool:
        """Whether the slice looks different from what was written last; nothing was written: it has voxels."""
        mask = self.read(segmentId, index)
        last = self._last.get((segmentId, index))
        return bool(mask.any()) if last is None else not np.array_equal(np.packbits(mask), last)

    def ours(self, segmentId: str) -> list[int]:
        """Slices that the session wrote, changed since or not, ascending."""
        return sorted(index for name, index in self._last if name == segmentId)

    def corrected(self, segmentId: str) -> list[int]:
        """Slices that the session wrote and the user has changed since, ascending."""
        return [index for index in self.ours(segmentId) if self.isTheirs(segmentId, index)]

    def write(
        self, step: Step, segmentId: str, index: int, mask: NDArray[np.bool_] | None, score: float | None = None
    ) -> None:
        """Make the slice this mask (None: empty) as part of a step, unless it is the user's or the segment is gone."""
        assert self._slices is not None
        if self._segmentation.GetSegmentation().GetSegment(segmentId) is None or self.isTheirs(segmentId, index):
            return
        if mask is None:
            mask = np.zeros_like(self.read(segmentId, index))
        axis = self._axis()
        changes = self._slices.writeSlice(segmentId, axis, index, mask)
        step.changes += changes
        self._note(changes)
        # With masking settings the slice is not always what was asked for.
        self.adopt(segmentId, index)
        self.written.emit(segmentId, axis, index, score)

    def undo(self, step: Step) -> None:
        """Take back a step's voxels."""
        assert self._slices is not None
        for change in reversed(step.changes):
            self._slices.restore(change)
        self._note(step.changes)

    def redo(self, step: Step) -> None:
        """Put a step's voxels back."""
        assert self._slices is not None
        for change in step.changes:
            self._slices.restore(change, forward=True)
        self._note(step.changes)

    # -- inside ---------------------------------------------------------------------------------

    def _note(self, changes: list[SliceChange]) -> None:
        """Slices of other segments that changed with ours are no corrections of the user's."""
        position = 2 * "ijk".index(self._axis())
        for change in changes:
            for index in range(change.extent[position], change.extent[position + 1] + 1):
                if (change.segmentId, index) in self._last:
                    self.adopt(change.segmentId, index)
