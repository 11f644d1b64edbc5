"""The section of settings that are seldom changed: range, device, video, and how many steps can be undone."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..session.PanelSession import PanelSession
from .Controls import fillChoice, loadSection


class AdvancedPanel:
    """Shows and changes settings of a session.

    Args:
        session: whose settings they are.
        rangeWidget: shown on top, see `RangePanel`.
    """

    def __init__(self, session: PanelSession, rangeWidget: Any) -> None:
        self._session = session
        self._filling = False
        self.widget, self._ui = loadSection("Advanced")
        self._ui.range.layout().addWidget(rangeWidget)
        fillChoice(
            self._ui.device, [(_("Automatic"), "auto"), ("CPU", "cpu"), ("CUDA", "cuda"), (_("Apple GPU"), "mps")]
        )
        self.refresh()
        self._ui.device.currentIndexChanged.connect(lambda *_index: self._set(device=self._ui.device.currentData))
        self._ui.film.toggled.connect(lambda *_checked: self._set(film=self._ui.film.checked))
        self._ui.undoStates.valueChanged.connect(lambda *_value: self._set(undoStates=self._ui.undoStates.value))
        session.stateChanged.connect(self.refresh)

    def refresh(self) -> None:
        """Show what the scene says, and what the steps cost."""
        parameters = self._session.parameters
        self._filling = True
        self._ui.device.currentIndex = max(self._ui.device.findData(parameters.device), 0)
        self._ui.film.checked = parameters.film
        self._ui.undoStates.value = parameters.undoStates
        self._filling = False
        self._ui.undoMemory.text = _("{count} kept, {size:.1f} MB").format(
            count=self._session.undoCount, size=self._session.undoBytes / 1e6
        )

    def cleanup(self) -> None:
        """Follow the session no longer."""
        self._session.stateChanged.disconnect(self.refresh)

    def _set(self, **changes: Any) -> None:
        if not self._filling:
            self._session.setParameters(**changes)
