"""``python -m biosam2.service.server.process_main``: the sessions on one device of a server, over the server's pipes.

It ends when its input does, however the server came to its end.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO
from weakref import WeakValueDictionary

from ...errors import BioSAM2Error
from ...volume import Volume
from .. import messages as m
from ..engines import map_volume
from ..errors import ProtocolError, name_of
from ..framing import Decoder, Refused, encode
from ..stdio import Writer, end, pieces, take_pipes
from . import process_messages as p
from .running import start_logging

if TYPE_CHECKING:
    from .local import LocalDevice, LocalSeat

_log = logging.getLogger("biosam2.server")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m biosam2.service.server.process_main", description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--config")
    parser.add_argument("--feature-memory", type=int, required=True, metavar="BYTES")
    options = parser.parse_args(arguments)
    # As the command line does; read by OpenMP when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    incoming, outgoing = take_pipes()
    start_logging(device=options.device)
    # A terminal's Ctrl-C is the server's to deal with.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writer = Writer(outgoing)
    try:
        from .local import LocalDevice, load_models

        device = LocalDevice(load_models(options.model, options.device, options.config), options.feature_memory)
    except BioSAM2Error as error:
        writer.write(encode(p.Unready(kind=name_of(error), text=str(error))))
        return
    writer.write(encode(p.Ready(models=list(device.models.values()))))
    Thread(target=_Server(device, writer).read, args=(incoming,), name="reader", daemon=True).start()
    device.scheduler.run()


class _Server:
    """Does what the server asks.

    Args:
        device: runs the sessions.
        writer: to the server.
    """

    def __init__(self, device: LocalDevice, writer: Writer) -> None:
        self._device = device
        self._writer = writer
        self._seats: dict[int, LocalSeat] = {}
        # Why sessions could not begin.
        self._failures: dict[int, BioSAM2Error] = {}
        # Those that sessions are about.
        self._volumes: WeakValueDictionary[str, Volume] = WeakValueDictionary()

    def read(self, incoming: BinaryIO) -> None:
        """Take what comes, until the server closes the pipe."""
        decoder: Decoder[p.FromServer] = Decoder(p.FromServer, p.LIMITS)
        for data in pieces(incoming):
            for message in decoder.feed(data):
                self._take(message)
        end("the server closed the pipe")

    def _take(self, message: p.FromServer | Refused) -> None:
        match message:
            case p.Begin():
                try:
                    self._begin(message)
                except BioSAM2Error as error:
                    self._failures[message.seat] = error
            case p.Ask():
                if message.seat in self._seats:
                    self._seats[message.seat].submit(message.asked)
                else:
                    self._refuse(message)
            case p.End():
                self._failures.pop(message.seat, None)
                seat = self._seats.pop(message.seat, None)
                if seat is not None:
                    seat.leave()
            case p.Measure():
                self._send(p.Measured(id=message.id, **asdict(self._device.measure())))
            case Refused():
                _log.error("a message of the server's was not understood", extra={"reason": message.reason})

    def _begin(self, message: p.Begin) -> None:
        volume = self._volumes.get(message.volume)
        if volume is None:
            volume = self._volumes[message.volume] = map_volume(message.voxels)

        def deliver(reply: m.Reply) -> None:
            self._send(p.Told(seat=message.seat, reply=reply))

        def turned(seat: LocalSeat) -> None:
            self._send(p.Turned(seat=message.seat, taken=seat.received - seat.waiting, moving=seat.moving))

        self._seats[message.seat] = self._device.host(message.model, volume, deliver, turned)

    def _refuse(self, message: p.Ask) -> None:
        error = self._failures.get(message.seat) or ProtocolError("there is no such session")
        failure = m.Failure(id=message.asked.id, kind=name_of(error), text=str(error))
        self._send(p.Told(seat=message.seat, reply=failure))

    def _send(self, message: p.FromDevice) -> None:
        self._writer.write(encode(message))


if __name__ == "__main__":
    main()
