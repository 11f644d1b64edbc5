"""A table of what became of each volume of a cohort, written as they are finished."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import OutputError
from ..io import atomic_path, files_of

_COLUMNS = ("row", "image", "output", "seconds", "failure")


class CohortResults:
    """Lines of a CSV, added one by one; one that was cut by a crash is dropped. Nothing but their keys is held.

    Args:
        path: of the table; one that is there is gone on with.

    Raises:
        OutputError: it cannot be written, or is another table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: set[str] = set()
        with self._writing(), atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as new:
            writer = csv.DictWriter(new, _COLUMNS)
            writer.writeheader()
            for line in self._read():
                writer.writerow(line)
                if not line["failure"]:
                    self._done.add(line["row"])

    def has(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a volume was segmented in just this way, from the same file, and its output is there."""
        return key_of(arguments) in self._done and Path(arguments["output"]).exists()

    def add(self, arguments: Mapping[str, Any], seconds: float, failure: str) -> None:
        """Keep what became of a volume.

        Raises:
            OutputError: it cannot be written.
        """
        line = (
            key_of(arguments),
            arguments["source"],
            arguments["output"],
            f"{seconds:.3f}",
            " ".join(failure.split()),
        )
        with self._writing(), open(self._path, "a", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerow(line)
            stream.flush()
            os.fsync(stream.fileno())

    def _read(self) -> Iterator[dict[str, str]]:
        if not self._path.exists():
            return
        with open(self._path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) not in ((), _COLUMNS):
                raise OutputError(f"{self._path} is another table; its columns are not {', '.join(_COLUMNS)}")
            yield from (line for line in reader if None not in line and None not in line.values())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path}: {error.strerror}; free some space or choose another"
            ) from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise OutputError(f"{self._path} is no CSV table ({error}); choose another file") from error


def key_of(arguments: Mapping[str, Any]) -> str:
    """Hash of all that a segmentation depends on: its arguments, the state of its input, this version."""
    source = Path(arguments["source"])
    found = [path.stat() for path in files_of(source)] if source.exists() else []
    state = [(file.st_size, file.st_mtime_ns) for file in found]
    facts = [{name: arguments[name] for name in sorted(arguments) if name != "quiet"}, state, __version__]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]
