"""Prompts of all kinds become steps: placed, moved, deleted, drawn, or painted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from biosam2 import Mask
from biosam2.session.entries import Locked, Prompted, Removed, Started
from numpy.typing import NDArray
from slicer.i18n import tr as _

from .History import Step
from .Previews import Previews
from .PromptNodes import PlacedPrompt, PromptNodes
from .SessionJournal import SessionJournal, sliceOf
from .SessionSteps import SessionSteps
from .Signal import Signal
from .SliceLedger import SliceLedger

# Corrected slices that become prompts at one time.
_MOST_CORRECTIONS = 8


class PromptSteps:
    """What is done with prompts, as steps whose masks are shown.

    Signals:
        refused(str): why a prompt was taken away again.

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
        self.refused = Signal()
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
        """What the user painted over our masks is the user's: it becomes prompts, from which the rest follows.

        An effect on the whole segment may change hundreds of slices, more than the model can remember: then some,
        evenly spaced, become prompts, and the others stay as they are.
        """
        corrected = self._ledger.corrected(segmentId)
        chosen = np.linspace(0, len(corrected) - 1, min(len(corrected), _MOST_CORRECTIONS)).round().astype(int)
        for index in (corrected[n] for n in chosen):
            self._addMask(step, segmentId, index, self._ledger.read(segmentId, index))

    def startFrom(self, segmentId: str) -> bool:
        """What a segment holds is what the session starts from; False where it is empty."""
        used = self._ledger.usedSlices(segmentId)
        if not used:
            return False
        step = self._steps.new()
        self._steps.tell(step, Started(segmentId, self._ledger.readAll(segmentId)))
        for index in used:
            self._ledger.adopt(segmentId, index, step)
        if not self._journal.prompts(segmentId):
            masks = {index: self._ledger.read(segmentId, index) for index in used}
            largest = max(used, key=lambda index: int(masks[index].sum()))
            self._addMask(step, segmentId, largest, masks[largest])
        self._steps.commit(step)
        return True

    def lock(self, segmentId: str, index: int, locked: bool) -> bool:
        """Lock a slice as it is now, or unlock it; False for a segment that has no prompt."""
        if not self._journal.prompts(segmentId):
            return False
        step = self._steps.new()
        if locked and self._ledger.isTheirs(segmentId, index):
            self._addMask(step, segmentId, index, self._ledger.read(segmentId, index))
        self._steps.tell(
            step, Locked(segmentId, index, locked, self._ledger.read(segmentId, index) if locked else None)
        )
        self._steps.commit(step)
        return True

    # -- inside ---------------------------------------------------------------------------------

    def _onAdded(self, name: str, placed: PlacedPrompt) -> None:
        assert self._prompts is not None
        self._ensureSession()
        before = self._prompts.prompts()
        before.pop(name, None)
        self._prompted(before, name, placed)

    def _prompted(self, before: dict[str, PlacedPrompt], name: str, placed: PlacedPrompt) -> None:
        if self._refuseLocked(before, placed):
            return
        step = self._steps.new(before)
        index = sliceOf(placed.prompt, self._axis())
        if self._ledger.isTheirs(placed.segmentId, index):
            # Refine what is painted there, not what the model would draw.
            self._addMask(step, placed.segmentId, index, self._ledger.read(placed.segmentId, index))
        self._steps.tell(step, Prompted(placed.segmentId, placed.prompt), name)
        self._steps.commit(step)
        self._previews.show(step, placed.segmentId, index)

    def _refuseLocked(self, before: dict[str, PlacedPrompt], placed: PlacedPrompt) -> bool:
        """Whether a prompt came to stand on a locked slice; then the markups are again as they were."""
        assert self._prompts is not None
        index = sliceOf(placed.prompt, self._axis())
        if index not in self._journal.locked(placed.segmentId):
            return False
        self._prompts.restore(before)
        self.refused.emit(_("Slice {n} is locked; unlock it to change it.").format(n=index))
        return True

    def _onMoved(self, name: str, placed: PlacedPrompt) -> None:
        old = dict(self._journal.prompts(placed.segmentId)).get(name)
        if old is None or self._prompts is None:
            return
        before = self._prompts.prompts()
        before[name] = PlacedPrompt(placed.segmentId, old)  # type: ignore[arg-type]
        if self._refuseLocked(before, placed):
            return
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
        names = [known for known, _prompt in self._journal.prompts(segmentId)]
        self._steps.tell(step, Removed(segmentId, names.index(name)), name)

    def _addMask(self, step: Step, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        if not mask.any() and not self._journal.prompts(segmentId):
            return
        self._ledger.adopt(segmentId, index, step)
        number = 1 + sum(len(self._journal.masks(name)) for name in self._journal.segments())
        self._steps.tell(step, Prompted(segmentId, Mask(index, mask)), f"m{number}")
