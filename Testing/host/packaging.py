"""``slicer.packaging`` of Slicer 5.12, as far as the panel uses it: pip beside the event loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from PySide6 import QtCore

_running: list[QtCore.QProcess] = []


def pip_install(
    requirements: str | list[str],
    constraints: str | Path | None = None,
    no_deps_requirements: str | list[str] | None = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> None:
    """The same arguments as Slicer's; only what runs beside the event loop.

    Raises:
        RuntimeError: another installation is under way, or an argument that is not covered.
    """
    if blocking or no_deps_requirements is not None or skip_packages is not None or isinstance(requirements, str):
        raise RuntimeError("the host's slicer.packaging covers a list of requirements with blocking=False")
    if _running:
        raise RuntimeError("A non-blocking pip_install is already in progress.")
    process = QtCore.QProcess()
    process.setProcessChannelMode(QtCore.QProcess.ProcessChannelMode.MergedChannels)

    def on_output() -> None:
        while process.canReadLine():
            line = bytes(process.readLine().data()).decode().rstrip()
            if logCallback is not None:
                logCallback(line)

    def on_finished(code: int, *_status: object) -> None:
        on_output()
        _running.remove(process)
        if completedCallback is not None:
            completedCallback(code)

    process.readyReadStandardOutput.connect(on_output)
    process.finished.connect(on_finished)
    _running.append(process)
    bound = ["-c", str(constraints)] if constraints is not None else []
    process.start(sys.executable, ["-m", "pip", "install", *bound, *requirements])


def module() -> ModuleType:
    """What ``import slicer.packaging`` finds."""
    made = ModuleType("slicer.packaging")
    made.pip_install = pip_install  # type: ignore[attr-defined]
    return made
