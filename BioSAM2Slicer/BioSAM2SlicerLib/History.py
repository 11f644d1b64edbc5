"""Steps that can be taken back, and done again."""

from __future__ import annotations

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
        worker: number of the worker that was told about it.
        inForce: whether it is done and not taken back.
    """

    promptsBefore: dict[str, PlacedPrompt]
    promptsAfter: dict[str, PlacedPrompt] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    changes: list[SliceChange] = field(default_factory=list)
    worker: int = 0
    inForce: bool = True


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
    def undone(self) -> tuple[Step, ...]:
        """Steps that can be done again, the next one last."""
        return tuple(self._undone)

    def commit(self, step: Step, keep: int) -> None:
        """A step was done; of the steps before it, as many are kept as make `keep` with it."""
        self._undone.clear()
        self._done.append(step)
        del self._done[:-keep]

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
