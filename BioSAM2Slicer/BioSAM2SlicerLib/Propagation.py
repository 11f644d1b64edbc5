"""A propagation: masks arrive slice by slice, with how far it is, and can be stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import slicer
from biosam2.journal import Propagated
from biosam2.service import messages as m
from slicer.i18n import tr as _

from .History import Step
from .SessionJournal import Remark
from .Signal import Signal
from .SliceLedger import SliceLedger
from .WorkerSession import WorkerSession

# Updates that the worker may be ahead of the screen.
_AHEAD = 4


@dataclass(eq=False)
class _Run:
    """A propagation under way."""

    step: Step
    remark: Remark
    started: float
    received: int = 0
    total: int = 0


class Propagation:
    """Carries segments through the volume, one propagation at a time.

    Signals:
        said(str), failed(str): one line for the user.
        progressChanged(done, total, slicesPerSecond, secondsLeft).
        ended(broken): it is over; `broken` if the worker could not go on and has to be told everything anew.

    Args:
        worker: who does it.
        ledger: where masks are written.
    """

    def __init__(self, worker: WorkerSession, ledger: SliceLedger) -> None:
        self.said = Signal()
        self.failed = Signal()
        self.progressChanged = Signal()
        self.ended = Signal()
        self._worker = worker
        self._ledger = ledger
        self._segmentation: Any = None
        self._run: _Run | None = None
        self._surface = False

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._run is not None

    def start(self, step: Step, remark: Remark, segmentationNode: Any) -> None:
        """Do what the remark says, as part of a step."""
        entry = remark.entry
        assert isinstance(entry, Propagated)
        self._segmentation = segmentationNode
        self._run = _Run(step, remark, time.monotonic())
        self._throttleSurface(True)
        fields = {
            "segments": list(entry.segments),
            "direction": entry.direction,
            "first": entry.first,
            "last": entry.last,
        }
        self._worker.send(m.CountSteps, self._onCounted, **fields)
        self._worker.send(m.Propagate, self._onUpdate, credit=_AHEAD, **fields)
        self.said.emit(_("Propagating …"))

    def stop(self) -> None:
        """Stop after the slice that it is at; finished slices stay."""
        if self._run is not None:
            self._worker.tell(m.Cancel)

    def abandon(self) -> None:
        """Nobody is there to go on with it, or nobody who wants it."""
        if self._run is not None:
            self._run = None
            self._throttleSurface(False)

    # -- inside ---------------------------------------------------------------------------------

    def _onCounted(self, reply: Any) -> None:
        if self._run is not None and isinstance(reply, m.Done):
            self._run.total = int(reply.value or 0)

    def _onUpdate(self, reply: Any) -> None:
        run = self._run
        if run is None or isinstance(reply, m.Progress):
            return
        if isinstance(reply, m.Update):
            run.received += 1
            self._showPrepared(run, reply.prepared)
            entry = run.remark.entry
            assert isinstance(entry, Propagated)
            key = (reply.segment, reply.slice_index)
            mask = m.as_mask(reply.mask)
            run.remark.entry = replace(entry, finished=(*entry.finished, key))
            run.remark.scores[key] = reply.score if mask.any() else 1 - reply.score
            if run.step.inForce:
                self._ledger.write(run.step, *key, mask, reply.score)
            self._worker.tell(m.Grant, of=reply.id, credit=1, received=run.received)
            self._report(run)
            return
        self._run = None
        self._throttleSurface(False)
        if isinstance(reply, m.Failure):
            self.failed.emit(reply.text)
        elif isinstance(reply, m.Propagated):
            self._showPrepared(run, reply.prepared)
            text = _("Ready: {count} slices in {seconds:.1f} s")
            if not reply.complete:
                text = _("Stopped after {count} slices in {seconds:.1f} s")
            self.said.emit(text.format(count=run.received, seconds=time.monotonic() - run.started))
        self.ended.emit(isinstance(reply, m.Failure))

    def _showPrepared(self, run: _Run, prepared: Iterable[Any]) -> None:
        """Results on prompted slices that the propagation does not pass."""
        for one in prepared:
            if run.step.inForce:
                self._ledger.write(run.step, one.segment, one.slice_index, m.as_mask(one.mask), one.score)

    def _report(self, run: _Run) -> None:
        rate = run.received / max(time.monotonic() - run.started, 1e-3)
        left = max(run.total - run.received, 0)
        self.progressChanged.emit(run.received, run.total, rate, left / rate)

    def _throttleSurface(self, begin: bool) -> None:
        """The surface is made again at the end, not for each slice."""
        name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        if begin:
            self._surface = self._segmentation.GetSegmentation().ContainsRepresentation(name)
            if self._surface:
                self._segmentation.RemoveClosedSurfaceRepresentation()
        elif self._surface:
            self._segmentation.CreateClosedSurfaceRepresentation()
