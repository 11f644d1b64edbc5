"""``python -m biosam2.service.worker``: a session for the process that started this one, over its pipes.

Requests come in on standard input and replies go out on standard output (see `messages`); logs go to standard error
and a file. The worker ends when its input does, however the parent came to its end.
"""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, TypeAlias

from . import messages as m
from .framing import Decoder, Refused, encode
from .host import Engine, Host
from .scheduler import Scheduler
from .stdio import Writer, end, pieces, take_pipes

_log = logging.getLogger("biosam2.worker")
Tell: TypeAlias = Callable[[str], None]

_PACKAGE = Path(__file__).resolve().parent.parent
# Requests that may wait; whoever sends more waits too.
_INBOX = 1024
PRIORITY_NOTICE = (
    "The worker runs at low priority, which it inherited and may not raise, so a busy computer makes it slow. "
    "Start 3D Slicer with SLICER_BACKGROUND_THREAD_PRIORITY=0 in its environment."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m biosam2.service.worker", description=__doc__)
    parser.add_argument("--server", metavar="URL", help="pass everything on to a server; torch is not needed here")
    parser.add_argument("--ca-file", metavar="FILE", help="trust the certificates of this file")
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="by default in the user's log folder")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args(arguments)
    # Read by OpenMP when torch is imported. Measured on two busy cores: a click took 17 to 73 ms so, and 1200 ms with
    # threads that wait by spinning. How many there are is torch's choice, as in the command line: the same number gives
    # the same bits.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    incoming, outgoing = take_pipes()
    start_logging(options.log_file, options.log_level)
    # A terminal's Ctrl-C is the parent's to deal with.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    low = not restore_priority()
    _log.info("started, pid %s, python %s", os.getpid(), sys.version.split()[0])
    serve(partial(_engine, options.server, options.ca_file), incoming, outgoing, low)


def start_logging(file: Path | None, level: str) -> None:
    """Log to standard error and, where one can be written, to a file of bounded size."""
    if file is None:
        import platformdirs

        file = platformdirs.user_log_path("biosam2", appauthor=False) / "worker.log"
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    reason = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.handlers.RotatingFileHandler(file, maxBytes=4 << 20, backupCount=2, encoding="utf-8"))
    except OSError as error:
        reason = error
    logging.basicConfig(
        level=level, handlers=handlers, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    )
    if reason is not None:
        _log.warning("no log file: %s", reason)


def restore_priority() -> bool:
    """Come back from the low priority that Slicer hands its children; False where that is not allowed."""
    if sys.platform == "win32" or os.getpriority(os.PRIO_PROCESS, 0) <= 0:
        return True
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        return False
    return True


def serve(make_engine: Callable[[Tell], Engine], incoming: BinaryIO, outgoing: BinaryIO, low: bool = False) -> None:
    """Answer on `outgoing` what comes from `incoming`. Ends the process when one of them ends.

    Args:
        make_engine: makes what makes the sessions; given a function by which it can tell the user something.
        incoming: frames of requests.
        outgoing: where frames of replies are written.
        low: whether to tell the client that the priority is low.
    """
    to_tell: SimpleQueue[str] = SimpleQueue()
    if low:
        to_tell.put(PRIORITY_NOTICE)
    host, scheduler = Host(make_engine(to_tell.put)), Scheduler()

    writer = Writer(outgoing)

    def send(reply: m.Reply) -> None:
        writer.write(encode(reply))

    def deliver(reply: m.Reply) -> None:
        while not to_tell.empty():
            send(m.Notice(text=to_tell.get()))
        send(reply)

    def show(message: Warning | str, category: type[Warning], filename: str, *more: object) -> None:
        _log.warning("%s", message)
        if Path(filename).is_relative_to(_PACKAGE):
            to_tell.put(str(message))

    def read() -> None:
        decoder: Decoder[m.Asked] = Decoder(m.Asked)
        for data in pieces(incoming):
            for request in decoder.feed(data):
                if isinstance(request, Refused):
                    send(m.Failure(id=0, kind="ProtocolError", text=request.reason))
                else:
                    scheduler.submit(host, request, room=_INBOX)
        end("the client closed the pipe")

    warnings.showwarning = show  # type: ignore[assignment]
    scheduler.add(host, deliver)
    Thread(target=read, name="reader", daemon=True).start()
    scheduler.run()


def _engine(server: str | None, ca_file: str | None, tell: Tell) -> Engine:
    if server is None:
        from .engines import LocalEngine

        return LocalEngine()
    from .relay import RelayEngine

    return RelayEngine(server, os.environ.get("BIOSAM2_API_KEY"), ca_file, tell)


if __name__ == "__main__":
    main()
