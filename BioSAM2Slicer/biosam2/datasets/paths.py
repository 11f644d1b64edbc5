"""Paths as a table of cases names them: relative to the table where they can be."""

from __future__ import annotations

import os
from pathlib import Path


def under(root: Path, path: str) -> Path:
    """A file that a table names, without ``..``, as `relative` came to its name."""
    return Path(os.path.normpath(root / path))


def relative(path: Path, folder: Path) -> str:
    """As the table in a folder names a file; another drive's path stays as it is."""
    try:
        return Path(os.path.relpath(path.absolute(), folder)).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def name_of(path: str) -> str:
    """A file's name up to its first dot."""
    name = Path(path).name
    return name.partition(".")[0] or name
