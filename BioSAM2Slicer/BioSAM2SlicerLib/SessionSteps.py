"""What the user does, as steps: noted in the journal, told to the worker, kept in the scene, taken back as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from biosam2.service import messages as m
from biosam2.session.entries import Entry

from .History import History, Step
from .Parameters import readParameters, writeParameters
from .PromptNodes import PlacedPrompt, PromptNodes
from .SessionJournal import SessionJournal
from .Signal import Signal
from .SliceLedger import SliceLedger
from .WorkerSession import WorkerSession


class SessionSteps:
    """The stack of steps of one input. A step is prompts, journal and voxels together.

    Signals:
        changed(): a step was done, taken back or done again.

    Args:
        node: gives the node in which the journal is kept, so that it is saved with the scene.
        worker: is told.
        journal: notes.
        ledger: holds the voxels.
    """

    def __init__(
        self, node: Callable[[], Any], worker: WorkerSession, journal: SessionJournal, ledger: SliceLedger
    ) -> None:
        self.changed = Signal()
        self.history = History()
        self._node = node
        self._worker = worker
        self._journal = journal
        self._ledger = ledger
        self._prompts: PromptNodes | None = None

    def open(self, prompts: PromptNodes | None) -> None:
        """Begin with these prompts and an empty stack; None for no input."""
        self._prompts = prompts
        self.history.clear()

    def new(self, before: dict[str, PlacedPrompt] | None = None, connect: bool = True) -> Step:
        """A step that begins now, or began with these prompts.

        Args:
            before: the markups before it.
            connect: whether the worker has to be told of it.
        """
        assert self._prompts is not None
        self._ledger.look()
        if connect and self._worker.down:
            # Before the step is in the journal, which a new worker is given.
            self._worker.connect()
        return Step(self._prompts.prompts() if before is None else before, worker=self._worker.number)

    def tell(self, step: Step, entry: Entry, promptId: str = "") -> None:
        """Note it in the journal, and tell the worker."""
        remark = self._journal.add(entry, promptId)
        step.remarks.append(remark)
        self._worker.replay(remark)

    def commit(self, step: Step) -> None:
        """The step is done."""
        assert self._prompts is not None
        step.promptsAfter = self._prompts.prompts()
        self.history.commit(step, readParameters(self._node()).undoStates)
        self.save()
        self.changed.emit()

    def undo(self, voxels: bool = True) -> bool:
        """Take back the last step: prompts, journal and voxels together; False if there is none.

        Args:
            voxels: False where the segmentation is already as it was before the step.
        """
        self._ledger.look()
        step = self.history.takeBack() if self._prompts is not None else None
        if step is None:
            return False
        self._ledger.undo(step, voxels)
        assert self._prompts is not None
        self._prompts.restore(step.promptsBefore)
        for remark in step.remarks:
            self._journal.drop(remark)
            if step.worker == self._worker.number and self._worker.begun:
                self._worker.send(m.Undo)
        self.save()
        self.changed.emit()
        return True

    def redo(self, voxels: bool = True) -> bool:
        """Put the step that was undone last in force again; False if there is none.

        Args:
            voxels: False where the segmentation is already as it was after the step.
        """
        self._ledger.look()
        step = self.history.putBack() if self._prompts is not None else None
        if step is None:
            return False
        self._ledger.redo(step, voxels)
        assert self._prompts is not None
        self._prompts.restore(step.promptsAfter)
        self._journal.remarks += step.remarks
        for remark in step.remarks:
            if step.worker == self._worker.number:
                self._worker.send(m.Redo)
            else:
                self._worker.replay(remark)
        step.worker = self._worker.number
        self.save()
        self.changed.emit()
        return True

    def save(self) -> None:
        """Keep the journal in the scene, and which slices are the user's."""
        node = self._node()
        kept = replace(readParameters(node), journal=self._journal.toText(), corrected=self._ledger.toText())
        writeParameters(node, kept)
