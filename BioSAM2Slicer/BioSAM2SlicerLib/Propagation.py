"""A propagation: masks arrive slice by slice, with how far it is, and can be stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from biosam2.masks import floods
from biosam2.service import messages as m
from biosam2.session.entries import Propagated
from msgspec.structs import replace
from numpy.typing import NDArray
from slicer.i18n import tr as _

from .DrawnMasks import DrawnMasks
from .History import Step
from .SessionJournal import Remark, SessionJournal
from .Signal import Signal
from .SliceLedger import SliceLedger
from .WorkerSession import WorkerSession

# Updates that the worker may be ahead of the screen.
_AHEAD = 4

# Progress is told at most this often: a progress bar that changes is painted at once, and the views with it.
_REPORT_S = 0.2

# Workers that are asked to go on at the same slice, after the first one died there.
_RESTARTS = 2

# An object has ended where this many slices in a row are empty.
_GONE = 3


@dataclass(eq=False)
class _Run:
    """A propagation under way.

    Attributes:
        step: what it is part of.
        remark: its entry in the journal; of the way that it is going now, where it goes both one after the other.
        started: time.monotonic() at its beginning.
        untilGone: whether it ends where the object does.
        received: slices that have arrived.
        receivedHere: of them, those of this way.
        total: slices that are to come, as far as is known.
        reported: time.monotonic() when progress was told last.
        changes: by segment and slice, how much its mask differs from the one before the propagation; a slice that both
            ways pass is compared once.
        empty: by segment, how many empty slices have come in a row beyond all that are marked.
        backwardLeft: whether the way back is still to go.
        gone: whether this way was ended because the object had.
        stopped: whether the user stopped it, or did something that ends it.
        large: segments of which a mask that fills much of its slice is no surprise.
    """

    step: Step
    remark: Remark
    started: float
    untilGone: bool = False
    received: int = 0
    receivedHere: int = 0
    total: int = 0
    reported: float = 0.0
    changes: dict[tuple[str, int], float | None] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    backwardLeft: bool = False
    gone: bool = False
    stopped: bool = False
    large: set[str] = field(default_factory=set)


class Propagation:
    """Carries segments through the volume, one propagation at a time.

    Signals:
        said(str), warned(str), failed(str): one line for the user.
        progressChanged(done, total, slicesPerSecond, secondsLeft).
        arrived(): a slice was noted in the journal, and written.
        ended(broken): it is over; `broken` if the worker could not go on and has to be told everything anew.

    Args:
        worker: who does it.
        journal: where it is noted.
        ledger: where masks are written.
        marked: gives the slices with prompts of a segment.
        goOn: gives the step that the way back is part of: that of the way there, or a new one where the user has done
            something meanwhile.
    """

    def __init__(
        self,
        worker: WorkerSession,
        journal: SessionJournal,
        ledger: SliceLedger,
        marked: Callable[[str], Sequence[int]],
        goOn: Callable[[Step], Step],
    ) -> None:
        self.said = Signal()
        self.warned = Signal()
        self.failed = Signal()
        self.progressChanged = Signal()
        self.arrived = Signal()
        self.ended = Signal()
        self._worker = worker
        self._journal = journal
        self._ledger = ledger
        self._marked = marked
        self._goOn = goOn
        self._drawn = DrawnMasks()
        self._run: _Run | None = None
        # Where the last worker died, the entry and the number of slices that had arrived; and how often there.
        self._place: tuple[Remark, int] | None = None
        self._deaths = 0

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
        self._run = _Run(step, self._note(step, wanted), time.monotonic(), untilGone, backwardLeft=both)
        self._ask(self._run)

    def stop(self) -> None:
        """Stop after the slice that it is at; finished slices stay."""
        if self._run is not None:
            self._run.stopped = True
            self._worker.stopPropagation()

    def goesOn(self) -> bool:
        """The worker has died: whether what is left is to be asked of the next one.

        Not where the user had stopped it, and not where workers died at the same slice too often.
        """
        run = self._run
        if run is None or run.stopped:
            return False
        place = (run.remark, run.receivedHere)
        self._deaths = self._deaths + 1 if place == self._place else 1
        self._place = place
        return self._deaths <= _RESTARTS

    def resume(self, remark: Remark) -> bool:
        """Ask a new worker for what is left of the propagation, where this is its entry.

        The same propagation is asked for again, without what has arrived: the masks that are left come out as they
        would have.
        """
        run = self._run
        if run is None or run.remark is not remark:
            return False
        self._ask(run)
        return True

    def abandon(self) -> None:
        """Nobody is there to go on with it, or nobody who wants it."""
        self._run = None

    def forget(self, segmentId: str | None = None) -> None:
        """What was drawn of one segment or of all is no longer there to be compared with."""
        self._drawn.forget(segmentId)

    # -- inside ---------------------------------------------------------------------------------

    def _note(self, step: Step, entry: Propagated) -> Remark:
        remark = self._journal.add(entry)
        step.remarks.append(remark)
        return remark

    def _ask(self, run: _Run) -> None:
        entry = run.remark.entry
        assert isinstance(entry, Propagated)
        fields: dict[str, Any] = {
            "segments": list(entry.segments),
            "direction": entry.direction,
            "first": entry.first,
            "last": entry.last,
        }
        if run.total <= run.received:
            self._worker.send(m.CountSteps, lambda reply: self._onCounted(run, reply), **fields)
        if run.receivedHere:
            fields["skip"] = run.receivedHere
        if run.gone:
            # This way is done, but the worker has not said so.
            fields["limit"] = run.receivedHere
        self._worker.send(m.Propagate, lambda reply: self._onUpdate(run, reply), credit=_AHEAD, **fields)

    def _onCounted(self, run: _Run, reply: Any) -> None:
        if isinstance(reply, m.Done):
            run.total += int(reply.value or 0)

    def _onUpdate(self, run: _Run, reply: Any) -> None:
        # What still comes of a propagation that was abandoned is no part of the next one.
        if run is not self._run or isinstance(reply, m.Progress):
            return
        if isinstance(reply, m.Update):
            run.received += 1
            run.receivedHere += 1
            self._showPrepared(run, reply.prepared)
            entry = run.remark.entry
            assert isinstance(entry, Propagated)
            key = (reply.segment, reply.slice_index)
            mask = m.as_mask(reply.mask)
            run.remark.entry = replace(entry, finished=(*entry.finished, key))
            run.remark.scores[key] = reply.score if mask.any() else 1 - reply.score
            compared = self._drawn.change(*key, mask)
            change = run.changes.setdefault(key, compared)
            if change is not None:
                run.remark.changes[key] = change
            if run.step.inForce:
                self._ledger.write(run.step, *key, mask, reply.score)
            self.arrived.emit()
            self._worker.tell(m.Grant, of=reply.id, credit=1, received=run.receivedHere)
            self._report(run)
            self._doubt(run, *key, mask)
            self._endWithObject(run, *key, bool(mask.any()))
            return
        if isinstance(reply, m.Propagated):
            self._showPrepared(run, reply.prepared)
            entry = run.remark.entry
            assert isinstance(entry, Propagated)
            run.remark.entry = entry = replace(entry, complete=reply.complete)
            # The worker ends a propagation for an undo, for example.
            run.stopped |= not (reply.complete or run.gone)
            if run.backwardLeft and not run.stopped and run.step.inForce:
                run.backwardLeft = run.gone = False
                run.step = self._goOn(run.step)
                run.receivedHere, run.empty, run.total = 0, {}, run.received
                run.remark = self._note(run.step, replace(entry, direction="backward", finished=(), complete=False))
                self._ask(run)
                return
        if run.received:
            self._report(run, last=True)
        self._run = None
        if isinstance(reply, m.Failure):
            self.failed.emit(reply.text)
        elif isinstance(reply, m.Propagated):
            text = _("Stopped after {count} slices in {seconds:.1f} s")
            if not run.stopped:
                text = _("Ready: {count} slices in {seconds:.1f} s")
            self.said.emit(text.format(count=run.received, seconds=time.monotonic() - run.started))
        self.ended.emit(isinstance(reply, m.Failure))

    def _doubt(self, run: _Run, segmentId: str, index: int, mask: NDArray[np.bool_]) -> None:
        """Question a mask that fills much of its slice, once for each segment, unless it did where it is marked."""
        if segmentId in run.large or not floods(mask):
            return
        run.large.add(segmentId)
        if index not in self._marked(segmentId):
            text = _("The mask becomes very large on slice {n}: add a negative point there or use a box.")
            self.warned.emit(text.format(n=index))

    def _endWithObject(self, run: _Run, segmentId: str, index: int, found: bool) -> None:
        """Stop this way when every segment has been gone for some slices, beyond all that is marked on it."""
        entry = run.remark.entry
        assert isinstance(entry, Propagated)
        if not run.untilGone:
            return
        marked = self._marked(segmentId)
        # Nothing is marked on a segment that was deleted meanwhile.
        beyond = not marked or (index > max(marked) if entry.direction == "forward" else index < min(marked))
        run.empty[segmentId] = 0 if found or not beyond else run.empty.get(segmentId, 0) + 1
        if all(run.empty.get(name, 0) >= _GONE for name in entry.segments):
            run.gone = True
            self._worker.stopPropagation()

    def _showPrepared(self, run: _Run, prepared: Iterable[Any]) -> None:
        """Results on prompted slices that the propagation does not pass."""
        for one in prepared:
            if run.step.inForce:
                self._ledger.write(run.step, one.segment, one.slice_index, m.as_mask(one.mask), one.score)

    def _report(self, run: _Run, last: bool = False) -> None:
        now = time.monotonic()
        if now - run.reported < _REPORT_S and not last:
            return
        run.reported = now
        rate = run.received / max(now - run.started, 1e-3)
        left = max(run.total - run.received, 0)
        self.progressChanged.emit(run.received, run.total, rate, left / rate)
