"""Steps that can be taken back, and done again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .PromptNodes import PlacedPrompt
from .SegmentSlices import SliceChange
from .SessionJournal import Remark


@dataclass(eq=False)
class Step:
    """What one undo takes back: remarks in the journal, prompts, and voxels.

    Masks that the worker answers later still become part of the step that asked for them.

    Attributes:
        promptsBefore: the markups before the step.
        promptsAfter: the markups after it.
        remarks: what it added to the journal.
        changes: voxels that it wrote.
        marks: whose the slices were before, see `SliceLedger`; while the step is taken back, whose they are after it.
        worker: number of the worker that was told about it.
        inForce: whether it is done and not taken back.
        byOthers: whether it is an edit made elsewhere, in the Segment Editor for example.
    """

    promptsBefore: dict[str, PlacedPrompt]
    promptsAfter: dict[str, PlacedPrompt] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    changes: list[SliceChange] = field(default_factory=list)
    marks: dict[tuple[str, int], str] = field(default_factory=dict)
    worker: int = 0
    inForce: bool = True
    byOthers: bool = False

    @property
    def nbytes(self) -> int:
        """Memory that its voxels take."""
        return sum(change.nbytes for change in self.changes)

    def traces(self) -> dict[str, int]:
        """What it changes, see `tracesOf`."""
        return tracesOf(self.changes)


def tracesOf(changes: Iterable[SliceChange]) -> dict[str, int]:
    """For each segment that changes as a whole, the trace of its voxels; what is changed and changed back cancels."""
    found: dict[str, int] = {}
    for change in changes:
        found[change.segmentId] = found.get(change.segmentId, 0) ^ change.trace
    return {name: trace for name, trace in found.items() if trace}


class History:
    """The stack of steps.

    Example:
        >>> history = History()
        >>> history.commit(step, keep=20)
        >>> history.takeBack() is step
        True
    """

    def __init__(self) -> None:
        self._done: list[Step] = []
        self._undone: list[Step] = []

    @property
    def done(self) -> tuple[Step, ...]:
        """Steps that can be taken back, the last one last."""
        return tuple(self._done)

    @property
    def nbytes(self) -> int:
        """Memory that all steps take."""
        return sum(step.nbytes for step in (*self._done, *self._undone))

    @property
    def undone(self) -> tuple[Step, ...]:
        """Steps that can be done again, the next one last."""
        return tuple(self._undone)

    def commit(self, step: Step, keep: int) -> None:
        """A step was done; of the steps before it, as many are kept as make `keep` with it."""
        self._undone.clear()
        self._done.append(step)
        self.keep(keep)

    def keep(self, count: int) -> None:
        """Forget the oldest steps beyond this many, at least one."""
        del self._done[:-count]
        del self._undone[:-count]

    def takeBack(self) -> Step | None:
        """The last step, which is not in force any more; None if there is none."""
        if not self._done:
            return None
        step = self._done.pop()
        step.inForce = False
        self._undone.append(step)
        return step

    def putBack(self) -> Step | None:
        """The step that was taken back last, in force again; None if there is none."""
        if not self._undone:
            return None
        step = self._undone.pop()
        step.inForce = True
        self._done.append(step)
        return step

    def clear(self) -> None:
        """Nothing can be taken back any more."""
        self._done.clear()
        self._undone.clear()
