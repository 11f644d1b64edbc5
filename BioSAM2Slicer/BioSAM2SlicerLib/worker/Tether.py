"""Python modules as processes that can be ended for sure, even where Slicer's launcher stands in between.

``PythonSlicer`` starts the real Python as its child: killed, it leaves that one at work. Both have the same standard
input, so what runs there watches it (see `biosam2.service.tethered`) and ends when it is closed; also when Slicer
crashes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt

_PACKAGE = str(Path(__file__).resolve().parents[2])
_SCRIPT = str(Path(_PACKAGE) / "biosam2" / "service" / "tethered.py")
_END_TIMEOUT_MS = 5000


def withPackage(environment: Any) -> Any:
    """A QProcessEnvironment in which Python finds the engine that lies beside this package, first of all."""
    path = environment.value("PYTHONPATH")
    environment.insert("PYTHONPATH", os.pathsep.join([_PACKAGE, path]) if path else _PACKAGE)
    return environment


def startModule(process: Any, python: str, module: str, arguments: Sequence[str]) -> None:
    """Start ``python -m module arguments`` in a QProcess.

    Example:
        >>> startModule(process, "PythonSlicer", "pip", ["install", "msgspec"])
    """
    process.start(python, [_SCRIPT, module, *arguments])


def endModule(process: Any) -> None:
    """Let it end, with all that it has started; that it has ended is said by the QProcess."""
    process.closeWriteChannel()
    qt.QTimer.singleShot(_END_TIMEOUT_MS, lambda: _kill(process))


def _kill(process: Any) -> None:
    if process.state() != qt.QProcess.NotRunning:
        process.kill()
