"""Results appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Give a path of the same name in a temporary folder beside `path`; move it into place on success.

    The name is the same, so that writers pick the format by its extension and a header finds its data file
    (.mhd with .zraw): whatever the writer leaves in the folder is moved, the named file last. On any failure,
    Ctrl-C included, nothing is left and an earlier file of that name is untouched.

    Args:
        path: the file to write; its folder must exist.
        overwrite: whether an earlier file of that name may be replaced.

    Raises:
        OutputError: the file cannot be written (no such folder, no permission, full disk, not overwriting).
    """
    target = Path(path)
    with _beside(target) as folder:
        if target.is_dir():
            raise OutputError(f"cannot write {target}: it is a folder; give a file name")
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists already; choose another name or allow overwriting")
        temporary = folder / target.name
        yield temporary
        if not temporary.is_file():
            raise OutputError(f"cannot write {target}: the writer left no file")
        written = sorted(folder.iterdir(), key=lambda file: file == temporary)
        for file in written:
            _flush(file)
        for file in written:
            os.replace(file, target.parent / file.name)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder beside `path` to be filled; rename it to `path` on success, remove it on any failure.

    A folder that already holds something is refused, never emptied: it may be the user's input.

    Raises:
        OutputError: the folder cannot be written, or it exists and is not empty.
    """
    target = Path(path)
    with _beside(target) as folder:
        if target.exists() and not target.is_dir():
            raise OutputError(f"cannot write the folder {target}: a file has that name")
        if target.is_dir() and any(target.iterdir()):
            raise OutputError(f"the folder {target} is not empty; choose another name or empty it first")
        filled = folder / target.name
        filled.mkdir()
        yield filled
        for file in filled.rglob("*"):
            if file.is_file():
                _flush(file)
        if target.is_dir():
            target.rmdir()  # empty: Windows does not rename over it
        os.rename(filled, target)


def cannot_write(path: Path, error: BaseException) -> OutputError:
    """The one line for a failed write, with the cause that the user can mend."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    reason = reason.splitlines()[-1] if reason else type(error).__name__
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _is_full(path):
        reason = "the disk is full; free some space"
    elif isinstance(error, PermissionError):
        reason = "no permission to write there"
    return OutputError(f"cannot write {path}: {reason}")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary folder in the target's own folder, so that a rename stays within one file system."""
    parent = target.parent
    if not parent.is_dir():
        raise OutputError(f"cannot write {target}: there is no folder {parent}; create it first")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=parent))
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        yield folder
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush(file: Path) -> None:
    """Wait until the data is on the disk: network file systems report a full disk only then."""
    with open(file, "rb+") as stream:
        os.fsync(stream.fileno())


def _is_full(path: Path) -> bool:
    """Whether nothing more can be written beside `path`; the libraries that write do not always say why they failed."""
    try:
        return shutil.disk_usage(path.parent).free < 4096
    except OSError:
        return False
