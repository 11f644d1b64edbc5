"""The files that a download keeps beside a checkpoint: what has arrived, and what the server said of it."""

from __future__ import annotations

import json
from pathlib import Path


def part(checkpoint: Path) -> Path:
    """The beginning of a file that is not complete."""
    return _beside(checkpoint, ".part")


def state(checkpoint: Path) -> Path:
    """What is known of the file that `part` is the beginning of."""
    return _beside(checkpoint, ".part.json")


def receipt(checkpoint: Path) -> Path:
    """Where a complete file came from, its size and its hash."""
    return _beside(checkpoint, ".receipt.json")


def leftovers(checkpoint: Path) -> list[Path]:
    """All files that may lie beside a downloaded checkpoint."""
    return [receipt(checkpoint), part(checkpoint), state(checkpoint)]


def recorded_sha256(checkpoint: Path) -> str | None:
    """The hash that the host told when a checkpoint was downloaded whose hash the registry does not know."""
    try:
        record = json.loads(receipt(checkpoint).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = record.get("sha256") if isinstance(record, dict) else None
    return found if isinstance(found, str) else None


def _beside(checkpoint: Path, ending: str) -> Path:
    return checkpoint.with_name(checkpoint.name + ending)
