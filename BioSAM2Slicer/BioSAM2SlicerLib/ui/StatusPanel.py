"""The status line and the progress bar, on top of the panel where they are seen without scrolling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import qt

from .Controls import loadSection
from .StatusLine import NOTICE, PROBLEM, REMARK, WARNING, Line, Situation, StatusLine

_COLOURS = {PROBLEM: "#c0392b", WARNING: "#b9770e", NOTICE: "#b9770e"}


class StatusPanel:
    """Shows what `StatusLine` says.

    Args:
        situation: gives the facts, progress aside.
    """

    def __init__(self, situation: Callable[[], Situation]) -> None:
        self._situation = situation
        self._status = StatusLine()
        self._progress: tuple[int, int, float, float] | None = None
        self._shown: Line | None = None
        self.widget, self._ui = loadSection("Status")
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.refresh)
        self._ui.dismiss.clicked.connect(lambda *_: self._onDismiss())

    def remark(self, text: str) -> None:
        """Say what was done."""
        self._tell(REMARK, text)

    def problem(self, text: str) -> None:
        """Say why what the user wanted was not done."""
        self._tell(PROBLEM, text)

    def warn(self, text: str) -> None:
        """Say what should be thought about."""
        self._tell(WARNING, text)

    def notice(self, text: str) -> None:
        """Say what happened by itself."""
        self._tell(NOTICE, text)

    def acted(self) -> None:
        """The user does something new."""
        self._status.acted()
        self.refresh()

    def clear(self) -> None:
        """Another case is begun."""
        self._status.clear()
        self.refresh()

    def progress(self, done: int, total: int, rate: float, left: float) -> None:
        """Say how far a propagation is."""
        self._progress = (done, total, rate, left)
        self.refresh()

    def refresh(self) -> None:
        """Show what is so now."""
        situation = self._situation()
        if not situation.running:
            self._progress = None
        situation = replace(situation, progress=self._progress)
        self._showProgress(situation)
        line = self._status.line(situation)
        if line != self._shown:
            self._show(line)
        left = self._status.secondsLeft()
        if left is None:
            self._timer.stop()
        else:
            self._timer.start(int(left * 1000) + 50)

    def cleanup(self) -> None:
        """Say nothing any more, whatever is told."""
        self._timer.stop()
        self._timer.timeout.disconnect(self.refresh)

    # -- inside ---------------------------------------------------------------------------------

    def _tell(self, kind: str, text: str) -> None:
        self._status.tell(kind, text)
        self.refresh()

    def _onDismiss(self) -> None:
        self._status.dismiss()
        self.refresh()

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
