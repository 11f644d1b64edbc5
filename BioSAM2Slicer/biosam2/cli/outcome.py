"""How a command ends: its exit code, and the one line that explains it.

0    done
2    something the user can mend: a bad input, a bad option, a full disk
130  stopped by the user (Ctrl-C); 143 stopped by the system (SIGTERM)
141  whoever read our output went away
1    an internal error: the traceback is printed, for the report
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

import click

from ..errors import BioSAM2Error
from ..extras import explain

# Errors of the file system that no change of this program could mend.
_USER_ERRNOS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}

# torch's CPU allocator raises a RuntimeError.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class Stopped(BaseException):
    """A signal asked us to stop. Not a KeyboardInterrupt, which click would take for itself."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


_stopped_by: int | None = None


def check_stopped() -> None:
    """Raise `Stopped` when a signal has asked for it.

    An exception raised by a signal handler is lost when it hits a callback or a destructor; long loops ask here.
    """
    if _stopped_by is not None:
        raise Stopped(_stopped_by)


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command and return the exit code; errors are printed on standard error.

    Args:
        command: the whole command line.
        arguments: without the program's name.
    """
    if "_BIOSAM2_COMPLETE" in os.environ:  # a shell asks for completions
        command.main(prog_name="biosam2")
    _catch_signals()
    _show_warnings_briefly()
    try:
        with command.make_context("biosam2", list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - every way to end passes here, once
        # A second Ctrl-C must not cut the explanation short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # Whatever a signal's exception became on its way here, the signal was the cause.
        code = _code(error if _stopped_by is None else Stopped(_stopped_by))
        _drop_unwritten()
        return code
    return 0


def _code(error: BaseException) -> int:
    match error:
        case Stopped():
            return _say("stopped", 128 + error.signal_number)
        case click.exceptions.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case click.ClickException():
            return _say(f"error: {error.format_message()}{_help_for(error)}", 2)
        case BioSAM2Error():
            return _say(f"error: {error}", 2)
        case ImportError() if mendable := explain(error):
            return _say(f"error: {mendable}", 2)
        case BrokenPipeError():
            return 128 + 13
        case MemoryError():
            return _say("error: out of memory; use a smaller volume or close other programs", 2)
        case OSError() if error.errno in _USER_ERRNOS:
            where = f"{error.filename}: " if error.filename else ""
            return _say(f"error: {where}{error.strerror}", 2)
        case RuntimeError() if any(text in str(error).lower() for text in _OUT_OF_MEMORY):
            return _say("error: out of memory; use a smaller volume, a smaller model or close other programs", 2)
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    return _say(f"internal error: {type(error).__name__}: {error}; please report it with the lines above", 1)


def _drop_unwritten() -> None:
    """Discard what standard output and standard error do not take.

    Python flushes both again at exit; where that fails too, it prints a traceback and changes the exit code to 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # noqa: PERF203 - two streams
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str, code: int) -> int:
    # Where standard error takes nothing, the exit code still tells it.
    with contextlib.suppress(OSError):
        click.echo(f"biosam2: {' '.join(text.split())}", err=True)
    return code


def _help_for(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context else ""


def _catch_signals() -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        global _stopped_by
        _stopped_by = number
        raise Stopped(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_as_before)


def _as_before() -> None:
    """A child process, such as one that makes training data, stops as Python's own do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _show_warnings_briefly() -> None:
    """Our own warnings as one line each; those that libraries address to programmers, not at all."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        _say(f"warning: {message}", 0)

    warnings.showwarning = show
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        for category in (UserWarning, RuntimeWarning):
            warnings.filterwarnings("default", category=category, module=r"biosam2\b")
