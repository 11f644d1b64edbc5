"""Running the command as a user does: another process, real files."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from biosam2.cli.app import cli
from biosam2.cli.outcome import run

# Long enough for a loaded machine; a test that needs it has failed.
DEADLINE = 120
Sink = int | IO[str]


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """What the user reads last on standard error."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""


class Biosam2:
    """The command line in a folder, with a home of its own.

    Example:
        >>> biosam2("info", "--json").code
        0
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("BIOSAM2")},
            "BIOSAM2_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def __call__(
        self, *arguments: object, stdout: Sink = subprocess.PIPE, stderr: Sink = subprocess.PIPE, **environment: str
    ) -> Ended:
        """Run to the end."""
        with self.start(*arguments, stdout=stdout, stderr=stderr, **environment) as process:
            out, err = process.communicate(timeout=DEADLINE)
        return Ended(process.returncode, out or "", err or "")

    def here(self, *arguments: object) -> Ended:
        """Run to the end in this process: much quicker, as torch is imported once."""
        out, err = io.StringIO(), io.StringIO()
        before = Path.cwd(), dict(os.environ), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        shown = warnings.showwarning
        os.environ.update(self._environment)
        os.chdir(self.folder)
        try:
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                code = run(cli, [str(a) for a in arguments])
        finally:
            os.chdir(before[0])
            os.environ.clear()
            os.environ.update(before[1])
            for number, handler in before[2].items():
                signal.signal(number, handler)
            warnings.showwarning = shown
        return Ended(code, out.getvalue(), err.getvalue())

    def start(
        self, *arguments: object, stdout: Sink = subprocess.PIPE, stderr: Sink = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        """Start without waiting."""
        return subprocess.Popen(
            [sys.executable, "-m", "biosam2.cli", *map(str, arguments)],
            cwd=self.folder,
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )


def stop_when(process: subprocess.Popen[str], shows: str, number: int = signal.SIGINT) -> Ended:
    """Send a signal as soon as standard error shows a text, and wait for the end."""
    with process:
        seen = _read_until(process, shows)
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE)
    return Ended(process.returncode, out, "".join(seen) + err)


def _read_until(process: subprocess.Popen[str], text: str) -> Sequence[str]:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return seen
    raise AssertionError(f"the process ended without showing {text!r}: {''.join(seen)}")


def files_below(folder: Path) -> set[str]:
    """Names of all files and folders, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
