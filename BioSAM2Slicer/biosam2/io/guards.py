"""What stands between a user's file and the libraries that parse it: one line instead of a traceback."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BioSAM2Error, InputError

_log = logging.getLogger(__name__)
_one_at_a_time = threading.RLock()


def existing(path: str | os.PathLike[str]) -> Path:
    """The path, once it is known that something is there.

    Raises:
        InputError: there is nothing, or it may not be read.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"there is no file {found}")
    if not os.access(found, os.R_OK):
        raise InputError(f"no permission to read {found}")
    if found.is_file() and found.stat().st_size == 0:
        raise InputError(f"{found} is empty (0 bytes); fetch or export it again")
    return found


@contextmanager
def unreadable(path: Path, what: str = "an image") -> Iterator[None]:
    """Turn whatever a parser raises on a damaged file into an InputError that names the file.

    Wrap calls of a third-party parser only, never our own code: parsers raise anything on hostile bytes, and
    here, and only here, any exception of a parser means that the file is bad.
    """
    try:
        yield
    except (BioSAM2Error, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError:
        raise InputError(f"{path} needs more memory than there is; crop or downsample it first") from None
    except BaseException as error:  # noqa: BLE001 - see above; a panic of a decoder written in Rust is no Exception
        _log.debug("cannot read %s", path, exc_info=True)
        raise InputError(f"cannot read {path} as {what}: {_brief(error)}") from None


def require_memory(path: Path, n_bytes: float) -> None:
    """Refuse a file whose voxels cannot fit, before anything is allocated.

    Args:
        path: the file, for the message.
        n_bytes: what reading will take at its peak.

    Raises:
        InputError: that is more than the memory that is free now.
    """
    available = available_memory()
    if n_bytes > available:
        raise InputError(
            f"{path} needs {n_bytes / 2**30:.1f} GiB of memory and {available / 2**30:.1f} GiB is free; "
            "crop or downsample it, or close other programs"
        )


def available_memory() -> int:
    """Bytes that can be allocated now, within a container's limit where there is one."""
    import psutil

    available = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        available = min(available, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no container, or no limit ("max")
    return available


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what parsers report on odd files: Python warnings, and what C libraries print.

    The latter goes to the debug log. Standard error is caught for the whole process while this lasts, so keep it
    around the library's call only; threads take turns.
    """
    with _one_at_a_time, warnings.catch_warnings(), _caught_stderr():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _caught_stderr() -> Iterator[None]:
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, AttributeError, ValueError):  # no standard error, as in a windowed application
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            text = caught.read(4096).decode(errors="replace").strip()
            if text:
                _log.debug("a reader printed: %s", text)


def _brief(error: BaseException) -> str:
    """A parser's last words in one line, without its source file and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return f"it is damaged or of another format ({type(error).__name__})"
    text = next((line for line in lines if "rror" in line), lines[-1])
    for mark in ("ITK ERROR:", "itk::ERROR:", "sitk::ERROR:"):
        text = text.rpartition(mark)[2].strip()
    if "Unable to determine ImageIO reader" in text or "rror reading" in text:
        return "it is damaged, truncated or of another format"
    return f"it is damaged or of another format ({text[:160]})"
