"""Masks of single slices, asked for and shown while the user goes on."""

from __future__ import annotations

import numpy as np
from biosam2.errors import BioSAM2Error
from biosam2.masks import floods
from biosam2.service.conversation import Ticket
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..Signal import Signal
from ..worker.Worker import Worker
from .SceneResults import SceneResults
from .SceneState import SceneState
from .Step import Step
from .Steps import Steps


class Previews:
    """What prompts on a slice give, before anything is propagated. Masks that are out of date are not drawn.

    Signals:
        warned(str), failed(str): one line for the user.
        asked(): a question was asked.
        changed(): a question was answered.

    Args:
        worker: is asked.
        scene: the session's state.
        results: where masks are written.
        steps: the session's.
    """

    def __init__(self, worker: Worker, scene: SceneState, results: SceneResults, steps: Steps) -> None:
        self.asked = Signal()
        self.warned = Signal()
        self.failed = Signal()
        self.changed = Signal()
        self._worker = worker
        self._scene = scene
        self._results = results
        self._steps = steps
        # Slices whose mask was asked for, and the step that asked last.
        self._questions: dict[tuple[str, int], Step] = {}

    @property
    def waiting(self) -> bool:
        """Whether a question is open."""
        return bool(self._questions)

    def forget(self, segmentId: str | None = None) -> None:
        """Drop the questions on a segment, or all."""
        self._questions = {
            key: step for key, step in self._questions.items() if segmentId is not None and key[0] != segmentId
        }

    def show(self, step: Step, segmentId: str, index: int) -> None:
        """Show what the session says of a slice; the network is asked where only it knows."""
        state = self._scene.state
        assert state is not None
        if not state.is_to_predict(segmentId, index):
            self._questions.pop((segmentId, index), None)
            mask = self._scene.shownMask(segmentId, index)
            if mask is not None:
                self._results.show(step, segmentId, index, mask)
            return
        self._questions[segmentId, index] = step
        self.asked.emit()
        # The answer to an earlier question about the slice is out of date, and does not come any more.
        self._worker.predict(state, segmentId, index, lambda ticket: self._onAnswer(segmentId, index, ticket))

    def _onAnswer(self, segmentId: str, index: int, ticket: Ticket) -> None:
        step = self._questions.pop((segmentId, index), None)
        if step is None:
            return
        try:
            mask = ticket.result()
        except BioSAM2Error as error:
            self.failed.emit(str(error))
        else:
            unknown = self._isUnknown(segmentId, index)
            if unknown and step.inForce:
                self._results.write(step, segmentId, index, mask)
                self._doubt(segmentId, index, mask)
            elif unknown and self._steps.done:
                # The prompts that are left may not have been answered.
                self.show(self._steps.done[-1], segmentId, index)
        self.changed.emit()

    def _isUnknown(self, segmentId: str, index: int) -> bool:
        """Whether nothing better is known of a slice than the network's answer to its prompts."""
        state = self._scene.state
        if state is None or segmentId not in state.segments:
            return False
        return state.is_to_predict(segmentId, index) or self._scene.shownMask(segmentId, index) is None

    def _doubt(self, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        """Warn of a mask that is probably not what was meant."""
        assert self._scene.state is not None
        prompt = self._scene.state.prompt_on(segmentId, index)
        if prompt is None or prompt.box is not None or prompt.drawn is not None:
            return
        if not any(positive for _row, _column, positive in prompt.points) and not mask.any():
            self.warned.emit(_("Only negative points on this slice: the mask is empty. Add a positive point."))
        elif floods(mask):
            self.warned.emit(_("The mask is very large: add a negative point or use a box."))
