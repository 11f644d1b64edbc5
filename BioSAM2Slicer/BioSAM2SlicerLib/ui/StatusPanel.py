"""The status line and the progress bar, where they are seen without scrolling."""

from __future__ import annotations

from typing import Any

from .Controls import loadSection
from .Status import Status
from .StatusLine import NOTICE, PROBLEM, WARNING, Line, Situation

_COLOURS = {PROBLEM: "#c0392b", WARNING: "#b9770e", NOTICE: "#b9770e"}


class StatusPanel:
    """Shows a `Status`.

    Args:
        status: what is said.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._shown: Line | None = None
        self.widget, self._ui = loadSection("Status")
        self._ui.dismiss.clicked.connect(lambda *_: status.dismiss())
        status.changed.connect(self._refresh)

    def cleanup(self) -> None:
        """Show nothing new any more."""
        self._status.changed.disconnect(self._refresh)

    # -- inside ---------------------------------------------------------------------------------

    def _refresh(self) -> None:
        self._showProgress(self._status.situation)
        if self._status.line != self._shown:
            self._show(self._status.line)

    def _show(self, line: Line) -> None:
        before, self._shown = self._shown, line
        label: Any = self._ui.status
        label.text = line.text
        label.toolTip = line.text
        # A style costs more than a text, which changes with every slice.
        if before is None or before.kind != line.kind:
            label.setStyleSheet(f"color: {_COLOURS[line.kind]}" if line.kind in _COLOURS else "")
            self._ui.dismiss.enabled = line.dismissable

    def _showProgress(self, situation: Situation) -> None:
        bar = self._ui.progress
        if situation.progress is not None:
            bar.maximum = max(situation.progress[1], 1)
            bar.value = situation.progress[0]
        elif situation.running or situation.working:
            # Nobody knows how long it takes.
            bar.setRange(0, 0)
        elif bar.value != 0 or bar.maximum != 1:
            bar.setRange(0, 1)
            bar.value = 0
