"""What is said to the user: messages that are held, and how things stand; every status line shows the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import qt

from ..Signal import Signal
from .StatusLine import NEXT, NOTICE, PROBLEM, REMARK, WARNING, Line, Situation, StatusLine


class Status:
    """The line that `StatusLine` derives, and the progress of what is under way.

    Signals:
        changed(): another line is to be shown, or the progress is another.

    Attributes:
        line: what is to be shown.
        situation: the facts, with the progress.

    Args:
        situation: gives the facts, progress aside.
    """

    def __init__(self, situation: Callable[[], Situation]) -> None:
        self.changed = Signal()
        self.line = Line("", NEXT)
        self.situation = Situation()
        self._situation = situation
        self._status = StatusLine()
        self._progress: tuple[int, int, float, float] | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.refresh)

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

    def dismiss(self) -> None:
        """The user has read the line."""
        self._status.dismiss()
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
        """Derive the line anew."""
        situation = self._situation()
        if not situation.running:
            self._progress = None
        self.situation = replace(situation, progress=self._progress)
        self.line = self._status.line(self.situation)
        left = self._status.secondsLeft()
        if left is None:
            self._timer.stop()
        else:
            self._timer.start(int(left * 1000) + 50)
        self.changed.emit()

    def cleanup(self) -> None:
        """Say nothing any more, whatever is told."""
        self._timer.stop()
        self._timer.timeout.disconnect(self.refresh)

    # -- inside ---------------------------------------------------------------------------------

    def _tell(self, kind: str, text: str) -> None:
        self._status.tell(kind, text)
        self.refresh()
