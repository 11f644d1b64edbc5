"""Which files an input consists of: for hashes, which must tell any change of a voxel."""

from __future__ import annotations

import re
from pathlib import Path

from .formats import extension

# How a header names the file of its voxels; a list of several files follows on lines of their own.
_NAMED = {
    ".mhd": re.compile(rb"^\s*ElementDataFile\s*=\s*(.+?)\s*$", re.MULTILINE),
    ".nhdr": re.compile(rb"^data ?file:\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE),
}


def files_of(path: Path) -> list[Path]:
    """The files of an input, in a fixed order.

    A folder's are all in it but hidden ones. A header (.mhd, .nhdr, .hdr, .img) has those beside it that hold its
    voxels; what it names and is not there is left out, for reading tells of it. Any other file is by itself.

    Raises:
        OSError: a header cannot be read.
    """
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    kind = extension(path)
    if kind in (".hdr", ".img", ".img.gz"):
        names = [path.name[: -len(kind)] + ending for ending in (".hdr", ".img", ".img.gz")]
    elif kind in _NAMED:
        names = _named(path, _NAMED[kind])
    else:
        return [path]
    beside = (path.parent / name for name in names)
    return [path, *sorted(p for p in beside if p.is_file() and p != path)]


def _named(header: Path, pattern: re.Pattern[bytes]) -> list[str]:
    with header.open("rb") as stream:
        text = stream.read(1 << 20)
    match = pattern.search(text)
    if match is None:
        return []
    value = match[1].decode(errors="replace")
    if value.split()[0].upper() == "LIST":
        return [line.strip() for line in text[match.end() :].decode(errors="replace").splitlines() if line.strip()]
    if "%" in value:  # NRRD's pattern: name, first, last, step
        template, *numbers = value.split()
        try:
            first, last, step = (int(n) for n in numbers[:3])
            return [template % n for n in range(first, last + (1 if step > 0 else -1), step)]
        except (ValueError, TypeError):
            return []
    return [value]
