"""Whose the slices are: what the session wrote is known, so that what the user drew is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .EditWatch import EditWatch
from .History import Step
from .SegmentSlices import SegmentSlices, SliceChange
from .SessionJournal import SessionJournal
from .Signal import Signal

# Marks on slices; one without a mark has not been written by the session.
_NONE, _OURS, _THEIRS = "", "ours", "theirs"


class SliceLedger:
    """Slices of segments along the session's axis, read and written.

    Left alone are slices that the user locked, drew as a mask prompt, changed after the session wrote them, or that
    held something before the session came to them.

    Signals:
        written(segmentId, axis, index, score): a slice of a segment was written.
        edited(list[SliceChange]): somebody else changed voxels.

    Args:
        journal: the prompts and locks.
        axis: gives the session's axis.
        beforeWrite: called before voxels are written.
    """

    def __init__(
        self, journal: SessionJournal, axis: Callable[[], str], beforeWrite: Callable[[], object] = lambda: None
    ) -> None:
        self.written = Signal()
        self._journal = journal
        self._axis = axis
        self._beforeWrite = beforeWrite
        self._watch = EditWatch()
        self.edited = self._watch.edited
        self._segmentation: Any = None
        self._slices: SegmentSlices | None = None
        self._marks: dict[tuple[str, int], str] = {}

    def open(self, segmentationNode: Any, slices: SegmentSlices) -> None:
        """Work on this segmentation."""
        self.forget()
        self._segmentation, self._slices = segmentationNode, slices
        self._watch.open(segmentationNode, slices)

    def close(self) -> None:
        """Let go of the segmentation."""
        self.forget()
        self._watch.close()
        self._segmentation = self._slices = None

    def forget(self, segmentId: str | None = None) -> None:
        """Take the marks off the slices of one segment or of all; voxels stay as they are."""
        self._marks = {key: mark for key, mark in self._marks.items() if segmentId is not None and key[0] != segmentId}

    def look(self) -> None:
        """Notice now what others have changed."""
        self._watch.look()

    def read(self, segmentId: str, index: int) -> NDArray[np.bool_]:
        """The slice as it is, bool (rows, columns)."""
        assert self._slices is not None
        return self._slices.readSlice(segmentId, self._axis(), index)

    def readAll(self, segmentId: str) -> NDArray[np.bool_]:
        """The whole segment, bool (k, j, i)."""
        assert self._slices is not None
        return self._slices.read(segmentId, self._slices.whole)

    def usedSlices(self, segmentId: str) -> list[int]:
        """Slices on which the segment has voxels, ascending."""
        assert self._slices is not None
        return self._slices.usedSlices(segmentId, self._axis())

    def adopt(self, segmentId: str, index: int, step: Step | None = None) -> None:
        """Take the slice as it is for one that the session wrote, as part of a step."""
        self._mark(step, (segmentId, index), _OURS)

    def release(self, step: Step, segmentId: str, indices: Iterable[int]) -> None:
        """Slices are the user's own again, as if the session had never come to them."""
        for index in indices:
            self._mark(step, (segmentId, index), _NONE)

    def claim(self, step: Step, changes: list[SliceChange]) -> None:
        """Changes that somebody else made: slices that the session wrote are the user's from now on."""
        if not self._axis():
            return
        a = "ijk".index(self._axis())
        for change in changes:
            others = tuple(d for d in range(3) if d != 2 - a)
            for offset in np.flatnonzero((change.before != change.after).any(axis=others)):
                key = (change.segmentId, change.extent[2 * a] + int(offset))
                if key in self._marks:
                    self._mark(step, key, _THEIRS)

    def isTheirs(self, segmentId: str, index: int) -> bool:
        """Whether the user changed what the session wrote, or it wrote nothing and there is something."""
        mark = self._marks.get((segmentId, index), _NONE)
        return mark == _THEIRS or (mark == _NONE and bool(self.read(segmentId, index).any()))

    def ours(self, segmentId: str) -> list[int]:
        """Slices that the session wrote, changed since or not, ascending."""
        return sorted(index for name, index in self._marks if name == segmentId)

    def corrected(self, segmentId: str) -> list[int]:
        """Slices that the session wrote and the user has changed since, ascending."""
        return sorted(index for (name, index), mark in self._marks.items() if name == segmentId and mark == _THEIRS)

    def write(
        self, step: Step, segmentId: str, index: int, mask: NDArray[np.bool_] | None, score: float | None = None
    ) -> None:
        """Make the slice this mask (None: empty) as part of a step, unless it is the user's or the segment is gone."""
        assert self._slices is not None
        self.look()
        axis = self._axis()
        if (
            self._segmentation.GetSegmentation().GetSegment(segmentId) is None
            or index in self._journal.kept(segmentId, axis)
            or self.isTheirs(segmentId, index)
        ):
            return
        if mask is None:
            mask = np.zeros_like(self.read(segmentId, index))
        changes: list[SliceChange] = []
        with self._writing(changes):
            changes += self._slices.writeSlice(segmentId, axis, index, mask)
        step.changes += changes
        self._mark(step, (segmentId, index), _OURS)
        self.written.emit(segmentId, axis, index, score)

    def undo(self, step: Step, voxels: bool = True) -> None:
        """Take back a step's marks, and its voxels unless that has happened already."""
        assert self._slices is not None
        if voxels:
            with self._writing(step.changes):
                for change in reversed(step.changes):
                    self._slices.restore(change)
        self._swap(step)

    def redo(self, step: Step, voxels: bool = True) -> None:
        """Put a step's marks back, and its voxels unless that has happened already."""
        assert self._slices is not None
        if voxels:
            with self._writing(step.changes):
                for change in step.changes:
                    self._slices.restore(change, forward=True)
        self._swap(step)

    def toText(self) -> str:
        """The slices that the user changed, for the parameter node; empty where there are none."""
        theirs = sorted(key for key, mark in self._marks.items() if mark == _THEIRS)
        return json.dumps(theirs) if theirs else ""

    def load(self, text: str) -> None:
        """Mark the slices that `toText` told of."""
        for name, index in json.loads(text or "[]"):
            self._marks[str(name), int(index)] = _THEIRS

    # -- inside ---------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, changes: list[SliceChange]) -> Any:
        self._watch.look()
        self._beforeWrite()
        with self._watch.own(changes):
            yield

    def _mark(self, step: Step | None, key: tuple[str, int], mark: str) -> None:
        if step is not None:
            step.marks.setdefault(key, self._marks.get(key, _NONE))
        self._set(key, mark)

    def _swap(self, step: Step) -> None:
        for key, other in step.marks.items():
            step.marks[key] = self._marks.get(key, _NONE)
            self._set(key, other)

    def _set(self, key: tuple[str, int], mark: str) -> None:
        if mark == _NONE:
            self._marks.pop(key, None)
        else:
            self._marks[key] = mark
