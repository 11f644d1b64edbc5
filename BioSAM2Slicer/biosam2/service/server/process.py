"""A device in a process of its own: one that dies takes its sessions with it, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import subprocess
import sys
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import IO

from ...errors import BioSAM2Error
from ...session.settings import ModelFacts
from .. import messages as m
from ..errors import ServiceError, error_of
from ..framing import Decoder, Refused, encode
from ..stdio import pieces
from ..upload import geometry_of
from . import process_messages as p
from .device import Deliver, Load, Lost
from .volumes import Held

_log = logging.getLogger("biosam2.server")
# Seconds before a process that ended is started again: at first, and at most when it ends again and again.
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# Seconds that a process gets to end by itself, and to say what it holds.
_GOODBYE, _LOOK = 10.0, 2.0


class ProcessDevice:
    """Sessions in a process for one device. It is started again when it ends.

    Args:
        device: as for `biosam2.load_model`.
        models, config: see `load_models`.
        feature_memory: bytes of encoded slices, all its sessions together.
        pause: seconds before it is started again.
    """

    def __init__(
        self, device: str, models: Sequence[str], config: str | None, feature_memory: int, pause: float = _PAUSE
    ) -> None:
        self.name = device
        self.models: dict[str, ModelFacts] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._pause = pause
        self._command = [sys.executable, "-m", "biosam2.service.server.process_main", "--device", device]
        for model in models:
            self._command += ["--model", str(model)]
        if config is not None:
            self._command += ["--config", config]
        self._command += ["--feature-memory", str(feature_memory)]
        self._lock = Lock()
        # To the process that runs now.
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._seats: dict[int, ProcessSeat] = {}
        self._numbers = itertools.count(1)
        self._looking: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Load]]] = {}
        self._load = Load()
        self._failure: BioSAM2Error | None = None
        self._settled, self._stopping = Event(), Event()
        # Whether the process works; to be waited for.
        self.ready = Event()
        self._keeper = Thread(target=self._keep, name=f"keeper of {device}", daemon=True)

    @property
    def alive(self) -> bool:
        """See `Device.alive`."""
        return self.ready.is_set()

    @property
    def over(self) -> bool:
        """See `Device.over`; a process that ended is started again."""
        return not self._keeper.is_alive()

    def start(self) -> None:
        """See `Device.start`; `wait` waits until it works."""
        if self._keeper.ident is None:
            self._keeper.start()

    def wait(self) -> None:
        """Wait until the models are loaded.

        Raises:
            BioSAM2Error: they cannot be.
        """
        self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """See `Device.stop`."""
        self._stopping.set()
        self._outbox.put(None)
        if self._keeper.ident is None:
            return
        self._keeper.join(_GOODBYE)
        if self._keeper.is_alive() and self.process is not None:
            self.process.kill()
        self._keeper.join()

    def seat(self, model: str, volume: Held, deliver: Deliver, lost: Lost) -> ProcessSeat:
        """See `Device.seat`."""
        assert volume.shared is not None
        seat = ProcessSeat(self, next(self._numbers), deliver, lost)
        with self._lock:
            working = self.alive
            if working:
                self._seats[seat.number] = seat
        if working:
            voxels = m.OpenVolume(id=0, path=volume.shared.path, **geometry_of(volume.volume))
            self.send(p.Begin(seat=seat.number, model=model, volume=volume.name, voxels=voxels))
        else:
            lost(f"the process of {self.name} has ended")
        return seat

    def send(self, message: p.FromServer) -> None:
        """Send the process a message; one that has ended is sent nothing."""
        self._outbox.put(encode(message))

    def leave(self, seat: ProcessSeat) -> None:
        """End a session."""
        with self._lock:
            self._seats.pop(seat.number, None)
        self.send(p.End(seat=seat.number))

    async def load(self) -> Load:
        """See `Device.load`; what it said last where it does not answer."""
        if not self.alive:
            return Load()
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Load] = loop.create_future()
        self._looking[number] = (loop, future)
        self.send(p.Measure(id=number))
        try:
            self._load = await asyncio.wait_for(future, _LOOK)
        except asyncio.TimeoutError:
            _log.warning("device does not answer", extra={"device": self.name})
        finally:
            del self._looking[number]
        return self._load

    # -- in the keeper's thread ------------------------------------------------------------------

    def _keep(self) -> None:
        pause = self._pause
        while not self._stopping.is_set():
            try:
                worked = self._run()
            except OSError as error:
                # Out of memory or of files just now; it is tried again.
                self._failure = ServiceError(f"the process of {self.name} cannot be started: {error.strerror}")
                _log.error("device cannot be started", extra={"device": self.name, "reason": str(error)})
                worked = False
            if not self._settled.is_set():
                self._failure = self._failure or ServiceError(f"the process of {self.name} ended; its log says why")
                self._settled.set()
                return
            pause = self._pause if worked else min(2 * pause, _LONGEST_PAUSE)
            self._stopping.wait(pause)

    def _run(self) -> bool:
        """One process, from its start to its end; whether it worked."""
        outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._outbox = outbox
        if self._stopping.is_set():
            return False
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        Thread(target=_write, args=(process.stdin, outbox), name=f"writer to {self.name}", daemon=True).start()
        decoder: Decoder[p.FromDevice] = Decoder(p.FromDevice, p.LIMITS)
        for data in pieces(process.stdout):
            for message in decoder.feed(data):
                self._take(message)
        outbox.put(None)
        process.stdout.close()
        code = process.wait()
        worked = self.alive
        with self._lock:
            self.ready.clear()
            seats, self._seats = list(self._seats.values()), {}
        reason = f"the process of {self.name} ended " + (f"by signal {-code}" if code < 0 else f"with code {code}")
        if not self._stopping.is_set():
            _log.error("device ended", extra={"device": self.name, "reason": reason, "sessions": len(seats)})
        for seat in seats:
            seat.lost(reason)
        return worked

    def _take(self, message: p.FromDevice | Refused) -> None:
        match message:
            case p.Ready():
                self._begun({facts.name: facts for facts in message.models})
            case p.Unready():
                self._failure = error_of(message.kind, message.text)
                if self._settled.is_set():
                    _log.error("device cannot be used", extra={"device": self.name, "reason": message.text})
            case p.Told():
                seat = self._seats.get(message.seat)
                if seat is not None:
                    seat.deliver(message.reply)
            case p.Turned():
                seat = self._seats.get(message.seat)
                if seat is not None:
                    seat.turned(message.taken, message.moving)
            case p.Measured():
                loop, future = self._looking.get(message.id, (None, None))
                if loop is not None and future is not None:
                    load = Load(message.feature_bytes, message.feature_budget_bytes, message.process_bytes)
                    with contextlib.suppress(RuntimeError):  # the loop has been closed
                        loop.call_soon_threadsafe(_set, future, load)
            case Refused():
                _log.error("a device is not understood", extra={"device": self.name, "reason": message.reason})

    def _begun(self, models: dict[str, ModelFacts]) -> None:
        """The process works, with the models that the server was started with."""
        if self.models and models != self.models:
            _log.error(
                "a model's file is another than at the start; start the server anew", extra={"device": self.name}
            )
            self._outbox.put(None)
            return
        self.models = models
        _log.info("device ready", extra={"device": self.name, "models": list(models)})
        self.ready.set()
        self._settled.set()


class ProcessSeat:
    """A session's host in another process; see `Seat`.

    Args:
        device: its process.
        number: under which the process knows it.
        deliver, lost: see `Device.seat`.
    """

    def __init__(self, device: ProcessDevice, number: int, deliver: Deliver, lost: Lost) -> None:
        self._device = device
        self.number = number
        self.deliver, self.lost = deliver, lost
        self._submitted = 0
        self._taken = 0
        self._moving = False

    @property
    def waiting(self) -> int:
        """See `Seat.waiting`."""
        return self._submitted - self._taken

    @property
    def moving(self) -> bool:
        """See `Seat.moving`."""
        return self._moving

    def turned(self, taken: int, moving: bool) -> None:
        """Its turn is over."""
        self._taken, self._moving = taken, moving

    def submit(self, request: m.Asked) -> None:
        """See `Seat.submit`."""
        self._submitted += 1
        self._device.send(p.Ask(seat=self.number, asked=request))

    def leave(self) -> None:
        """See `Seat.leave`."""
        self._device.leave(self)


def start_all(devices: Sequence[ProcessDevice]) -> None:
    """Start devices at once; when this returns, all of them work.

    Raises:
        BioSAM2Error: one cannot be had; the others are stopped.
    """
    for device in devices:
        device.start()
    try:
        for device in devices:
            device.wait()
    except BaseException:
        for device in devices:
            device.stop()
        raise


def _write(pipe: IO[bytes], outbox: SimpleQueue[bytes | None]) -> None:
    """Write what comes, and close the pipe where nothing more does, or nobody reads it."""
    with contextlib.suppress(OSError), pipe:
        while (message := outbox.get()) is not None:
            data = memoryview(message)
            while data:
                data = data[pipe.write(data) :]


def _set(future: asyncio.Future[Load], load: Load) -> None:
    if not future.done():
        future.set_result(load)
