"""SHA-256 of files, remembered for large ones."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .folders import models_folder

# Below this size hashing takes a tenth of a second and is always done.
_REMEMBERED_FROM = 64 << 20


def sha256_of(path: str | Path, remember_from: int = _REMEMBERED_FROM) -> str:
    """A file's SHA-256 in lower-case hex.

    A file of `remember_from` bytes or more is not read again while its path, size and time of change are the same.

    Raises:
        ModelError: the file cannot be read.
    """
    path = Path(path).absolute()
    try:
        before = path.stat()
        key, stamp = str(path), [before.st_size, before.st_mtime_ns]
        if before.st_size < remember_from:
            return digest_of(path)
        memory = _memory()
        known = _recall(memory).get(key)
        if isinstance(known, list) and known[:2] == stamp and isinstance(known[2], str):
            return known[2]
        found = digest_of(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    _remember(memory, key, [*stamp, found])
    return found


def digest_of(path: Path) -> str:
    """A file's SHA-256 in lower-case hex, computed now.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _memory() -> Path:
    return models_folder() / "hashes.json"


def _recall(memory: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(memory: Path, key: str, value: list[Any]) -> None:
    known = {path: entry for path, entry in _recall(memory).items() if os.path.exists(path)}
    known[key] = value
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, suffix=".tmp", delete=False) as file:
            json.dump(known, file, indent=1)
        os.replace(file.name, memory)
    except OSError:
        # A read-only home: the next start hashes again.
        return
