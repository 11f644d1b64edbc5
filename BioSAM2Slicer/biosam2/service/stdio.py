"""Standard input and output as the pipes of a process that serves another one."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from threading import Lock
from typing import IO, BinaryIO

_log = logging.getLogger(__name__)
_READ = 1 << 20


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages alone; whatever prints from now on, C code too, prints on stderr."""
    incoming = os.fdopen(os.dup(0), "rb", buffering=0)
    outgoing = os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(incoming.fileno(), os.O_BINARY)
        msvcrt.setmode(outgoing.fileno(), os.O_BINARY)
    sys.stdout = sys.stderr
    return incoming, outgoing


def pieces(incoming: IO[bytes]) -> Iterator[bytes]:
    """What comes, as it comes, until the writer closes its end."""
    while True:
        try:
            data = incoming.read(_READ)
        except OSError:
            return
        if not data:
            return
        yield data


class Writer:
    """Writes whole messages from any thread; ends the process when nobody reads them.

    Args:
        outgoing: an unbuffered pipe.
    """

    def __init__(self, outgoing: BinaryIO) -> None:
        self._outgoing = outgoing
        self._writing = Lock()

    def write(self, message: bytes) -> None:
        """Write a message."""
        data = memoryview(message)
        try:
            with self._writing:
                while data:
                    data = data[self._outgoing.write(data) :]
        except OSError:
            end("the client does not read any more")


def end(reason: str) -> None:
    """End at once: a network in the middle of a slice would not notice an exception for a long time."""
    _log.info("ending: %s", reason)
    with contextlib.suppress(OSError, ValueError):
        logging.shutdown()
    os._exit(0)
