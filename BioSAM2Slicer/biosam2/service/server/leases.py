"""The sessions of a server: who has one, when each was last heard of and last used, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from ...session.settings import SessionSettings
from .. import messages as m
from ..errors import RefusedError, error_of
from .device import Device, Devices, Seat
from .volumes import VolumeStore

_log = logging.getLogger("biosam2.server")
# Seconds after which whoever waits for an answer is told that it is being worked on.
_SIGN_OF_LIFE = 10.0
# Replies that wait for a client that does not take them. Above what any propagation may be ahead.
_MOST_REPLIES = 256
# Requests of one session that wait.
_MOST_REQUESTS = 64


@dataclass(frozen=True)
class TimeOuts:
    """When a session ends by itself, in seconds.

    Attributes:
        liveness: nothing was heard, not even a heartbeat: the client has crashed or the network is gone.
        idle: nothing was asked, though the client is there: the user has gone home.
    """

    liveness: float = 90.0
    idle: float = 3600.0

    @property
    def heartbeat(self) -> float:
        """How often a client is to send a sign of life."""
        return self.liveness / 3


@dataclass(eq=False)
class Lease:
    """One client's session; `seat`, `device` and `created` (what its host says of it) are set once it has a place."""

    id: str
    volume: str
    heard: float
    used: float
    seat: Seat = field(init=False)
    device: Device = field(init=False)
    created: m.Created = field(init=False)
    # Where answers go, by the request's id.
    streams: dict[int, asyncio.Queue[m.Reply]] = field(default_factory=dict)

    def route(self, reply: m.Reply) -> None:
        """Hand a reply to whoever waits for it; one that nobody waits for, or takes, can be asked for again."""
        if isinstance(reply, m.Notice):
            _log.warning("notice", extra={"text": reply.text})
            return
        stream = self.streams.get(reply.id)
        if stream is None:
            return
        if stream.qsize() >= _MOST_REPLIES:
            del self.streams[reply.id]
            text = "the client did not take its results; ask again"
            reply = m.Failure(id=reply.id, kind="ConnectionLostError", text=text)
        stream.put_nowait(reply)

    def end(self, reason: str) -> None:
        """Tell whoever waits that the session is gone."""
        for request, stream in self.streams.items():
            stream.put_nowait(m.Failure(id=request, kind="ConnectionLostError", text=reason))


class Leases:
    """Opens, finds and ends sessions. To be used in the event loop's thread only.

    Args:
        devices: where they run.
        volumes: what they may be about.
        most: how many there may be at a time.
        time_outs: when they end by themselves.
        clock: seconds, rising.
    """

    def __init__(
        self,
        devices: Devices,
        volumes: VolumeStore,
        most: int,
        time_outs: TimeOuts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.time_outs = time_outs
        self.most = most
        self.opened = 0
        self._drained: Callable[[], None] | None = None
        self._devices = devices
        self._volumes = volumes
        self._clock = clock
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def draining(self) -> bool:
        """Whether no more sessions are taken."""
        return self._drained is not None

    def drain(self, drained: Callable[[], None]) -> None:
        """Take no more sessions.

        Args:
            drained: called when the last one has ended; at once where there is none.
        """
        if self._drained is None:
            self._drained = drained
            _log.info("draining", extra={"sessions": len(self._leases)})
            if not self._leases:
                drained()

    async def open(self, model: str, volume: str, settings: SessionSettings) -> Lease:
        """A new session.

        Raises:
            RefusedError: there are too many, the server is draining, or no device works.
            ConnectionLostError: the device's process ended.
            KeyError: the volume is not here.
            BioSAM2Error: the settings do not fit.
        """
        self.sweep()
        if self.draining:
            raise RefusedError("the server takes no more sessions, because it is going to be stopped; use another")
        if len(self._leases) >= self.most:
            raise RefusedError(f"all {self.most} sessions of the server are taken; try again later")
        held = self._volumes.use(volume)
        if held is None:
            raise KeyError(volume)
        now = self._clock()
        lease = Lease(secrets.token_urlsafe(24), volume, heard=now, used=now)
        loop = asyncio.get_running_loop()

        def deliver(reply: m.Reply) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(lease.route, reply)

        def lost(reason: str) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.close, lease, reason)

        try:
            lease.seat, lease.device = self._devices.seat(model, held, deliver, lost)
        except BaseException:
            self._volumes.release(volume)
            raise
        self._leases[lease.id] = lease
        created = False
        try:
            answer = await self.ask(lease, m.Create(id=0, settings=settings)).get()
            lease.streams.pop(0, None)
            if isinstance(answer, m.Failure):
                raise error_of(answer.kind, answer.text)
            assert isinstance(answer, m.Created)
            lease.created = answer
            created = True
        finally:
            if not created:
                self.close(lease, "the session could not be opened")
        self.opened += 1
        return lease

    def find(self, name: str) -> Lease | None:
        """The session of that name, noting that its client is there."""
        lease = self._leases.get(name)
        if lease is not None:
            lease.heard = self._clock()
        return lease

    def ask(self, lease: Lease, request: m.Asked) -> asyncio.Queue[m.Reply]:
        """Give a session's host a request; its answers come in the queue, see `answers`.

        Raises:
            RefusedError: too many of its requests wait.
        """
        stream: asyncio.Queue[m.Reply] = asyncio.Queue()
        self.tell(lease, request)
        lease.streams[request.id] = stream
        return stream

    async def answers(
        self, lease: Lease, request: int, stream: asyncio.Queue[m.Reply], every: float = _SIGN_OF_LIFE
    ) -> AsyncIterator[m.Reply]:
        """What `ask` put into the queue, up to the final answer, with a sign of life every so many seconds.

        Whoever takes the next one is there; only real answers show that the session is used.
        """
        try:
            while True:
                try:
                    reply = await asyncio.wait_for(stream.get(), every)
                except asyncio.TimeoutError:
                    yield m.Progress(id=request, stage="working")
                    lease.heard = self._clock()
                    continue
                yield reply
                lease.heard = lease.used = self._clock()
                if isinstance(reply, m.Answer):
                    return
        finally:
            if lease.streams.get(request) is stream:
                del lease.streams[request]

    def tell(self, lease: Lease, request: m.Asked) -> None:
        """Give a session's host what has no answer.

        Raises:
            RefusedError: too many of its requests wait.
        """
        lease.used = self._clock()
        if lease.seat.waiting >= _MOST_REQUESTS:
            raise RefusedError(f"{_MOST_REQUESTS} requests of the session wait already; wait for their answers")
        lease.seat.submit(request)

    def close(self, lease: Lease, reason: str) -> None:
        """End a session."""
        if self._leases.pop(lease.id, None) is not None:
            self._devices.leave(lease.seat)
            self._volumes.release(lease.volume)
            lease.end(reason)
            if self._drained is not None and not self._leases:
                self._drained()

    def close_all(self, reason: str) -> None:
        """End every session."""
        for lease in list(self._leases.values()):
            self.close(lease, reason)

    def sweep(self) -> float:
        """End the sessions whose time is over; returns seconds until the next may be."""
        now = self._clock()
        soonest = self.time_outs.liveness
        for lease in list(self._leases.values()):
            left = min(lease.heard + self.time_outs.liveness, lease.used + self.time_outs.idle) - now
            if left <= 0:
                silent = lease.heard + self.time_outs.liveness <= now
                reason = "its client was not heard of" if silent else "it was not used"
                _log.info("session ended", extra={"reason": reason, "sessions": len(self._leases) - 1})
                self.close(lease, f"the server ended the session because {reason}")
            else:
                soonest = min(soonest, left)
        return soonest
