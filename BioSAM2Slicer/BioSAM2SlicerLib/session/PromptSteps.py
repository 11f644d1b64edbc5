"""Prompts of all kinds become steps: placed, moved, deleted, drawn, or painted."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from biosam2 import Lasso, Mask
from biosam2.errors import BioSAM2Error, PromptError
from biosam2.prompts import Prompt
from biosam2.service.conversation import Ticket
from biosam2.session.entries import Locked, Prompted, Removed, Started
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..scene.PromptNodes import PlacedPrompt, PromptNodes
from ..scene.Stroke import Stroke
from ..Signal import Signal
from ..worker.Worker import Worker
from .Previews import Previews
from .SceneResults import SceneResults
from .SceneState import SceneState
from .Step import Step
from .Steps import Steps

# Corrected slices that become prompts at one time.
_MOST_CORRECTIONS = 8


class PromptSteps:
    """What is done with prompts, as steps whose masks are shown.

    Signals:
        refused(str): why a prompt was taken away again.
        vanished(entryId, str): the network cannot take a mask prompt; the reason.

    Args:
        steps, scene, results, previews, worker: of the session.
        ensureSession: begins a session along the axis of the view that the user points at, unless one is under way.
    """

    def __init__(
        self,
        steps: Steps,
        scene: SceneState,
        results: SceneResults,
        previews: Previews,
        worker: Worker,
        ensureSession: Callable[[], None],
    ) -> None:
        self.refused = Signal()
        self.vanished = Signal()
        self._steps = steps
        self._scene = scene
        self._results = results
        self._previews = previews
        self._worker = worker
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

    def addStroke(self, segmentId: str, stroke: Stroke) -> None:
        """A stroke was drawn."""
        assert self._prompts is not None
        before = self._prompts.prompts()
        name = self._prompts.addStroke(segmentId, stroke)
        self._prompted(before, name, self._prompts.prompts()[name])

    def addMask(self, segmentId: str, index: int) -> bool:
        """What is painted on a slice becomes a prompt; False where nothing is."""
        mask = self._results.read(segmentId, index)
        if not mask.any():
            return False
        step = self._steps.new()
        self._addMask(step, segmentId, index, mask)
        self._steps.commit(step)
        return True

    def takeCorrections(self, step: Step, segmentId: str) -> None:
        """What the user painted over the model's masks becomes prompts, from which the rest follows.

        An effect on the whole segment may change hundreds of slices, more than the model can remember: then some,
        evenly spaced, become prompts, and the others stay as they are.
        """
        corrected = self._results.correctedSlices(segmentId)
        chosen = np.linspace(0, len(corrected) - 1, min(len(corrected), _MOST_CORRECTIONS)).round().astype(int)
        for index in (corrected[n] for n in chosen):
            self._addMask(step, segmentId, index, self._results.read(segmentId, index))

    def startFrom(self, segmentId: str) -> bool:
        """What a segment holds is what the session starts from; False where it is empty."""
        used = self._results.usedSlices(segmentId)
        if not used:
            return False
        step = self._steps.new()
        self._steps.add(step, Started(segmentId, self._results.readAll(segmentId)))
        for index in used:
            self._results.adopt(segmentId, index, step)
        if segmentId not in self._scene.prompted:
            masks = {index: self._results.read(segmentId, index) for index in used}
            largest = max(used, key=lambda index: int(masks[index].sum()))
            self._addMask(step, segmentId, largest, masks[largest])
        self._steps.commit(step)
        return True

    def lock(self, segmentId: str, index: int, locked: bool) -> bool:
        """Lock a slice as it is now, or unlock it; False for a segment that has no prompt."""
        if segmentId not in self._scene.prompted:
            return False
        step = self._steps.new()
        mask = self._results.read(segmentId, index)
        if locked and self._results.isUsers(segmentId, index):
            self._addMask(step, segmentId, index, mask)
        self._steps.add(step, Locked(segmentId, index, locked, mask if locked else None))
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
        prompt = self._accepted(before, placed)
        if prompt is None:
            return
        step = self._steps.new(before)
        index = self._scene.sliceOf(prompt)
        if self._results.isUsers(placed.segmentId, index):
            # Refine what is painted there, not what the model would draw.
            self._addMask(step, placed.segmentId, index, self._results.read(placed.segmentId, index))
        self._addPrompt(step, placed.segmentId, prompt, name)
        self._steps.commit(step)
        self._previews.show(step, placed.segmentId, index)

    def _accepted(
        self, before: dict[str, PlacedPrompt], placed: PlacedPrompt, moved: Prompt | None = None
    ) -> Prompt | None:
        """The prompt of a markup; where it does not fit or stands on a locked slice, the markups are again as before.

        Args:
            before: the markups before.
            placed: the markup.
            moved: the prompt that it was until it was moved.
        """
        assert self._prompts is not None
        state = self._scene.state
        assert state is not None
        segmentId = placed.segmentId
        try:
            prompt = placed.on(state.frames)
            index = self._scene.sliceOf(prompt)
            if isinstance(prompt, Lasso) and isinstance(moved, Lasso) and moved.slice_index == index:
                # It adds to what it added to before, or erases from it.
                prompt = msgspec.structs.replace(prompt, shown=moved.shown)
            prompt = prompt.completed(
                lambda: self._results.read(segmentId, index), lambda: self._beneath(segmentId, index)
            )
            state.check(Prompted(segmentId, prompt))
        except PromptError as error:
            self._prompts.restore(before)
            self.refused.emit(str(error))
            return None
        if index in self._scene.segment(segmentId).locked:
            self._prompts.restore(before)
            self.refused.emit(_("Slice {n} is locked; unlock it to change it.").format(n=index))
            return None
        return prompt

    def _beneath(self, segmentId: str, index: int) -> NDArray[np.bool_]:
        """What a slice shows without the lassos on it that nothing refined.

        A painted slice is a mask prompt without a markup: it is not taken away from under a lasso.
        """
        assert self._scene.state is not None
        drawn = self._scene.state.first_drawn(segmentId, index)
        if drawn is not None and isinstance(drawn[1], Lasso) and drawn[1].shown is not None:
            return drawn[1].shown
        return self._results.read(segmentId, index)

    def _onMoved(self, name: str, placed: PlacedPrompt, last: PlacedPrompt) -> None:
        old = self._known(name, placed)
        if old is None or self._prompts is None:
            return
        before = self._prompts.prompts()
        before[name] = last
        prompt = self._accepted(before, placed, old)
        if prompt is None:
            return
        step = self._steps.new(before)
        self._retract(step, placed.segmentId, name)
        self._addPrompt(step, placed.segmentId, prompt, name)
        self._steps.commit(step)
        for index in {self._scene.sliceOf(old), self._scene.sliceOf(prompt)}:
            self._previews.show(step, placed.segmentId, index)

    def _onRemoved(self, name: str, placed: PlacedPrompt) -> None:
        old = self._known(name, placed)
        if old is None or self._prompts is None:
            return
        before = self._prompts.prompts()
        before[name] = placed
        step = self._steps.new(before)
        self._retract(step, placed.segmentId, name)
        self._steps.commit(step)
        self._previews.show(step, placed.segmentId, self._scene.sliceOf(old))

    def _known(self, name: str, placed: PlacedPrompt) -> Prompt | None:
        """The prompt of a markup as the session knows it."""
        return dict(self._scene.markups(placed.segmentId)).get(name)

    def _retract(self, step: Step, segmentId: str, name: str) -> None:
        names = [known for known, _prompt in self._scene.markups(segmentId)]
        self._steps.add(step, Removed(segmentId, names.index(name)))

    def _addPrompt(self, step: Step, segmentId: str, prompt: Prompt, name: str) -> None:
        state = self._scene.state
        assert state is not None
        told = state.told_with(segmentId, prompt)
        entryId = self._steps.add(step, Prompted(segmentId, prompt), name)
        if told.mask is not None:
            # The network is shown the slice's mask, of which a lasso draws a part.
            drawn = Mask(told.slice_index, told.mask)
            self._worker.check(
                state, drawn, lambda ticket: self._onLassoChecked(entryId, step, segmentId, drawn.slice_index, ticket)
            )

    def _onLassoChecked(self, entryId: int, step: Step, segmentId: str, index: int, ticket: Ticket) -> None:
        """A lasso that the network cannot take is taken out of markups and voxels too."""
        name = self._scene.markupOf(entryId) if self._scene.isInForce(entryId) else ""
        self._onChecked(entryId, ticket)
        if self._scene.isInForce(entryId) or self._prompts is None or not name:
            return
        self._steps.dropMarkup(name)
        self._prompts.remove(name)
        if segmentId in self._scene.segments:
            self._previews.show(step, segmentId, index)
        else:
            self._results.show(step, segmentId, index, None)

    def _addMask(self, step: Step, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        state = self._scene.state
        assert state is not None
        prompt = Mask(index, mask)
        try:
            entryId = self._steps.add(step, Prompted(segmentId, prompt))
        except PromptError:
            # An erased slice tells nothing of a segment that is not marked anywhere else.
            return
        self._results.adopt(segmentId, index, step)
        self._worker.check(state, prompt, lambda ticket: self._onChecked(entryId, ticket))

    def _onChecked(self, entryId: int, ticket: Ticket) -> None:
        try:
            ticket.result()
        except PromptError as error:
            self.vanished.emit(entryId, str(error))
        except BioSAM2Error:
            # Whatever else is wrong is told by the request that needs the prompt.
            return
