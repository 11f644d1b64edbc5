"""How far segments are propagated: direction, first and last slice, or a region of interest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..scene.Parameters import NO_BOUND
from ..scene.PropagationRange import slicesOfRoi
from ..scene.ViewPlanes import shownSlice
from ..scene.VolumeGeometry import VolumeGeometry
from ..session.PanelSession import PanelSession
from .Controls import fillChoice, loadSection
from .Status import Status


class RangePanel:
    """Shows and changes the range, which is kept in the scene.

    Attributes:
        widget: what is shown.

    Args:
        session: what is propagated.
        segment: gives the active segment's identifier, or an empty string.
        status: tells the user why something was not done.
        comeBack: has the views show the volume again, where they show other images in its place.
    """

    def __init__(
        self, session: PanelSession, segment: Callable[[], str], status: Status, comeBack: Callable[[], None]
    ) -> None:
        self._session = session
        self._segment = segment
        self._status = status
        self._comeBack = comeBack
        self._filling = False
        self._build()
        for box in (self._firstBox, self._lastBox):
            box.valueChanged.connect(lambda *_value: self._onSettings())
        self._directionBox.currentIndexChanged.connect(lambda *_index: self._onSettings())
        session.stateChanged.connect(self.refresh)
        self.refresh()

    @property
    def direction(self) -> str:
        """``both``, ``forward`` or ``backward``."""
        return str(self._directionBox.currentData)

    def bounds(self) -> tuple[int | None, int | None] | None:
        """The first and the last slice, None for no bound; None alone, and the user is told, for an empty range."""
        self._onRoi()
        first, last = self._firstBox.value, self._lastBox.value
        if NO_BOUND not in (first, last) and first > last:
            self._status.problem(_("The range is empty: its first slice lies above its last."))
            return None
        return None if first == NO_BOUND else first, None if last == NO_BOUND else last

    def shown(self) -> int | None:
        """The slice that a view shows; None, and the user is told, where none does."""
        volume = self._session.volumeNode
        if volume is None or not self._segment():
            self._status.problem(_("Choose a volume and a segment first."))
            return None
        self._comeBack()
        index = shownSlice(volume, self._session.axis or "k")
        if index is None:
            self._status.problem(_("No slice view shows a slice of this session; turn one to the volume's plane."))
        return index

    def refresh(self) -> None:
        """Show what the scene holds."""
        working = self._session.prompts is not None
        for button in (self._fromViewButton, self._toViewButton):
            button.enabled = working
        volume = self._session.volumeNode
        last = VolumeGeometry(volume).count(self._session.axis or "k") - 1 if volume is not None else NO_BOUND
        parameters = self._session.parameters
        self._filling = True
        for box, value in ((self._firstBox, parameters.first), (self._lastBox, parameters.last)):
            box.setRange(NO_BOUND, last)
            box.value = value
        self._directionBox.currentIndex = max(self._directionBox.findData(parameters.direction), 0)
        self._filling = False

    def cleanup(self) -> None:
        """Release the scene."""
        self._session.stateChanged.disconnect(self.refresh)
        self.widget.setMRMLScene(None)

    # -- inside ---------------------------------------------------------------------------------

    def _build(self) -> None:
        self.widget, ui = loadSection("Range")
        self._directionBox, self._roiSelector = ui.direction, ui.roi
        self._firstBox, self._lastBox = ui.first, ui.last
        self._fromViewButton, self._toViewButton = ui.firstHere, ui.lastHere
        fillChoice(self._directionBox, [(_("Both ways"), "both"), (_("Up"), "forward"), (_("Down"), "backward")])
        self.widget.setMRMLScene(slicer.mrmlScene)
        self._roiSelector.currentNodeChanged.connect(lambda *_node: self._onRoi())
        self._fromViewButton.clicked.connect(lambda *_: self._takeShown(self._firstBox))
        self._toViewButton.clicked.connect(lambda *_: self._takeShown(self._lastBox))

    def _onSettings(self) -> None:
        """Keep what is chosen in the scene."""
        if not self._filling:
            self._session.setParameters(
                direction=self._directionBox.currentData, first=self._firstBox.value, last=self._lastBox.value
            )

    def _takeShown(self, box: Any) -> None:
        index = self.shown()
        if index is not None:
            box.value = index

    def _onRoi(self) -> None:
        """The region may have been moved since it was chosen."""
        roi, volume = self._roiSelector.currentNode(), self._session.volumeNode
        if roi is None or volume is None:
            return
        covered = slicesOfRoi(roi, volume, self._session.axis or "k")
        if covered is None:
            self._status.problem(_("The region of interest lies outside the volume."))
            return
        self._firstBox.value, self._lastBox.value = covered
