"""Qt's event loop as Slicer runs it: with Python's interpreter lock held, so that other threads stand still."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from pathlib import Path

import PySide6
from PySide6 import QtCore

_WAIT_FOR_MORE_EVENTS = 0x04


def _process_events() -> Callable[[int], None]:
    """``QCoreApplication::processEvents`` called without letting go of the lock; PySide6's own way elsewhere."""
    library = Path(PySide6.__file__).parent / "Qt" / "lib" / "libQt6Core.so.6"
    if sys.platform == "linux" and library.exists():
        # PyDLL is ctypes' loader that keeps the lock.
        function = ctypes.PyDLL(str(library))[
            "_ZN16QCoreApplication13processEventsE6QFlagsIN10QEventLoop17ProcessEventsFlagEE"
        ]
        function.argtypes = [ctypes.c_int]
        function.restype = None
        return function
    flags = QtCore.QEventLoop.ProcessEventsFlag
    return lambda flag: QtCore.QCoreApplication.processEvents(flags(flag))


_process = _process_events()


def process_events() -> None:
    """Handle what has come in, deletions included."""
    _process(0)
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0, what: str = "") -> None:
    """Let the loop run until something is so.

    Raises:
        TimeoutError: it was not, in that time.
    """
    guard = QtCore.QTimer()  # wakes the loop, so that the time limit is noticed
    guard.start(200)
    end = time.monotonic() + timeout_s
    faults = sys.excepthook  # a test's fixture collects what callbacks raise there
    while not condition():
        if getattr(faults, "faults", None):
            raise AssertionError("a callback raised:\n" + "\n".join(faults.faults))
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s} s for {what or condition}")
        _process(_WAIT_FOR_MORE_EVENTS)
    guard.stop()
    process_events()
