"""Several clients at once, clients that do not read, and a click beside somebody's long propagation."""

from __future__ import annotations

import itertools
import random
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import biosam2
import numpy as np
import pytest
from biosam2 import Box, Mask, Point
from biosam2.service import RemoteSession
from biosam2.service import messages as m
from biosam2.service.framing import encode
from biosam2.service.host import Host
from biosam2.service.scheduler import Scheduler
from server_helpers import Served
from service_helpers import outcome, same_state, same_updates


def operations(seed: int, shape: tuple[int, int, int], count: int) -> Iterator[tuple[str, tuple]]:
    """As many operations as asked for, of every kind; the same for the same seed."""
    chance = random.Random(seed)
    slices, rows, columns = shape
    drawn = np.zeros((rows, columns), dtype=bool)
    drawn[rows // 4 : rows // 2, columns // 4 : columns // 2] = True
    yield "add_prompt", ("a", Point((columns // 2, rows // 2, slices // 2)))
    for _ in range(count - 1):
        name, k = chance.choice("ab"), chance.randrange(slices)
        i, j = chance.randrange(columns), chance.randrange(rows)
        low, high = sorted((k, chance.randrange(slices)))
        yield chance.choices(
            [
                ("add_prompt", (name, Point((i, j, k), positive=chance.random() < 0.7))),
                ("add_prompt", (name, Box((i // 2, j // 2, k), (i // 2 + 5, j // 2 + 5, k)))),
                ("add_prompt", (name, Mask(k, drawn))),
                ("predict", (name, k)),
                ("propagate", (None, "both", low, min(high, low + 2))),
                ("lock", (name, k)),
                ("lock", (name, k, False)),
                ("logits", (name, k)),
                ("mask", (name,)),
                ("remove_prompt", (name, 0)),
                ("undo", ()),
                ("redo", ()),
                ("clear", (name,)),
            ],
            [12, 6, 2, 30, 10, 2, 1, 8, 8, 4, 10, 5, 1],
        )[0]


def perform(session, name: str, given: tuple) -> object:
    done = outcome(getattr(session, name), *given)
    return outcome(list, done) if name == "propagate" and not isinstance(done, tuple) else done


def same_outcome(there: object, here: object) -> bool:
    if isinstance(here, list) and isinstance(there, list):
        same_updates(there, here)
        return True
    return np.array_equal(there, here) if isinstance(here, np.ndarray) else there == here


@pytest.fixture
def many(request, model):
    """A model, clients and operations of each: few here, the shipped model and 8 × 200 in the campaign."""
    if request.param == "few":
        return model, 3, 25
    return biosam2.load_model("nano", device="cpu"), 8, 200


@pytest.mark.parametrize("many", ["few", pytest.param("many", marks=pytest.mark.soak)], indirect=True)
def test_clients_at_once_do_not_mix_and_lose_nothing(many, volumes) -> None:
    model, clients, count = many
    told: dict[int, object] = {}
    sessions: dict[int, RemoteSession] = {}

    def one(n: int) -> None:
        try:
            session = sessions[n] = RemoteSession(server.url, volumes(n))
            told[n] = [perform(session, *o) for o in operations(n, session.volume.shape, count)]
            session.close()
        except Exception as error:  # noqa: BLE001 - told by the main thread
            told[n] = error

    with Served({"model": model}) as server:
        threads = [threading.Thread(target=one, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n in range(clients):
        assert isinstance(told[n], list), told[n]
        assert len(told[n]) == count
        here = biosam2.Session(model, volumes(n))
        for there, (name, given) in zip(told[n], operations(n, here.volume.shape, count), strict=True):
            assert same_outcome(there, perform(here, name, given)), (n, name, given)
        same_state(sessions[n], here)


@pytest.mark.parametrize(("slices", "clicks"), [(40, 3), pytest.param(500, 40, marks=pytest.mark.soak)])
def test_a_click_waits_for_a_slice_of_a_neighbours_propagation_at_most(
    model, volumes, capsys, request, monkeypatch, slices: int, clicks: int
) -> None:
    long = request.node.get_closest_marker("soak") is not None
    network = biosam2.load_model("nano", device="cpu") if long else model
    # Slices of the neighbour from the moment when a click has come to the server to that when its turn begins.
    moved: list[int] = []
    came: dict[Host, int] = {}
    neighbours: list[Host] = []
    over = threading.Event()
    submit, take_turn = Scheduler.submit, Scheduler._take_turn

    def submitted(scheduler, host, asked, room=None) -> None:
        if neighbours and isinstance(asked, m.Predict):
            came[host] = neighbours[0]._running.count
        submit(scheduler, host, asked, room)

    def turn_taken(scheduler, host):
        if host in came:
            moved.append(neighbours[0]._running.count - came.pop(host))
        return take_turn(scheduler, host)

    monkeypatch.setattr(Scheduler, "submit", submitted)
    monkeypatch.setattr(Scheduler, "_take_turn", turn_taken)

    def waits(session) -> list[float]:
        taken = []
        for _ in range(clicks):
            begun = time.perf_counter()
            session.predict("a", 2)
            taken.append(time.perf_counter() - begun)
        return taken

    with Served({"model": network}) as server, RemoteSession(server.url, volumes(1)) as clicking:
        clicking.add_prompt("a", Point((11, 10, 2)))
        clicking.predict("a", 2)
        alone = waits(clicking)
        with RemoteSession(server.url, volumes(2, slices=slices), ahead=8) as neighbour:
            neighbour.add_prompt("a", Point((11, 10, slices // 2)))
            updates = neighbour.propagate()
            next(updates)
            thread = threading.Thread(target=lambda: next((u for u in updates if over.is_set()), None))
            thread.start()
            neighbours += [host for host in server.device.scheduler._hosts if host._running]
            beside = waits(clicking)
            neighbours.clear()
            over.set()
            thread.join()
    assert len(moved) == clicks
    assert max(moved) <= 2
    with capsys.disabled():
        if long:
            a, b = (1000 * statistics.median(taken) for taken in (alone, beside))
            text = f"{a:.1f} ms alone, {b:.1f} ms beside a propagation of {slices} slices"
            print(f"\na click's median wait: {text}")  # noqa: T201 - the campaign's figure


def test_a_slow_reader_holds_up_nobody_and_is_not_run_ahead_of(model, volumes) -> None:
    volume = volumes(3, slices=40)
    here = biosam2.Session(model, volume)
    with (
        Served({"small": model}) as server,
        RemoteSession(server.url, volume, ahead=4) as slow,
        RemoteSession(server.url, volumes(4)) as other,
    ):
        for session in (slow, here):
            session.add_prompt("a", Point((11, 10, 20)))
        updates = slow.propagate()
        got = [next(updates)]
        other.add_prompt("a", Point((11, 10, 2)))
        assert len(list(other.propagate())) == 6
        (host,) = (h for h in server.device.scheduler._hosts if h.moving or h._running.credit == 0)
        assert host._running.count <= 1 + 4 + 4
        same_updates(got + list(updates), list(here.propagate()))
        same_state(slow, here)


def test_clients_that_never_read_hold_up_nobody(model, volumes) -> None:
    """Answers of some hundred kilobytes, to sockets that take none of it."""
    big = biosam2.Volume(np.random.default_rng(1).integers(0, 99, (3, 400, 500)).astype(np.int16))
    deaf = []
    with Served({"small": model}) as server, RemoteSession(server.url, big) as owner:
        owner.add_prompt("a", Point((200, 200, 1)))
        list(owner.propagate())
        for number in range(12):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            body = encode(
                m.Logits(id=1000 + number, segment="a", slice_index=1, head=m.Head(id=2, finished=3, complete=True))
            )
            head = (
                f"POST {owner.executor.link._path}/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
            deaf.append(connection)
        with RemoteSession(server.url, volumes(4)) as other:
            other.add_prompt("a", Point((11, 10, 2)))
            assert len(list(itertools.islice(other.propagate(), 4))) == 4
        for connection in deaf:
            connection.close()
        assert owner.predict("a", 1).shape == (400, 500)
