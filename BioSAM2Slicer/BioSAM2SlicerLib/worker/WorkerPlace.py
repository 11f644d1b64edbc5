"""Where the network runs: in Slicer's own Python, in another one of this computer, or on a server."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import qt
import slicer

HERE, PYTHON, SERVER = "here", "python", "server"
_PREFIX = "BioSAM2Slicer/worker."


@dataclass(frozen=True)
class WorkerPlace:
    """What the user chose, for this computer: it is kept in Slicer's settings, not in the scene.

    Attributes:
        kind: one of the module's constants.
        python: the interpreter of an environment that has what the network needs.
        server: address of a machine that runs `biosam2 serve`.
        key: what the server wants to be shown, where it does.
    """

    kind: str = HERE
    python: str = ""
    server: str = ""
    key: str = ""

    def interpreter(self) -> str:
        """The Python that runs the worker."""
        if self.kind == PYTHON:
            return self.python
        return shutil.which("PythonSlicer") or sys.executable

    def command(self) -> list[str]:
        """The worker's command line. The key is not in it: other users can read command lines."""
        relay = ["--server", self.server] if self.kind == SERVER else []
        return [self.interpreter(), "-m", "biosam2.service.worker", *relay]

    def environment(self) -> Any:
        """The worker's environment, a QProcessEnvironment."""
        # Slicer's own variables point at its Python and libraries, and would break another Python.
        other = self.kind == PYTHON
        environment = slicer.app.startupEnvironment() if other else qt.QProcessEnvironment.systemEnvironment()
        if other:
            for name in ("PYTHONHOME", "PYTHONPATH"):
                environment.remove(name)
        if self.kind == SERVER and self.key:
            environment.insert("BIOSAM2_API_KEY", self.key)
        return environment

    def moduleEnvironment(self) -> Any:
        """That environment, in which `biosam2` is this extension's own."""
        environment = self.environment()
        package, path = str(Path(__file__).resolve().parents[2]), environment.value("PYTHONPATH")
        environment.insert("PYTHONPATH", os.pathsep.join([package, path]) if path else package)
        return environment


def readPlace(settings: Any) -> WorkerPlace:
    """What Slicer's settings hold; by default, Slicer's own Python."""
    found = {field.name: str(settings.value(_PREFIX + field.name) or "") for field in fields(WorkerPlace)}
    place = WorkerPlace(**found)
    return place if place.kind in (HERE, PYTHON, SERVER) else WorkerPlace()


def writePlace(settings: Any, place: WorkerPlace) -> None:
    """Keep the choice in Slicer's settings."""
    for field in fields(WorkerPlace):
        settings.setValue(_PREFIX + field.name, getattr(place, field.name))
