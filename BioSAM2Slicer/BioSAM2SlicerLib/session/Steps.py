"""What the user does, as steps that are undone and redone as a whole: entries, markups and voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from biosam2.session.entries import Cleared, Entry, Removed

from ..scene.Parameters import readParameters, writeParameters
from ..scene.PromptNodes import PlacedPrompt, PromptNodes
from ..Signal import Signal
from .SceneResults import SceneResults
from .SceneState import SceneState
from .Step import Step


class Steps:
    """The steps of one input.

    Signals:
        changed(): a step was done, undone or redone.
        given(): the user gave a prompt or a correction; a propagation is neither.
        moving(): what a propagation under way goes by is going to change: it ends, as in `biosam2.Session`.

    Attributes:
        saveState: lets the Segment Editor keep the segmentation as it is before a step; None where its undo is not in
            use.

    Args:
        node: gives the node in which the session is kept, so that it is saved with the scene.
        scene: the session's state.
        results: holds the voxels.
        connect: called before a step about which the worker will be asked.

    Example:
        >>> step = steps.new()
        >>> steps.add(step, Prompted("Segment_1", Point((3, 4, 5))), "p1")
        >>> steps.commit(step)
        >>> steps.undo()
        True
    """

    def __init__(
        self,
        node: Callable[[], Any],
        scene: SceneState,
        results: SceneResults,
        connect: Callable[[], None] = lambda: None,
    ) -> None:
        self.changed = Signal()
        self.given = Signal()
        self.moving = Signal()
        self.saveState: Callable[[], Any] | None = None
        self._node = node
        self._scene = scene
        self._results = results
        self._connect = connect
        self._prompts: PromptNodes | None = None
        self._done: list[Step] = []
        self._undone: list[Step] = []

    @property
    def done(self) -> tuple[Step, ...]:
        """Steps that can be undone, the last one last."""
        return tuple(self._done)

    @property
    def undone(self) -> tuple[Step, ...]:
        """Steps that can be redone, the next one last."""
        return tuple(self._undone)

    @property
    def nbytes(self) -> int:
        """Memory that all steps take."""
        return sum(step.nbytes for step in (*self._done, *self._undone))

    def open(self, prompts: PromptNodes | None) -> None:
        """Begin with these markups and without a step; None for no input."""
        self._prompts = prompts
        self.clear()

    def new(self, before: dict[str, PlacedPrompt] | None = None, byOthers: bool = False) -> Step:
        """A step that begins now, or began with these markups.

        Args:
            before: the markups before it.
            byOthers: whether it is an edit made elsewhere, which is there already, and about which the worker is not
                asked.
        """
        assert self._prompts is not None
        self._results.look()
        if not byOthers:
            self._connect()
        head = self._scene.head
        step = Step(head, head, self._prompts.prompts() if before is None else before, stateSaved=byOthers)
        if not byOthers and self.saveState is not None:
            self.saveState()
            step.stateSaved = True
        return step

    def add(self, step: Step, entry: Entry, markup: str = "") -> int:
        """Make an entry part of a step; see `SceneState.add`."""
        if isinstance(entry, Removed | Cleared):
            self.moving.emit()
        step.after = self._scene.add(entry, markup)
        return step.after

    def commit(self, step: Step, given: bool = True) -> None:
        """The step is done; of the steps before it, as many are kept as the user wants.

        Args:
            step: the step.
            given: whether it is a prompt or a correction.
        """
        assert self._prompts is not None
        step.promptsAfter = self._prompts.prompts()
        self._undone.clear()
        self._done.append(step)
        self.keep(readParameters(self._node()).undoStates)
        self.save()
        self.changed.emit()
        if given:
            self.given.emit()

    def continued(self, step: Step) -> Step:
        """The step that what follows from a step belongs to: itself, or a new one where others were done meanwhile,
        which are undone before it."""
        if self._done and self._done[-1] is step:
            return step
        step = self.new()
        self.commit(step, given=False)
        return step

    def dropMarkup(self, name: str) -> None:
        """Undo and redo bring a markup back no more: the network refused its prompt."""
        for step in (*self._done, *self._undone):
            step.promptsBefore.pop(name, None)
            step.promptsAfter.pop(name, None)

    def keep(self, count: int) -> None:
        """Forget the oldest steps beyond this many, at least one."""
        del self._done[:-count]
        del self._undone[:-count]

    def clear(self) -> None:
        """Forget all steps."""
        self._done.clear()
        self._undone.clear()

    def undo(self, voxels: bool = True) -> bool:
        """Undo the last step; False if there is none.

        Args:
            voxels: False where the segmentation is already as it was before the step.
        """
        self._results.look()
        if self._prompts is None or not self._done:
            return False
        step = self._done.pop()
        self._undone.append(step)
        step.inForce = False
        self._results.undo(step, voxels)
        self._prompts.restore(step.promptsBefore)
        self._move(step, step.before)
        return True

    def redo(self, voxels: bool = True) -> bool:
        """Redo the step that was undone last; False if there is none.

        Args:
            voxels: False where the segmentation is already as it was after the step.
        """
        self._results.look()
        if self._prompts is None or not self._undone:
            return False
        step = self._undone.pop()
        self._done.append(step)
        step.inForce = True
        self._results.redo(step, voxels)
        self._prompts.restore(step.promptsAfter)
        self._move(step, step.after)
        return True

    def save(self) -> None:
        """Keep the session in the scene, and which slices the user changed."""
        node = self._node()
        kept = replace(readParameters(node), session=self._scene.toText(), corrected=self._results.toText())
        writeParameters(node, kept)

    def _move(self, step: Step, head: int) -> None:
        if step.before != step.after:
            self.moving.emit()
            self._scene.moveTo(head)
        self.save()
        self.changed.emit()
