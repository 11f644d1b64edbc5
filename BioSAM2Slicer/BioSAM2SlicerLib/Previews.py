"""Masks of single slices, asked for and shown while the user goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from biosam2 import Point
from biosam2.masks import floods
from biosam2.service import messages as m
from numpy.typing import NDArray
from slicer.i18n import tr as _

from .History import Step
from .SessionJournal import SessionJournal
from .Signal import Signal
from .SliceLedger import SliceLedger
from .WorkerSession import WorkerSession


@dataclass(eq=False)
class _Question:
    """A slice whose mask was asked for.

    Attributes:
        step: the step that asked last.
        again: whether prompts came since the question went out.
    """

    step: Step
    again: bool = False


class Previews:
    """What prompts on a slice give, before anything is propagated. Questions that are out of date are not drawn.

    Signals:
        warned(str), failed(str): one line for the user.
        asked(): a question was asked.
        changed(): a question was answered.

    Args:
        worker: who is asked.
        journal: the prompts.
        ledger: where masks are written.
        axis: gives the session's axis.
    """

    def __init__(
        self, worker: WorkerSession, journal: SessionJournal, ledger: SliceLedger, axis: Callable[[], str]
    ) -> None:
        self.asked = Signal()
        self.warned = Signal()
        self.failed = Signal()
        self.changed = Signal()
        self._worker = worker
        self._journal = journal
        self._ledger = ledger
        self._axis = axis
        self._questions: dict[tuple[str, int], _Question] = {}

    @property
    def waiting(self) -> list[tuple[str, int]]:
        """(segment, slice) of open questions."""
        return list(self._questions)

    def forget(self, segmentId: str | None = None) -> None:
        """Drop the questions on a segment, or all."""
        self._questions = {
            key: question for key, question in self._questions.items() if segmentId is not None and key[0] != segmentId
        }

    def show(self, step: Step, segmentId: str, index: int) -> None:
        """Show a prompted slice's mask, or take away the mask of a slice that has no prompt any more."""
        if not self._journal.on(segmentId, self._axis(), index):
            self._questions.pop((segmentId, index), None)
            if index not in self._journal.finished(segmentId):
                self._ledger.write(step, segmentId, index, None)
            return
        asked = self._questions.get((segmentId, index))
        if asked is not None:
            # The answer to the earlier question is out of date; one more will be asked when it comes.
            asked.step, asked.again = step, True
            return
        question = self._questions[segmentId, index] = _Question(step)
        self._ask(question, segmentId, index)

    def _ask(self, question: _Question, segmentId: str, index: int) -> None:
        self.asked.emit()
        self._worker.send(
            m.Predict,
            lambda reply: self._onAnswer(question, segmentId, index, reply),
            segment=segmentId,
            slice_index=index,
        )

    def _onAnswer(self, question: _Question, segmentId: str, index: int, reply: Any) -> None:
        # The answer to a question that was dropped is not one to a later question on the same slice.
        if self._questions.get((segmentId, index)) is not question:
            return
        if question.again:
            question.again = False
            self._ask(question, segmentId, index)
            return
        del self._questions[segmentId, index]
        if isinstance(reply, m.Failure):
            self.failed.emit(reply.text)
        elif isinstance(reply, m.MaskAnswer) and question.step.inForce:
            mask = m.as_mask(reply.mask)
            self._ledger.write(question.step, segmentId, index, mask)
            self._doubt(segmentId, index, mask)
        self.changed.emit()

    def _doubt(self, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        """Question a mask that is probably not what was meant."""
        prompts = self._journal.on(segmentId, self._axis(), index)
        points = [prompt for prompt in prompts if isinstance(prompt, Point)]
        if len(points) < len(prompts):
            return
        if not any(prompt.positive for prompt in points) and not mask.any():
            self.warned.emit(_("Only negative points here: the mask is empty. Click on the structure with +."))
        elif floods(mask):
            self.warned.emit(_("The mask is very large: add a negative point or use a box."))
