"""What the user does with prompts; buttons and keys lead here, wherever they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ..scene.Stroke import Stroke, pointedRuler
from ..scene.ViewPlanes import shownSlice
from ..session.PanelSession import PanelSession
from ..Signal import Signal
from .PromptTools import NONE, POINT, PromptTools
from .Status import Status


class PromptActions:
    """Acts on a session's chosen segment.

    Signals:
        changed(): what can be done has changed, or which tool is in hand.

    Attributes:
        tools: the tools; one of them, or none, is in hand.
        shown: whether prompts are shown.

    Args:
        session: the session.
        getVolume: gives the chosen volume, or None.
        chosen: gives the chosen segment's identifier, or an empty string.
        ensureSegment: gives the same; a segmentation and a segment are made where there is none.
        makeWay: called before a tool is taken up: what else has the mouse puts it down.
        isElsewhere: whether views show other images in the volume's place; prompts are not shown on them.
        status: tells the user what was done, and why something was not.
    """

    def __init__(
        self,
        session: PanelSession,
        getVolume: Callable[[], Any],
        chosen: Callable[[], str],
        ensureSegment: Callable[[], str],
        makeWay: Callable[[], None],
        isElsewhere: Callable[[], bool],
        status: Status,
    ) -> None:
        self.changed = Signal()
        self.tools = PromptTools()
        self.shown = True
        self.session = session
        self.volume = getVolume
        self._chosen = chosen
        self._segment = ensureSegment
        self._makeWay = makeWay
        self._isElsewhere = isElsewhere
        self._status = status
        self.tools.changed.connect(self.changed.emit)
        self.tools.boxDrawn.connect(self._onBox)
        self.tools.strokeDrawn.connect(self._onStroke)
        self.tools.refused.connect(status.problem)
        session.stateChanged.connect(self.changed.emit)
        session.axisOfPointer = lambda: self.tools.axisOfPointer(session.volumeNode)

    # -- tools -----------------------------------------------------------------------------------

    def toggle(self, tool: str) -> None:
        """Take up a tool, or put it down."""
        self._status.acted()
        if self.tools.tool not in (NONE, tool):
            # A sign holds while a tool is in hand.
            self.tools.setPositive(True)
        self.take(NONE if self.tools.tool == tool else tool)

    def take(self, tool: str) -> None:
        """Take up a tool on the chosen segment, or put it down with `NONE`."""
        if tool == NONE:
            self.tools.use(NONE)
            return
        self._makeWay()
        segment = self._segment()
        if not segment:
            self.changed.emit()
        elif tool == POINT:
            assert self.session.prompts is not None
            self.tools.use(POINT, pointsNode=self.session.prompts.pointsNode(segment, self.tools.positive))
        else:
            self.tools.use(tool, volumeNode=self.session.volumeNode)

    def switchSign(self) -> None:
        """Mark what does not belong to the segment from now on, or again what does."""
        self._status.acted()
        self.tools.setPositive(not self.tools.positive)
        if self.tools.tool == POINT:
            self.take(POINT)

    def followSegment(self) -> None:
        """Another segment was chosen: the tool in hand marks that one, and what belongs to it."""
        self.tools.setPositive(True)
        if self.tools.tool == POINT:
            self.take(POINT)

    def cancel(self) -> None:
        """Stop the propagation, or put the tool down."""
        self._status.acted()
        if self.session.running:
            self.session.stop()
        else:
            self.tools.cancel()

    # -- prompts ---------------------------------------------------------------------------------

    def line(self) -> None:
        """Make a line that is there already a prompt where the pointer is on one; else let the next one be drawn."""
        volume = self.volume()
        # On other images a line lies where no slice of the volume is.
        ruler = pointedRuler(volume) if volume is not None and not self._isElsewhere() else None
        if ruler is None:
            self.toggle("line")
        else:
            self._status.acted()
            self._onStroke(ruler, self.tools.axisOfPointer(volume))

    def mask(self) -> None:
        """Make what is painted on the slice that is shown a prompt."""
        self._status.acted()
        segment = self._segment()
        if not segment:
            return
        axis = self.session.axis or self.tools.axisOfPointer(self.session.volumeNode)
        index = shownSlice(self.session.volumeNode, axis)
        if index is None:
            self._status.problem(_("No slice view shows a slice of this session; turn one to the volume's plane."))
        elif self.session.addMask(segment, index, axis):
            self._status.remark(_("What is painted on slice {n} is now a prompt.").format(n=index))

    def startFrom(self) -> None:
        """Let the session start from what the segment holds."""
        self._status.acted()
        segment = self._segment()
        if segment and self.session.startFrom(segment, self.tools.axisOfPointer(self.session.volumeNode)):
            self._status.remark(_("The session starts from this segment: correct it, or propagate it."))

    def delete(self) -> None:
        """Delete the prompt under the pointer."""
        self._status.acted()
        if self.session.prompts is not None and not self.session.prompts.deletePointed():
            self._status.problem(_("Point at a prompt to delete it."))

    def show(self, shown: bool) -> None:
        """Show prompts, or hide them."""
        if shown == self.shown:
            return
        self.shown = shown
        if self.session.prompts is not None:
            self.session.prompts.setVisible(shown and not self._isElsewhere())
        self.changed.emit()

    def reset(self) -> None:
        """Remove the chosen segment's prompts and their masks."""
        self._status.acted()
        if self._chosen():
            self.session.clear(self._chosen())

    def undo(self) -> None:
        """Undo the last step."""
        self._status.acted()
        self.session.undo()

    def redo(self) -> None:
        """Redo the step that was undone last."""
        self._status.acted()
        self.session.redo()

    def cleanup(self) -> None:
        """Put the tool down and observe nothing."""
        self.session.stateChanged.disconnect(self.changed.emit)
        self.tools.cleanup()

    # -- inside ---------------------------------------------------------------------------------

    def _onBox(self, minIjk: tuple[float, ...], maxIjk: tuple[float, ...], axis: str) -> None:
        segment = self._segment()
        if segment:
            self.session.addBox(segment, minIjk, maxIjk, axis)

    def _onStroke(self, stroke: Stroke, axis: str) -> None:
        segment = self._segment()
        if segment:
            self.session.addStroke(segment, stroke, axis)
