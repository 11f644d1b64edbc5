"""The command line in a process of its own, and as a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def biosam2_command(*arguments: object, timeout: float = 180, **environment: str) -> subprocess.CompletedProcess:
    """Run a command to its end."""
    command = [sys.executable, "-m", "biosam2.cli", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout, check=False
    )


class ServerProcess:
    """``biosam2 serve`` on the CPU; ready when this returns, at `url`."""

    def __init__(self, *arguments: object, port: int = 0, **environment: str) -> None:
        command = [sys.executable, "-m", "biosam2.cli", "serve", "--port", port, "--device", "cpu", *arguments]
        self.process = subprocess.Popen(
            list(map(str, command)), env={**os.environ, **environment}, stderr=subprocess.PIPE
        )
        self.port = self._listening()
        self.url = f"http://127.0.0.1:{self.port}"

    def _listening(self) -> int:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            told = json.loads(line)
            if told["event"] == "listening":
                return told["port"]
        raise AssertionError("the server ended")

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.communicate(timeout=60)
