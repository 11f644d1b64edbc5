"""From where segments are propagated, and what is kept: the buttons, and what they do."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from ..session.PanelSession import PanelSession
from .Controls import loadSection
from .RangePanel import RangePanel
from .Status import Status


class PropagationPanel:
    """Propagation, and the locks of slices.

    Attributes:
        widget: the buttons.

    Args:
        session: what is propagated.
        segment: gives the active segment's identifier, or an empty string.
        status: tells the user what was done, and why something was not.
        limits: direction and range.
    """

    def __init__(self, session: PanelSession, segment: Callable[[], str], status: Status, limits: RangePanel) -> None:
        self._session = session
        self._segment = segment
        self._status = status
        self._range = limits
        self._filling = False
        self._build()
        session.stateChanged.connect(self.refresh)
        self.refresh()

    def propagate(self) -> None:
        """Propagate the active segment, or all that are marked, through the range."""
        self._status.acted()
        if self._session.prompts is None:
            self._status.problem(_("Choose a volume first."))
            return
        bounds = self._range.bounds()
        if bounds is not None:
            segments = None if self._allBox.checked else [self._segment()]
            self._session.propagate(segments, self._range.direction, *bounds, self._session.parameters.untilGone)

    def propagateFromHere(self) -> None:
        """Propagate the active segment from the slice that is shown."""
        self._status.acted()
        index = self._range.shown()
        if index is not None:
            self._session.propagateFrom(self._segment(), index, self._range.direction)

    def toggleLock(self) -> None:
        """Lock the slice that is shown for the active segment, or unlock it."""
        self._status.acted()
        index = self._range.shown()
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
        self._lockButton.enabled = working
        self.stopButton.enabled = session.running
        self._filling = True
        self._untilGoneBox.checked = session.parameters.untilGone
        self._filling = False

    def cleanup(self) -> None:
        """Follow the session no longer."""
        self._session.stateChanged.disconnect(self.refresh)

    # -- inside ---------------------------------------------------------------------------------

    def _build(self) -> None:
        self.widget, ui = loadSection("Propagation")
        self._propagateButton, self.stopButton = ui.propagate, ui.stop
        self._hereButton, self._lockButton = ui.fromHere, ui.lock
        self._untilGoneBox, self._allBox = ui.untilGone, ui.all
        self._untilGoneBox.toggled.connect(lambda *_checked: self._onUntilGone())
        for button, action in (
            (self._propagateButton, self.propagate),
            (self.stopButton, self._session.stop),
            (self._hereButton, self.propagateFromHere),
            (self._lockButton, self.toggleLock),
        ):
            button.clicked.connect(lambda *_checked, action=action: action())

    def _onUntilGone(self) -> None:
        """Keep what is chosen in the scene."""
        if not self._filling:
            self._session.setParameters(untilGone=self._untilGoneBox.checked)
