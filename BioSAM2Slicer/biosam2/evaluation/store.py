"""What has been measured so far, in a folder, so that a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from .. import __version__
from ..datasets import Case
from ..errors import OutputError
from ..io import atomic_path, files_of
from .tasks import Metrics, Outcome, Task
from .ways import Kind, Pipeline

_FILE = "measured.jsonl"
_PICTURES = "pictures"


class Store:
    """Metrics by what they were measured of. Lines are only ever added; a line that was cut by a crash is dropped.

    Args:
        folder: made if there is none.

    Raises:
        OutputError: the folder cannot be written, or another run is writing there.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout

        self.folder = folder
        try:
            (folder / _PICTURES).mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock")
            self._lock.acquire(timeout=0)
            self._known = self._read()
        except Timeout as error:
            raise OutputError(f"another run is writing in {folder}; wait for it or choose another folder") from error
        except OSError as error:
            raise OutputError(f"cannot write in {folder}: {error.strerror}; choose another folder") from error

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def known(self, task: Task, pipeline: Pipeline, prompt: Kind) -> tuple[Metrics, ...] | None:
        """What was measured of a task in one way; None where nothing was."""
        return self._known.get(key_of(task, pipeline, prompt))

    def add(self, outcome: Outcome) -> None:
        """Keep a finished task's metrics and pictures.

        Raises:
            OutputError: they cannot be written.
        """
        lines = []
        try:
            for pipeline, prompt in outcome.task.ways:
                key = key_of(outcome.task, pipeline, prompt)
                own = tuple(
                    replace(one, picture=f"{_PICTURES}/{key[:16]}-{one.picture}.png")
                    for one in outcome.metrics
                    if (one.pipeline, one.prompt) == (pipeline, prompt)
                )
                for one in own:
                    name = one.picture.rpartition("/")[2].removesuffix(".png").partition("-")[2]
                    with atomic_path(self.folder / one.picture) as path:
                        path.write_bytes(outcome.pictures[name])
                lines.append(json.dumps({"key": key, "figures": [one.to_json() for one in own]}))
                self._known[key] = own
            with open(self.folder / _FILE, "a", encoding="utf-8") as stream:
                stream.writelines(f"{line}\n" for line in lines)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot write in {self.folder}: {error.strerror}; free some space") from error

    def _read(self) -> dict[str, tuple[Metrics, ...]]:
        path = self.folder / _FILE
        if not path.exists():
            return {}
        known: dict[str, tuple[Metrics, ...]] = {}
        good = []
        for line in path.read_bytes().splitlines():
            try:
                entry = msgspec.json.decode(line, type=_Line)
            except msgspec.MsgspecError:
                continue  # cut by a crash, or of an older version: measured again
            known[entry.key] = entry.metrics
            good.append(line)
        with atomic_path(path) as temporary:  # so that a new line does not go on where a cut one ends
            temporary.write_bytes(b"".join(line + b"\n" for line in good))
        return known


class _Line(msgspec.Struct):
    key: str
    metrics: tuple[Metrics, ...] = msgspec.field(name="figures")


def key_of(task: Task, pipeline: Pipeline, prompt: Kind) -> str:
    """Hash of all that metrics depend on: the case and its files, weights, prompt, settings, this version."""
    facts: dict[str, Any] = {
        "case": asdict(task.case),
        "files": [_state(path) for path in _files(task.case)],
        "weights": task.network.sha256,
        "model": task.network.label,
        "way": [pipeline, prompt],
        "settings": asdict(task.settings),
        "protocol": msgspec.to_builtins(task.protocol),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _files(case: Case) -> Iterable[Path]:
    for path in (case.image, *(label for target in case.targets for label in target.labels)):
        yield from files_of(path) if path.exists() else [path]


def _state(path: Path) -> tuple[str, int, int]:
    """Name, size and time of a file; a file that is not there is told of when it is opened."""
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_size, found.st_mtime_ns
