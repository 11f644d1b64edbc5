"""A propagation: masks arrive slice by slice, with how far it is, and can be stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from biosam2.masks import floods
from biosam2.service.conversation import RunTicket
from biosam2.session.entries import Propagated
from biosam2.session.executor import Found
from msgspec.structs import replace
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..Signal import Signal
from ..worker.Worker import Worker
from .SceneResults import SceneResults
from .SceneState import SceneState
from .Step import Step
from .Steps import Steps

# Updates that the worker may be ahead of the screen.
_AHEAD = 4

# Progress is told at most this often: a progress bar that changes is painted at once, and the views with it.
_REPORT_S = 0.2

# An object has ended where this many slices in a row are empty.
_GONE = 3


@dataclass(eq=False)
class _Run:
    """A propagation under way.

    Attributes:
        step: what it is part of.
        entryId: of its entry; of the way that it is going now, where it goes both one after the other.
        first: of the entry of its first way.
        started: time.monotonic() at its beginning.
        untilGone: whether it ends where the object does.
        ticket: the request.
        received: slices that have arrived.
        receivedHere: of them, those of this way.
        total: slices that are to come, as far as is known.
        reported: time.monotonic() when progress was told last.
        empty: by segment, how many empty slices have come in a row beyond all that are marked.
        backwardLeft: whether the way back is still to go.
        gone: whether this way was ended because the object had.
        stopped: whether the user stopped it, or did something that ends it.
        large: segments of which a mask that fills much of its slice is no surprise.
    """

    step: Step
    entryId: int
    first: int
    started: float
    untilGone: bool = False
    ticket: RunTicket | None = None
    received: int = 0
    receivedHere: int = 0
    total: int = 0
    reported: float = 0.0
    empty: dict[str, int] = field(default_factory=dict)
    backwardLeft: bool = False
    gone: bool = False
    stopped: bool = False
    large: set[str] = field(default_factory=set)


class Propagation:
    """Propagates segments through the volume, one propagation at a time.

    Signals:
        said(str), warned(str), failed(str): one line for the user.
        progressChanged(done, total, slicesPerSecond, secondsLeft).
        arrived(): a slice was noted in the state, and written.
        ended(): it is over.

    Args:
        worker: runs it.
        scene: the session's state.
        results: where masks are written.
        steps: the session's.
    """

    def __init__(self, worker: Worker, scene: SceneState, results: SceneResults, steps: Steps) -> None:
        self.said = Signal()
        self.warned = Signal()
        self.failed = Signal()
        self.progressChanged = Signal()
        self.arrived = Signal()
        self.ended = Signal()
        self._worker = worker
        self._scene = scene
        self._results = results
        self._steps = steps
        self._run: _Run | None = None

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._run is not None

    @property
    def wanted(self) -> bool:
        """Whether one is under way that the user has not stopped."""
        return self._run is not None and not self._run.stopped

    def start(self, step: Step, wanted: Propagated, untilGone: bool = False) -> None:
        """Begin a propagation as part of a step.

        Args:
            step: the step.
            wanted: segments, direction and range.
            untilGone: whether to end where the object does. Upwards and downwards are then two propagations, one
                after the other, which gives the same masks as one that goes both ways.
        """
        both = untilGone and wanted.direction == "both"
        if both:
            wanted = replace(wanted, direction="forward")
        total = self._count(wanted)
        entryId = self._steps.add(step, wanted)
        self._run = _Run(step, entryId, entryId, time.monotonic(), untilGone, total=total, backwardLeft=both)
        self._ask(self._run)

    def stop(self) -> None:
        """Stop after the slice that it is at; finished slices stay."""
        run = self._run
        if run is None:
            return
        run.stopped = True
        if run.ticket is None or not run.receivedHere:
            # Nothing has arrived that would have to be noted: there is nothing to wait for.
            self._drop(run)
            self._end(run)
        else:
            run.ticket.cancel()

    def endIfUndone(self) -> None:
        """End it where its entry was undone."""
        run = self._run
        if run is not None and not self._scene.isInForce(run.entryId):
            run.stopped = True
            self._drop(run)
            self._end(run)

    def abandon(self) -> None:
        """End it, without a word."""
        run, self._run = self._run, None
        if run is not None:
            self._drop(run)

    def askAgain(self, entryId: int) -> None:
        """An entry before it was refused: ask again, where nothing has arrived yet."""
        run = self._run
        if run is not None and run.entryId > entryId and not run.received:
            self._drop(run)
            if self._scene.isInForce(run.entryId):
                self._ask(run)
            else:
                self._end(run)

    # -- inside ---------------------------------------------------------------------------------

    def _count(self, wanted: Propagated) -> int:
        """Slices that a propagation will have."""
        assert self._scene.state is not None
        return self._scene.state.count_steps(wanted.segments, wanted.direction, wanted.first, wanted.last)

    def _drop(self, run: _Run) -> None:
        """Want no more of it from the worker, which may be further than the state says."""
        if run.ticket is not None:
            run.ticket.drop()
            self._worker.forget(run.entryId)

    def _ask(self, run: _Run) -> None:
        assert self._scene.state is not None
        self._steps.save()
        run.ticket = None
        run.ticket = self._worker.propagate(
            self._scene.state, run.entryId, _AHEAD, lambda ticket: self._onChange(run, ticket)
        )

    def _onChange(self, run: _Run, ticket: RunTicket) -> None:
        if run is not self._run or ticket is not (run.ticket or ticket):
            return
        while run is self._run and (found := ticket.take()) is not None:
            self._take(run, found)
        if run is self._run and ticket.done:
            self._onDone(run, ticket)

    def _take(self, run: _Run, found: Found) -> None:
        key = (found.segment, found.slice_index)
        self._scene.take(run.entryId, found, run.first)
        mask = self._scene.shownMask(*key)
        if run.step.inForce and mask is not None:
            self._results.write(run.step, *key, mask, found.score)
        if not found.update:
            return
        run.received += 1
        run.receivedHere += 1
        self.arrived.emit()
        self._report(run)
        self._doubt(run, *key, found.mask)
        self._endWithObject(run, *key, bool(found.mask.any()))

    def _onDone(self, run: _Run, ticket: RunTicket) -> None:
        """This way is over."""
        if ticket.error is not None:
            if not run.receivedHere:
                # It was refused as it is, and would be refused whenever it is run again.
                self._scene.refuse(run.entryId)
            self.failed.emit(str(ticket.error))
            self._run = None
            self.ended.emit()
            return
        if ticket.complete:
            self._scene.complete(run.entryId)
        # Whoever else has ended it, for example an undo.
        run.stopped |= not (ticket.complete or run.gone)
        if run.backwardLeft and not run.stopped and run.step.inForce:
            self._goBack(run)
        else:
            self._end(run)

    def _goBack(self, run: _Run) -> None:
        wanted = replace(self._scene.propagation(run.entryId).anew(), direction="backward")
        run.backwardLeft = run.gone = False
        run.step = self._steps.continued(run.step)
        run.receivedHere, run.empty, run.total = 0, {}, run.received + self._count(wanted)
        run.entryId = self._steps.add(run.step, wanted)
        self._ask(run)

    def _end(self, run: _Run) -> None:
        self._run = None
        if run.received:
            self._report(run, last=True)
        text = _("Stopped after {count} slices in {seconds:.1f} s")
        if not run.stopped:
            text = _("Ready: {count} slices in {seconds:.1f} s")
        self.said.emit(text.format(count=run.received, seconds=time.monotonic() - run.started))
        self.ended.emit()

    def _doubt(self, run: _Run, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        """Warn of a mask that fills much of its slice, once for each segment, unless it did where it is marked."""
        if segmentId in run.large or not floods(mask):
            return
        run.large.add(segmentId)
        if index not in self._marked(segmentId):
            text = _("The mask becomes very large on slice {n}: add a negative point there or use a box.")
            self.warned.emit(text.format(n=index))

    def _endWithObject(self, run: _Run, segmentId: str, index: int, found: bool) -> None:
        """Stop this way when every segment has been gone for some slices, beyond all that is marked on it."""
        if not run.untilGone or run is not self._run:
            return
        entry = self._scene.propagation(run.entryId)
        marked = self._marked(segmentId)
        # Nothing is marked on a segment that was deleted meanwhile.
        beyond = not marked or (index > max(marked) if entry.direction == "forward" else index < min(marked))
        run.empty[segmentId] = 0 if found or not beyond else run.empty.get(segmentId, 0) + 1
        if all(run.empty.get(name, 0) >= _GONE for name in entry.segments):
            run.gone = True
            if run.ticket is not None:
                run.ticket.cancel()

    def _marked(self, segmentId: str) -> set[int]:
        """Slices with prompts of a segment."""
        state = self._scene.state
        return state.prompted_slices(segmentId) if state is not None and segmentId in state.segments else set()

    def _report(self, run: _Run, last: bool = False) -> None:
        now = time.monotonic()
        if now - run.reported < _REPORT_S and not last:
            return
        run.reported = now
        rate = run.received / max(now - run.started, 1e-3)
        left = max(run.total - run.received, 0)
        self.progressChanged.emit(run.received, run.total, rate, left / rate)
