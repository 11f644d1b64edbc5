"""A session's masks in the segmentation node: read, written slice by slice, left alone where they are the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scene.EditWatch import EditWatch
from ..scene.SegmentSlices import SegmentSlices, SliceChange
from ..scene.SliceMarks import MODEL, NONE, USER, SliceMarks
from ..Signal import Signal
from .SceneState import SceneState
from .Step import Step


class SceneResults:
    """Slices of segments along the session's axis.

    Not written are slices that the state says are the user's (locked, or drawn as a mask prompt), that the user changed
    after the session wrote them, or that held something before the session came to them.

    Signals:
        written(segmentId, axis, index, score): a slice of a segment was written.
        edited(list[SliceChange]): another part of Slicer changed voxels.

    Args:
        scene: the session's state.
        beforeWrite: called before voxels are written.
    """

    def __init__(self, scene: SceneState, beforeWrite: Callable[[], object] = lambda: None) -> None:
        self.written = Signal()
        self._scene = scene
        self._beforeWrite = beforeWrite
        self._watch = EditWatch()
        self.edited = self._watch.edited
        self._segmentation: Any = None
        self._slices: SegmentSlices | None = None
        self._marks = SliceMarks()

    def open(self, segmentationNode: Any, slices: SegmentSlices) -> None:
        """Work on this segmentation."""
        self.forget()
        self._segmentation, self._slices = segmentationNode, slices
        self._watch.open(segmentationNode, slices)

    def close(self) -> None:
        """Release the segmentation."""
        self.forget()
        self._watch.close()
        self._segmentation = self._slices = None

    def forget(self, segmentId: str | None = None) -> None:
        """Forget the owners of the slices of one segment or of all; voxels stay as they are."""
        self._marks.forget(segmentId)

    def look(self) -> None:
        """Notice now what other parts of Slicer have changed."""
        self._watch.look()

    # -- reading ---------------------------------------------------------------------------------

    def read(self, segmentId: str, index: int) -> NDArray[np.bool_]:
        """The slice as it is, bool (rows, columns)."""
        assert self._slices is not None
        return self._slices.readSlice(segmentId, self._scene.axis, index)

    def readAll(self, segmentId: str) -> NDArray[np.bool_]:
        """The whole segment, bool (k, j, i)."""
        assert self._slices is not None
        return self._slices.read(segmentId, self._slices.whole)

    def usedSlices(self, segmentId: str) -> list[int]:
        """Slices on which the segment has voxels, ascending."""
        assert self._slices is not None
        return self._slices.usedSlices(segmentId, self._scene.axis)

    # -- owners ----------------------------------------------------------------------------------

    def adopt(self, segmentId: str, index: int, step: Step | None = None) -> None:
        """Take the slice as it is for the model's, as part of a step."""
        self._mark(step, segmentId, index, MODEL)

    def release(self, step: Step, segmentId: str, indices: Iterable[int]) -> None:
        """Take slices for what stood there before the session."""
        for index in indices:
            self._mark(step, segmentId, index, NONE)

    def claim(self, step: Step, changes: list[SliceChange]) -> None:
        """Take slices that the session wrote and others changed for the user's."""
        if not self._scene.axis:
            return
        a = "ijk".index(self._scene.axis)
        for change in changes:
            others = tuple(d for d in range(3) if d != 2 - a)
            for offset in np.flatnonzero((change.before != change.after).any(axis=others)):
                index = change.extent[2 * a] + int(offset)
                if self._marks.owner((change.segmentId, index)) != NONE:
                    self._mark(step, change.segmentId, index, USER)

    def isUsers(self, segmentId: str, index: int) -> bool:
        """Whether the user changed what the session wrote, or it wrote nothing and there is something."""
        owner = self._marks.owner((segmentId, index))
        return owner == USER or (owner == NONE and bool(self.read(segmentId, index).any()))

    def writtenSlices(self, segmentId: str) -> list[int]:
        """Slices that the session wrote, changed since or not, ascending."""
        return sorted(index for name, index in self._marks if name == segmentId)

    def correctedSlices(self, segmentId: str) -> list[int]:
        """Slices that the session wrote and the user has changed since, ascending."""
        return self._marks.owned(segmentId, USER)

    # -- writing ---------------------------------------------------------------------------------

    def write(
        self, step: Step, segmentId: str, index: int, mask: NDArray[np.bool_] | None, score: float | None = None
    ) -> None:
        """Make the slice this mask (None: empty) as part of a step, unless it is the user's or the segment is gone."""
        if index not in self._scene.userSlices(segmentId):
            self.show(step, segmentId, index, mask, score)

    def show(
        self, step: Step, segmentId: str, index: int, mask: NDArray[np.bool_] | None, score: float | None = None
    ) -> None:
        """As `write`, also where the mask is the user's own by the state: the slice may show something else yet."""
        assert self._slices is not None
        self.look()
        if self._segmentation.GetSegmentation().GetSegment(segmentId) is None or self.isUsers(segmentId, index):
            return
        axis = self._scene.axis
        if mask is None:
            mask = np.zeros_like(self.read(segmentId, index))
        changes: list[SliceChange] = []
        with self._writing(changes):
            changes += self._slices.writeSlice(segmentId, axis, index, mask)
        step.changes += changes
        self._mark(step, segmentId, index, MODEL)
        self.written.emit(segmentId, axis, index, score)

    def undo(self, step: Step, voxels: bool = True) -> None:
        """Restore the owners before a step, and the voxels unless they are restored already."""
        assert self._slices is not None
        if voxels:
            with self._writing(step.changes):
                for change in reversed(step.changes):
                    self._slices.restore(change)
        self._marks.swap(step.marks)

    def redo(self, step: Step, voxels: bool = True) -> None:
        """Restore the owners after a step, and the voxels unless they are restored already."""
        assert self._slices is not None
        if voxels:
            with self._writing(step.changes):
                for change in step.changes:
                    self._slices.restore(change, forward=True)
        self._marks.swap(step.marks)

    # -- the scene -------------------------------------------------------------------------------

    def toText(self) -> str:
        """The slices that the user changed, for the parameter node; empty where there are none."""
        return self._marks.toText()

    def load(self, text: str) -> None:
        """Mark the slices that `toText` told of."""
        self._marks.load(text)

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, changes: list[SliceChange]) -> Any:
        self._watch.look()
        self._beforeWrite()
        with self._watch.own(changes):
            yield

    def _mark(self, step: Step | None, segmentId: str, index: int, owner: str) -> None:
        self._marks.mark((segmentId, index), owner, None if step is None else step.marks)
