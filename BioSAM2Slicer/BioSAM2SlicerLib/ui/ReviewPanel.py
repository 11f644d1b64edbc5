"""The section in which results are looked through: the strip, what is marked in it, and the way to the next slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ..scene.ViewPlanes import sliceNodes
from ..session.PanelSession import PanelSession
from ..Signal import Signal
from .Controls import loadSection
from .Review import Review
from .ReviewStrip import ReviewStrip, SliceState, legend
from .Status import Status

# Masks may come faster than anybody looks; the strip is painted at most this often.
_REPAINT_MS = 100
# Who scrolls past a slice has not looked at it.
_LOOK_MS = 600


class ReviewPanel:
    """Shows the review of the active segment.

    Args:
        session: what is reviewed.
        segment: gives the active segment's identifier, or an empty string.
        status: tells the user why something was not done.
        isElsewhere, comeBack: whether views show other images in the volume's place, and what has them show it again.

    Signals:
        changed(): what is shown has changed.
        turned(): a slice view shows something else, another slice for example.
    """

    def __init__(
        self,
        session: PanelSession,
        segment: Callable[[], str],
        status: Status,
        isElsewhere: Callable[[], bool],
        comeBack: Callable[[], None],
    ) -> None:
        self.changed = Signal()
        self.turned = Signal()
        self._session = session
        self._segment = segment
        self._status = status
        self._comeBack = comeBack
        self.review = Review(session, isElsewhere)
        self.widget, self._ui = loadSection("Review")
        self.strip = ReviewStrip(self._ui.strip)
        self._entered = False
        self._tags: list[tuple[Any, int]] = []
        self._segmentation: Any = None
        self._segmentationTag: int | None = None
        self._ui.legend.text = legend()
        self._ui.next.enabled = False
        self._ui.next.clicked.connect(lambda *_: self.next())
        self.left = 0
        self._paintTimer = self._timer(_REPAINT_MS, self.refresh)
        self._lookTimer = self._timer(_LOOK_MS, self._onLooked)
        self.strip.clicked.connect(self._onStrip)
        session.stateChanged.connect(self._onState)
        session.maskWritten.connect(lambda *_arguments: self.refreshSoon())

    def enter(self) -> None:
        """Follow the slice views."""
        self.exit()
        self._entered = True
        for node in sliceNodes():
            self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onView)))
        self._onState()

    def exit(self) -> None:
        """Follow no view any more, and paint nothing."""
        self._entered = False
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
        self._follow(None)
        self._paintTimer.stop()
        self._lookTimer.stop()

    def goTo(self, index: int) -> None:
        """Show a slice."""
        self._comeBack()
        if not self.review.jump(index):
            self._status.problem(_("No slice view shows this plane; turn one to the volume's plane."))
        self.refresh()

    def next(self) -> None:
        """Go to the slice that is most in doubt."""
        self._status.acted()
        segment = self._segment()
        index = self.review.next(segment) if segment else None
        if index is None:
            self._status.problem(_("Every slice that the model drew has been looked at."))
            return
        self.goTo(index)

    def refreshSoon(self) -> None:
        """Paint in a moment, once for many changes."""
        if self._entered and not self._paintTimer.active:
            self._paintTimer.start()

    def refresh(self) -> None:
        """Paint what is so now."""
        segment = self._segment()
        states = self.review.slices(segment) if segment else []
        shown = self._show(states)
        left = self.left = sum(state.doubt is not None for state in states)
        self._ui.left.text = _("{left} slices not looked at yet").format(left=left) if left else ""
        self._ui.next.enabled = bool(left)
        self.changed.emit()
        if shown:
            self._lookTimer.start()

    # -- inside ---------------------------------------------------------------------------------

    def _onStrip(self, index: int) -> None:
        self._status.acted()
        self.goTo(index)

    def _timer(self, milliseconds: int, function: Callable[[], Any]) -> Any:
        timer = qt.QTimer()
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(function)
        return timer

    def _show(self, states: list[SliceState]) -> list[int]:
        shown = self.review.shown()
        self.strip.show(states, shown[0] if shown else None)
        return shown

    def _onState(self) -> None:
        if self._entered:
            self._follow(self._session.segmentationNode)
            self.refreshSoon()

    def _follow(self, segmentationNode: Any) -> None:
        """Notice what the user paints."""
        segmentation = segmentationNode.GetSegmentation() if segmentationNode is not None else None
        if segmentation is self._segmentation:
            return
        if self._segmentation is not None:
            self._segmentation.RemoveObserver(self._segmentationTag)
        self._segmentation = segmentation
        if segmentation is not None:
            self._segmentationTag = segmentation.AddObserver(
                slicer.vtkSegmentation.SourceRepresentationModified, lambda *_event: self.refreshSoon()
            )

    def _onView(self, *_event: Any) -> None:
        """A view was scrolled: only the mark moves, as nothing on the slices has changed."""
        self.turned.emit()
        before = self.strip.current
        if self._show(self.strip.states):
            self._lookTimer.start()
        if self.strip.current != before:
            self.changed.emit()

    def _onLooked(self) -> None:
        """A slice has been in a view for a while, with its mask; while masks are still coming it is not what will be
        there."""
        segment, node = self._segment(), self._session.segmentationNode
        if not segment or node is None or self._session.running or not node.GetDisplayVisibility():
            return
        news = [self.review.see(segment, index) for index in self.review.shown()]
        if any(news):
            self.refreshSoon()
