"""What the tests of the service share: a link without a process, and comparisons."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import biosam2
import numpy as np
from biosam2 import Point
from biosam2.service import RemoteSession
from biosam2.service import messages as m
from biosam2.service.engines import new_session
from biosam2.service.errors import ConnectionLostError, error_of
from biosam2.service.framing import Decoder, Refused, encode
from biosam2.service.host import Host
from biosam2.session import SessionSettings
from biosam2.session.entries import to_json


class ModelEngine:
    """An engine whose model and volume are there already."""

    relay = False

    def __init__(self, model: biosam2.models.Model, volume: biosam2.Volume) -> None:
        self.model, self.volume = model, volume

    def create(self, asked: m.Create) -> biosam2.Session:
        return new_session(self.model, self.volume, asked)

    def encode_ahead(self, session: biosam2.Session, busy: Callable[[], bool]) -> bool:
        return session.encode_ahead(busy)

    def close(self, session: biosam2.Session) -> None:
        pass


class Loop:
    """A link to a host in this process: every message passes through bytes, nothing passes by itself."""

    def __init__(self, engine: ModelEngine) -> None:
        self.host = Host(engine)
        self.alive = True
        self._requests: Decoder = Decoder(m.Asked)
        self._replies: Decoder = Decoder(m.Reply)
        self._waiting: dict[int, deque] = {}

    def ask(self, request: m.Request) -> Iterator[m.Reply]:
        self._waiting[request.id] = deque()
        self.tell(request)
        return self._answers(request.id)

    def tell(self, request: m.Request) -> None:
        self._check()
        for got in self._requests.feed(encode(request)):
            assert not isinstance(got, Refused), got
            self.host.receive(got)

    def close(self) -> None:
        self.alive = False

    def _answers(self, request: int) -> Iterator[m.Reply]:
        waiting = self._waiting[request]
        while True:
            while not waiting:
                self._check()
                assert self.host.waiting or self.host.moving, "nobody would ever answer"
                for reply in self.host.work():
                    for got in self._replies.feed(encode(reply)):
                        self._waiting[got.id].append(got)
            reply = waiting.popleft()
            yield reply
            if isinstance(reply, m.Answer):
                return

    def _check(self) -> None:
        if not self.alive:
            raise ConnectionLostError("the loop was cut")


class LoopConnector:
    """Opens loops, and remembers the last, so that a test can cut it."""

    def __init__(self, engine: ModelEngine) -> None:
        self.engine = engine
        self.opened = 0

    def open(self, settings: SessionSettings, progress, notice) -> tuple[Loop, m.Created]:
        self.loop = Loop(self.engine)
        self.opened += 1
        (reply,) = self.loop.ask(m.Create(id=10**9, settings=settings))
        if isinstance(reply, m.Failure):
            raise error_of(reply.kind, reply.text)
        return self.loop, reply

    def cut(self) -> None:
        self.loop.alive = False

    def close(self) -> None:
        pass


def same_state(one, other) -> None:
    """Assert that two sessions, wherever they are, show the same."""
    assert one.segments == other.segments
    assert [to_json(e) for e in one.journal] == [to_json(e) for e in other.journal]
    for name in one.segments:
        assert one.prompts(name) == other.prompts(name)
        assert one.finished_slices(name) == other.finished_slices(name)
        assert np.array_equal(one.mask(name), other.mask(name)), name
        for s in one.finished_slices(name):
            assert outcome(one.score, name, s) == outcome(other.score, name, s)


def outcome(do, *given):
    """What a call returns, or the kind and text of the error that it raises."""
    try:
        return do(*given)
    except biosam2.BioSAM2Error as error:
        return type(error), str(error)


def same_updates(one: list, other: list) -> None:
    """Assert that two propagations told the same."""
    assert [(u.segment, u.slice_index, u.score) for u in one] == [(u.segment, u.slice_index, u.score) for u in other]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(one, other, strict=True))


@contextmanager
def killed_amid_propagations(
    url: str, model: biosam2.models.Model, volumes: Callable[..., biosam2.Volume], kill: Callable[[], None]
) -> Iterator[list[list[str]]]:
    """Four sessions on a server propagate, something is killed after three slices of each, and nothing differs.

    Args:
        url: of the server.
        model: the network that runs there, here.
        volumes: makes one for each session.
        kill: called while all four wait for their fourth slice.

    Yields:
        The notices that each session gave; the sessions are open until the context ends.
    """
    notices: list[list[str]] = [[] for _ in range(4)]
    sessions = [RemoteSession(url, volumes(n, slices=20), ahead=4, on_notice=notices[n].append) for n in range(4)]
    begun, killed = threading.Barrier(5), threading.Event()
    got: list[list[biosam2.Update]] = [[] for _ in sessions]

    def one(n: int) -> None:
        sessions[n].add_prompt("a", Point((11, 10, 9)))
        for update in sessions[n].propagate():
            got[n].append(update)
            if len(got[n]) == 3:
                begun.wait(60)
                killed.wait(60)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    kill()
    killed.set()
    for thread in threads:
        thread.join()
    for n, session in enumerate(sessions):
        here = biosam2.Session(model, session.volume)
        here.add_prompt("a", Point((11, 10, 9)))
        same_updates(got[n], list(here.propagate()))
        same_state(session, here)
    yield notices
    for session in sessions:
        session.close()
