"""From where segments are propagated: the buttons below the sections, and the range among the advanced settings."""

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
from .StatusPanel import StatusPanel


class PropagationPanel:
    """Direction, range, and the locks of slices.

    Attributes:
        widget: the buttons.
        range: direction and range.

    Args:
        session: what is propagated.
        segment: gives the active segment's identifier, or an empty string.
        status: tells the user what was done, and why something was not.
    """

    def __init__(self, session: PanelSession, segment: Callable[[], str], status: StatusPanel) -> None:
        self._session = session
        self._segment = segment
        self._status = status
        self._filling = False
        self._build()
        for box in (self._firstBox, self._lastBox):
            box.valueChanged.connect(lambda *_value: self._onSettings())
        self._directionBox.currentIndexChanged.connect(lambda *_index: self._onSettings())
        self._untilGoneBox.toggled.connect(lambda *_checked: self._onSettings())
        session.stateChanged.connect(self.refresh)
        session.progressChanged.connect(status.progress)
        self.refresh()

    def propagate(self) -> None:
        """Propagate the active segment, or all that are marked, through the range."""
        self._status.acted()
        if self._session.prompts is None:
            self._status.problem(_("Choose a volume first."))
            return
        self._onRoi()
        first, last = self._firstBox.value, self._lastBox.value
        if NO_BOUND not in (first, last) and first > last:
            self._status.problem(_("The range is empty: its first slice lies above its last."))
            return
        self._session.propagate(
            None if self._allBox.checked else [self._segment()],
            self._directionBox.currentData,
            None if first == NO_BOUND else first,
            None if last == NO_BOUND else last,
            self._untilGoneBox.checked,
        )

    def propagateFromHere(self) -> None:
        """Propagate the active segment from the slice that is shown."""
        self._status.acted()
        index = self._shown()
        if index is not None:
            self._session.propagateFrom(self._segment(), index, self._directionBox.currentData)

    def toggleLock(self) -> None:
        """Lock the slice that is shown for the active segment, or unlock it."""
        self._status.acted()
        index = self._shown()
        if index is None:
            return
        segment = self._segment()
        lock = index not in self._session.lockedSlices(segment)
        if self._session.lock(segment, index, lock):
            text = _("Slice {n} is locked: it stays as it is.") if lock else _("Slice {n} is unlocked.")
            self._status.remark(text.format(n=index))

    def refresh(self) -> None:
        """Show what can be done."""
        session = self._session
        working = session.prompts is not None
        for button in (self._propagateButton, self._hereButton):
            button.enabled = working and not session.running
        for widget in (self._lockButton, self._fromViewButton, self._toViewButton):
            widget.enabled = working
        self._stopButton.enabled = session.running
        volume = session.volumeNode
        last = VolumeGeometry(volume).count(session.axis or "k") - 1 if volume is not None else NO_BOUND
        parameters = session.parameters
        self._filling = True
        for box, value in ((self._firstBox, parameters.first), (self._lastBox, parameters.last)):
            box.setRange(NO_BOUND, last)
            box.value = value
        self._directionBox.currentIndex = max(self._directionBox.findData(parameters.direction), 0)
        self._untilGoneBox.checked = parameters.untilGone
        self._filling = False

    def cleanup(self) -> None:
        """Release the scene."""
        self._session.stateChanged.disconnect(self.refresh)
        self._session.progressChanged.disconnect(self._status.progress)
        self.range.setMRMLScene(None)

    # -- inside ---------------------------------------------------------------------------------

    def _build(self) -> None:
        self.widget, ui = loadSection("Propagation")
        self.range, limits = loadSection("Range")
        self._propagateButton, self._stopButton = ui.propagate, ui.stop
        self._hereButton, self._lockButton = ui.fromHere, ui.lock
        self._untilGoneBox, self._allBox = ui.untilGone, ui.all
        self._directionBox, self._roiSelector = limits.direction, limits.roi
        self._firstBox, self._lastBox = limits.first, limits.last
        self._fromViewButton, self._toViewButton = limits.firstHere, limits.lastHere
        fillChoice(self._directionBox, [(_("Both ways"), "both"), (_("Up"), "forward"), (_("Down"), "backward")])
        self.range.setMRMLScene(slicer.mrmlScene)
        self._roiSelector.currentNodeChanged.connect(lambda *_node: self._onRoi())
        for button, action in (
            (self._propagateButton, self.propagate),
            (self._stopButton, self._session.stop),
            (self._hereButton, self.propagateFromHere),
            (self._lockButton, self.toggleLock),
            (self._fromViewButton, lambda: self._takeShown(self._firstBox)),
            (self._toViewButton, lambda: self._takeShown(self._lastBox)),
        ):
            button.clicked.connect(lambda *_checked, action=action: action())

    def _shown(self) -> int | None:
        volume = self._session.volumeNode
        if volume is None or not self._segment():
            self._status.problem(_("Choose a volume and a segment first."))
            return None
        index = shownSlice(volume, self._session.axis or "k")
        if index is None:
            self._status.problem(_("No slice view shows a slice of this session; turn one to the volume's plane."))
        return index

    def _onSettings(self) -> None:
        """Keep what is chosen in the scene."""
        if not self._filling:
            self._session.setParameters(
                direction=self._directionBox.currentData,
                first=self._firstBox.value,
                last=self._lastBox.value,
                untilGone=self._untilGoneBox.checked,
            )

    def _takeShown(self, box: Any) -> None:
        index = self._shown()
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
