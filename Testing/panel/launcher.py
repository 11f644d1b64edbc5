"""A ``PythonSlicer`` as Slicer's: a launcher that starts the real Python as its child, both with the same pipes."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import Any

import pytest

_LAUNCHER = """#!{python}
import subprocess, sys
sys.exit(subprocess.call([{python!r}, *sys.argv[1:]]))
"""


@pytest.fixture
def python_slicer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The launcher, first in the search path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    launcher = folder / "PythonSlicer"
    launcher.write_text(_LAUNCHER.format(python=sys.executable))
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return launcher


class Lifeline:
    """A pipe with a name: as long as a process holds it for writing, that process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def is_cut(self, timeout_s: float = 20) -> bool:
        """Whether all that held it have ended; waits for that."""
        ready: list[Any] = select.select([self._end], [], [], timeout_s)[0]
        return bool(ready) and os.read(self._end, 1) == b""

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def lifeline(tmp_path: Path) -> Any:
    """One that nobody holds yet."""
    made = Lifeline(tmp_path / "lifeline")
    yield made
    made.close()
