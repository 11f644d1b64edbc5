"""The section from which segments are carried through the volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from .Controls import makeButton, makeRow
from .Parameters import NO_BOUND
from .PropagationRange import slicesOfRoi
from .SessionLogic import SessionLogic
from .ViewPlanes import shownSlice
from .VolumeGeometry import VolumeGeometry


class PropagationPanel:
    """Direction, range, progress, and the locks of slices.

    Args:
        session: what is propagated.
        segment: gives the active segment's identifier, or an empty string.
        say: shows one line to the user.
    """

    def __init__(self, session: SessionLogic, segment: Callable[[], str], say: Callable[[str], None]) -> None:
        self._session = session
        self._segment = segment
        self._say = say
        self._filling = False
        self._build()
        for box in (self._firstBox, self._lastBox):
            box.valueChanged.connect(lambda *_value: self._onSettings())
        self._directionBox.currentIndexChanged.connect(lambda *_index: self._onSettings())
        self._untilGoneBox.toggled.connect(lambda *_checked: self._onSettings())
        session.stateChanged.connect(self.refresh)
        session.progressChanged.connect(self._onProgress)
        self.refresh()

    def propagate(self) -> None:
        """Carry the active segment, or all that are marked, through the range."""
        if self._session.prompts is None:
            self._say(_("Choose a volume first."))
            return
        self._onRoi()
        first, last = self._firstBox.value, self._lastBox.value
        if NO_BOUND not in (first, last) and first > last:
            self._say(_("The range is empty: its first slice lies above its last."))
            return
        self._session.propagate(
            None if self._allBox.checked else [self._segment()],
            self._directionBox.currentData,
            None if first == NO_BOUND else first,
            None if last == NO_BOUND else last,
            self._untilGoneBox.checked,
        )

    def propagateFromHere(self) -> None:
        """Carry the active segment on from the slice that is shown."""
        index = self._shown()
        if index is not None:
            self._session.propagateFrom(self._segment(), index, self._directionBox.currentData)

    def toggleLock(self) -> None:
        """Lock the slice that is shown for the active segment, or unlock it."""
        index = self._shown()
        if index is None:
            return
        segment = self._segment()
        lock = index not in self._session.lockedSlices(segment)
        if self._session.lock(segment, index, lock):
            text = _("Slice {n} is locked: it stays as it is.") if lock else _("Slice {n} is unlocked.")
            self._say(text.format(n=index))

    def refresh(self) -> None:
        """Show what can be done."""
        session = self._session
        working = session.prompts is not None
        for button in (self._propagateButton, self._hereButton):
            button.enabled = working and not session.running
        for widget in (self._lockButton, self._fromViewButton, self._toViewButton):
            widget.enabled = working
        self._stopButton.enabled = session.running
        if not session.running:
            self._progress.visible = False
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
        """Let go of the scene."""
        self._session.stateChanged.disconnect(self.refresh)
        self._roiSelector.setMRMLScene(None)

    # -- inside ---------------------------------------------------------------------------------

    def _build(self) -> None:
        self.widget = ctk.ctkCollapsibleButton()
        self.widget.text = _("Propagation")
        form = qt.QFormLayout(self.widget)
        self._directionBox = qt.QComboBox()
        self._directionBox.objectName = "direction"
        for text, value in ((_("Both ways"), "both"), (_("Up"), "forward"), (_("Down"), "backward")):
            self._directionBox.addItem(text, value)
        form.addRow(_("Direction:"), self._directionBox)
        self._firstBox, self._lastBox = self._sliceBox("first"), self._sliceBox("last")
        here = _("The slice that is shown.")
        self._fromViewButton = makeButton("firstHere", _("Here"), here, lambda: self._takeShown(self._firstBox))
        self._toViewButton = makeButton("lastHere", _("Here"), here, lambda: self._takeShown(self._lastBox))
        form.addRow(_("From slice:"), makeRow(self._firstBox, self._fromViewButton))
        form.addRow(_("To slice:"), makeRow(self._lastBox, self._toViewButton))
        self._roiSelector = slicer.qMRMLNodeComboBox()
        self._roiSelector.objectName = "roi"
        self._roiSelector.nodeTypes = ["vtkMRMLMarkupsROINode"]
        self._roiSelector.noneEnabled = True
        self._roiSelector.addEnabled = self._roiSelector.removeEnabled = False
        self._roiSelector.toolTip = _("Only slices that this region of interest covers.")
        self._roiSelector.setMRMLScene(slicer.mrmlScene)
        self._roiSelector.currentNodeChanged.connect(lambda *_node: self._onRoi())
        form.addRow(_("Within region:"), self._roiSelector)
        self._untilGoneBox = qt.QCheckBox(_("Only to the end of the object"))
        self._untilGoneBox.objectName = "untilGone"
        self._untilGoneBox.toolTip = _("In each direction, stop where nothing is found on three slices in a row.")
        form.addRow(self._untilGoneBox)
        self._allBox = qt.QCheckBox(_("All segments that have prompts"))
        self._allBox.objectName = "all"
        form.addRow(self._allBox)
        self._propagateButton = makeButton(
            "propagate", _("Propagate (Shift+Space)"), _("Carry the mask through."), self.propagate
        )
        self._stopButton = makeButton(
            "stop", _("Stop (Esc)"), _("Stop; finished slices stay."), lambda: self._session.stop()
        )
        form.addRow(makeRow(self._propagateButton, self._stopButton))
        self._hereButton = makeButton(
            "fromHere",
            _("Propagate from here"),
            _("After a correction on this slice: carry it on, away from where the segment was marked."),
            self.propagateFromHere,
        )
        self._lockButton = makeButton(
            "lock",
            _("Lock slice"),
            _("Keep this slice of the segment as it is, or let it be changed again."),
            self.toggleLock,
        )
        form.addRow(makeRow(self._hereButton, self._lockButton))
        self._progress = qt.QProgressBar()
        self._progress.objectName = "progress"
        self._progress.visible = False
        form.addRow(self._progress)

    def _sliceBox(self, name: str) -> Any:
        box = qt.QSpinBox()
        box.objectName = name
        box.setRange(NO_BOUND, NO_BOUND)
        box.specialValueText = _("end")
        box.value = NO_BOUND
        return box

    def _shown(self) -> int | None:
        volume = self._session.volumeNode
        if volume is None or not self._segment():
            self._say(_("Choose a volume and a segment first."))
            return None
        index = shownSlice(volume, self._session.axis or "k")
        if index is None:
            self._say(_("No slice view shows a slice of this session; turn one to the volume's plane."))
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
            self._say(_("The region of interest lies beside the volume."))
            return
        self._firstBox.value, self._lastBox.value = covered

    def _onProgress(self, done: int, total: int, rate: float, left: float) -> None:
        self._progress.visible = True
        self._progress.maximum = total
        self._progress.value = done
        self._say(
            _("Slice {done} of {total}, {rate:.1f} slices per second, {left:.0f} s left").format(
                done=done, total=total, rate=rate, left=left
            )
        )
