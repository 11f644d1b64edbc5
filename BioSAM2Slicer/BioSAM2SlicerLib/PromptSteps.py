"""Prompts of all kinds become steps: placed, moved, deleted, drawn, or painted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from biosam2 import Mask
from biosam2.journal import Prompted, Removed
from numpy.typing import NDArray

from .History import Step
from .Previews import Previews
from .PromptNodes import PlacedPrompt, PromptNodes
from .SessionJournal import SessionJournal, sliceOf
from .SessionSteps import SessionSteps
from .SliceLedger import SliceLedger


class PromptSteps:
    """What is done with prompts, as steps whose masks are shown.

    Args:
        steps, journal, ledger, previews: of the session.
        axis: gives the session's axis.
        ensureSession: begins a session along the axis of the view that the user points at, unless one is under way.
    """

    def __init__(
        self,
        steps: SessionSteps,
        journal: SessionJournal,
        ledger: SliceLedger,
        previews: Previews,
        axis: Callable[[], str],
        ensureSession: Callable[[], None],
    ) -> None:
        self._steps = steps
        self._journal = journal
        self._ledger = ledger
        self._previews = previews
        self._axis = axis
        self._ensureSession = ensureSession
        self._prompts: PromptNodes | None = None

    def open(self, prompts: PromptNodes | None) -> None:
        """Listen to these markups; None to none."""
        self._prompts = prompts
        if prompts is not None:
            prompts.added.connect(self._onAdded)
            prompts.moved.connect(self._onMoved)
            prompts.removed.connect(self._onRemoved)

    def addBox(self, segmentId: str, minIjk: tuple[float, ...], maxIjk: tuple[float, ...]) -> None:
        """A box was drawn."""
        assert self._prompts is not None
        before = self._prompts.prompts()
        name = self._prompts.addBox(segmentId, minIjk, maxIjk)  # type: ignore[arg-type]
        self._prompted(before, name, self._prompts.prompts()[name])

    def addMask(self, segmentId: str, index: int) -> bool:
        """What is painted on a slice becomes a prompt; False where nothing is."""
        mask = self._ledger.read(segmentId, index)
        if not mask.any():
            return False
        step = self._steps.new()
        self._addMask(step, segmentId, index, mask)
        self._steps.commit(step)
        return True

    def takeCorrections(self, step: Step, segmentId: str) -> None:
        """What the user painted over our masks is the user's: it becomes prompts, from which the rest follows."""
        for index in self._ledger.corrected(segmentId):
            mask = self._ledger.read(segmentId, index)
            if mask.any():
                self._addMask(step, segmentId, index, mask)

    # -- inside ---------------------------------------------------------------------------------

    def _onAdded(self, name: str, placed: PlacedPrompt) -> None:
        assert self._prompts is not None
        self._ensureSession()
        before = self._prompts.prompts()
        before.pop(name, None)
        self._prompted(before, name, placed)

    def _prompted(self, before: dict[str, PlacedPrompt], name: str, placed: PlacedPrompt) -> None:
        step = self._steps.new(before)
        self._steps.tell(step, Prompted(placed.segmentId, placed.prompt), name)
        self._steps.commit(step)
        self._previews.show(step, placed.segmentId, sliceOf(placed.prompt, self._axis()))

    def _onMoved(self, name: str, placed: PlacedPrompt) -> None:
        old = dict(self._journal.prompts(placed.segmentId)).get(name)
        if old is None or self._prompts is None:
            return
        before = self._prompts.prompts()
        before[name] = PlacedPrompt(placed.segmentId, old)  # type: ignore[arg-type]
        step = self._steps.new(before)
        self._retract(step, placed.segmentId, name)
        self._steps.tell(step, Prompted(placed.segmentId, placed.prompt), name)
        self._steps.commit(step)
        for index in {sliceOf(old, self._axis()), sliceOf(placed.prompt, self._axis())}:
            self._previews.show(step, placed.segmentId, index)

    def _onRemoved(self, name: str, placed: PlacedPrompt) -> None:
        if self._prompts is None or name not in dict(self._journal.prompts(placed.segmentId)):
            return
        before = self._prompts.prompts()
        before[name] = placed
        step = self._steps.new(before)
        self._retract(step, placed.segmentId, name)
        self._steps.commit(step)
        self._previews.show(step, placed.segmentId, sliceOf(placed.prompt, self._axis()))

    def _retract(self, step: Step, segmentId: str, name: str) -> None:
        names = [known for known, _ in self._journal.prompts(segmentId)]
        self._steps.tell(step, Removed(segmentId, names.index(name)), name)

    def _addMask(self, step: Step, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        self._ledger.adopt(segmentId, index)
        number = 1 + sum(len(self._journal.masks(name)) for name in self._journal.segments())
        self._steps.tell(step, Prompted(segmentId, Mask(index, mask)), f"m{number}")
