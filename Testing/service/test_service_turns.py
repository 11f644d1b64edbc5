"""Whose turn it is, and when a session ends by itself."""

from __future__ import annotations

import asyncio
import threading

import biosam2
import pytest
from biosam2 import Point
from biosam2.engine.features import FeatureCache
from biosam2.service import messages as m
from biosam2.service.errors import RefusedError
from biosam2.service.host import Host
from biosam2.service.scheduler import Scheduler
from biosam2.service.server.device import Devices
from biosam2.service.server.leases import Leases, TimeOuts
from biosam2.service.server.local import LocalDevice
from biosam2.service.server.volumes import Held, VolumeStore
from biosam2.service.upload import volume_id
from biosam2.session.entries import Prompted, Propagated
from biosam2.session.settings import SessionSettings
from service_helpers import ModelEngine

CREATE = m.Create(id=1, settings=SessionSettings(axis="k", window=(50.0, 100.0)))


def prompt(request: int) -> m.Sync:
    """A prompt, entry 1, and a propagation after it, entry 2."""
    entries = (Prompted("a", Point((11, 10, 2))), Propagated(("a",), "both", None, None))
    return m.Sync(id=request, entries=[m.SentEntry(id=n, parent=n - 1, entry=e) for n, e in enumerate(entries, 1)])


def propagate(request: int, credit: int = 100) -> m.Propagate:
    return m.Propagate(id=request, head=m.Head(id=2), credit=credit)


def predict(request: int) -> m.Predict:
    return m.Predict(id=request, head=m.Head(id=1), segment="a", slice_index=2)


@pytest.fixture
def scheduler():
    scheduler = Scheduler()
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    yield scheduler
    scheduler.stop()
    thread.join()


def test_a_click_goes_ahead_of_propagations_ones_own_and_others(scheduler, model, volume) -> None:
    """The click is sent when the first slice has come; its answer comes before a second slice of anybody."""
    one, other = Host(ModelEngine(model, volume)), Host(ModelEngine(model, volume))
    told: list[tuple[str, str]] = []
    over = threading.Event()

    def from_one(reply: m.Reply) -> None:
        told.append(("one", type(reply).__name__))
        if isinstance(reply, m.Update) and reply.number == 1:
            scheduler.submit(other, prompt(2))
            scheduler.submit(other, predict(3))
            scheduler.submit(one, predict(4))
        if isinstance(reply, m.Propagated):
            over.set()

    scheduler.add(one, from_one)
    scheduler.add(other, lambda reply: told.append(("other", type(reply).__name__)))
    scheduler.submit(other, CREATE)
    for request in (CREATE, prompt(2), propagate(3)):
        scheduler.submit(one, request)
    assert over.wait(60)
    first = told.index(("one", "Update"))
    second = told.index(("one", "Update"), first + 1)
    assert ("other", "MaskAnswer") in told[first:second]
    assert ("one", "MaskAnswer") in told[first:second]


def test_busy_clients_do_not_starve_a_propagation(scheduler, model, volume) -> None:
    one, other = Host(ModelEngine(model, volume)), Host(ModelEngine(model, volume))
    answers = 0
    over = threading.Event()

    def from_other(reply: m.Reply) -> None:
        """Ask again and again, without a pause."""
        nonlocal answers
        answers += 1
        if not over.is_set():
            for _ in range(2):
                scheduler.submit(other, m.Sync(id=answers * 2 + 100 + _, entries=[]))

    scheduler.add(other, from_other)
    scheduler.add(one, lambda reply: over.set() if isinstance(reply, m.Propagated) else None)
    scheduler.submit(other, CREATE)
    for request in (CREATE, prompt(2), propagate(3)):
        scheduler.submit(one, request)
    assert over.wait(60)
    assert answers > 5


def test_a_cancelled_propagation_stops_after_its_slice(model, volume) -> None:
    host = Host(ModelEngine(model, volume))
    for request in (CREATE, prompt(2), propagate(3)):
        host.receive(request)
    told = [reply for _ in range(3) for reply in host.work()]
    assert isinstance(told[-1], m.Update)
    host.receive(m.Cancel(id=4))
    (over,) = host.work()
    assert (type(over), over.count, over.complete) == (m.Propagated, 1, False)
    assert not host.moving


def test_a_repeated_request_is_answered_and_not_done_again(model, volume) -> None:
    host = Host(ModelEngine(model, volume))
    for request in (CREATE, prompt(2), predict(3), predict(3), predict(4)):
        host.receive(request)
    answers = [next(iter(host.work())) for _ in range(5)]
    assert [type(answer) for answer in answers] == [m.Created, m.Done, *[m.MaskAnswer] * 3]
    assert answers[2] is answers[3]
    assert answers[2] is not answers[4]


def test_a_session_that_is_created_answers_nothing_of_the_one_before(model, volume) -> None:
    """Not even under the same identifiers."""
    host = Host(ModelEngine(model, volume))
    again = m.Create(id=5, settings=CREATE.settings)
    for request in (CREATE, prompt(2), predict(3), propagate(4), again, predict(3), propagate(4)):
        host.receive(request)
    told = []
    while host.waiting or host.moving:
        told += host.work()
    later = told[1 + next(n for n, reply in enumerate(told) if reply.id == 5) :]
    assert [(reply.id, type(reply)) for reply in later] == [(3, m.Stale), (4, m.Stale)]


def test_no_more_is_sent_than_was_granted(model, volume) -> None:
    host = Host(ModelEngine(model, volume))
    for request in (CREATE, prompt(2), propagate(3, 2)):
        host.receive(request)
    while host.waiting:
        list(host.work())
    assert [u.number for u in host.work()] == [2]
    assert not host.moving
    host.receive(m.Grant(id=4, of=3, credit=9999, received=2))
    list(host.work())
    assert [u.number for _ in range(2) for u in host.work()] == [3, 4]
    assert not host.moving


def test_idle_time_is_spent_on_the_slices_around_the_prompt_and_a_click_ends_it(scheduler, model, volume) -> None:
    """The propagation that follows finds its slices encoded; a request gives up the slice under way."""
    engine = ModelEngine(model, volume)
    host = Host(engine)
    quiet, clicked, answered = threading.Event(), threading.Event(), threading.Event()
    given_up: list[bool] = []
    look_ahead = engine.encode_ahead

    def encode_ahead(session: biosam2.Session, busy) -> bool:
        if not clicked.is_set():
            clicked.set()
            scheduler.submit(host, predict(9))
            given_up.append(busy())
        more = look_ahead(session, busy)
        if not more:
            quiet.set()
        return more

    engine.encode_ahead = encode_ahead
    scheduler.add(host, lambda reply: answered.set() if reply.id == 9 else None)
    for request in (CREATE, prompt(2), predict(3)):
        scheduler.submit(host, request)
    assert answered.wait(60)
    assert given_up == [True]
    assert quiet.wait(60)
    assert len(host._session._executor.tracker.features) == volume.shape[0]


def test_a_fault_ahead_of_the_user_is_no_answer(scheduler, model, volume, caplog) -> None:
    engine = ModelEngine(model, volume)
    host, told, over = Host(engine), [], threading.Event()

    def broken(session: biosam2.Session, busy) -> bool:
        raise RuntimeError("broken")

    def deliver(reply: m.Reply) -> None:
        told.append(type(reply))
        if isinstance(reply, m.Propagated):
            over.set()

    engine.encode_ahead = broken
    scheduler.add(host, deliver)
    for request in (CREATE, prompt(2)):
        scheduler.submit(host, request)
    scheduler.submit(host, propagate(3))
    assert over.wait(60)
    assert m.Failure not in told


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(volume) -> VolumeStore:
    store = VolumeStore(1 << 20)
    store.keep(Held(volume_id(volume), volume))
    return store


@pytest.fixture
def device(model):
    device = LocalDevice({"small": model}, 1 << 30)
    device.start()
    yield device
    device.stop()


@pytest.fixture
def devices(device) -> Devices:
    return Devices([device])


def test_silent_and_idle_sessions_end(devices, store, volume) -> None:
    clock = Clock()
    leases = Leases(devices, store, 2, TimeOuts(liveness=90, idle=1000), clock)

    async def story() -> None:
        name = volume_id(volume)
        beating = await leases.open("small", name, SessionSettings(axis="k", window=(0.0, 1.0)))
        await leases.open("small", name, SessionSettings(axis="k", window=(0.0, 1.0)))
        with pytest.raises(RefusedError, match="all 2 sessions"):
            await leases.open("small", name, CREATE.settings)
        for clock.now in range(0, 1000, 80):
            assert leases.find(beating.id) is beating
            leases.sweep()
            assert len(leases) == (2 if clock.now < 90 else 1)
        clock.now = 1000
        leases.find(beating.id)
        leases.sweep()
        assert len(leases) == 0
        with pytest.raises(KeyError):
            await leases.open("small", "0" * 64, CREATE.settings)
        with pytest.raises(biosam2.errors.InputError, match="width"):
            await leases.open("small", name, SessionSettings(axis="k", window=(0.0, -1.0)))
        assert len(leases) == 0

    asyncio.run(story())
    # Nobody uses the volume any more: it gives way.
    store.reserve(1 << 20)
    assert len(store) == 0


def test_a_client_that_takes_its_answers_is_there_and_only_answers_are_use(devices, store, volume) -> None:
    clock = Clock()
    leases = Leases(devices, store, 2, TimeOuts(liveness=90, idle=1000), clock)
    settings = SessionSettings(axis="k", window=(0.0, 1.0))

    async def story() -> None:
        reading = await leases.open("small", volume_id(volume), settings)
        stuck = await leases.open("small", volume_id(volume), settings)
        for lease in (reading, stuck):
            async for _ in leases.answers(lease, 2, leases.ask(lease, prompt(2))):
                assert isinstance(_, m.Done)
            assert lease.streams == {}
        begun = {lease: leases.ask(lease, propagate(3, 1)) for lease in (reading, stuck)}
        assert (await begun[stuck].get()).number == 1
        replies = leases.answers(reading, 3, begun[reading], every=0.01)
        # A propagation that its reader has left in the middle: after its one update there are only signs of life.
        while not isinstance(await anext(replies), m.Update):
            pass
        for clock.now in range(0, 960, 80):
            assert isinstance(await anext(replies), m.Progress)
            leases.sweep()
            assert len(leases) == (2 if clock.now < 90 else 1)
        assert "not heard of" in (await begun[stuck].get()).text
        clock.now = 1001
        await anext(replies)
        leases.sweep()
        assert len(leases) == 0
        assert "not used" in (await anext(replies)).text

    asyncio.run(story())


def test_a_client_that_takes_nothing_is_not_waited_for(devices, store, volume) -> None:
    """Even when it says that it has received what it never took."""
    leases = Leases(devices, store, 1, TimeOuts())

    async def story() -> None:
        lease = await leases.open("small", volume_id(volume), SessionSettings(axis="k", window=(0.0, 1.0)))
        stream = leases.ask(lease, prompt(2))
        for number in range(300):
            lease.route(m.Progress(id=2, stage=str(number)))
        assert 2 not in lease.streams
        assert stream.qsize() == 257
        told = [stream.get_nowait() for _ in range(257)]
        assert "did not take its results" in told[-1].text

    asyncio.run(story())


def test_requests_that_nobody_waits_for_are_bounded(devices, device, store, model, volume) -> None:
    leases = Leases(devices, store, 1, TimeOuts())
    busy, free = threading.Event(), threading.Event()
    other = Host(ModelEngine(model, volume))
    device.scheduler.add(other, lambda reply: (busy.set(), free.wait()))
    device.scheduler.submit(other, CREATE)
    assert busy.wait(60)

    async def story() -> None:
        opening = asyncio.ensure_future(
            leases.open("small", volume_id(volume), SessionSettings(axis="k", window=(0, 1)))
        )
        await asyncio.sleep(0)
        (lease,) = leases._leases.values()
        while lease.seat.waiting < 64:
            leases.tell(lease, m.Cancel(id=lease.seat.waiting))
        with pytest.raises(RefusedError, match="wait already"):
            leases.tell(lease, m.Cancel(id=64))
        assert lease.seat.waiting == 64
        opening.cancel()

    try:
        asyncio.run(story())
    finally:
        free.set()


def test_a_client_cannot_be_owed_more_than_it_asked_for(model, volume) -> None:
    host = Host(ModelEngine(model, volume))
    for request in (CREATE, prompt(2), propagate(3, 2)):
        host.receive(request)
    for number in range(20):
        host.receive(m.Grant(id=10 + number, of=3, credit=9999, received=0))
    while host.waiting or host.moving:
        list(host.work())
    assert len(host._running.kept) == 2


def test_volumes_in_use_stay_and_others_give_way(volumes) -> None:
    few = [volumes(n) for n in range(3)]
    size = few[0].array.nbytes
    store = VolumeStore(2 * size)
    for n, volume in enumerate(few[:2]):
        store.reserve(size)
        store.give_back(size)
        store.keep(Held(str(n), volume))
    assert store.use("0").volume is few[0]
    store.reserve(size)
    assert "0" in store
    assert "1" not in store
    with pytest.raises(RefusedError, match="no room"):
        store.reserve(size)


def test_features_of_all_sessions_share_one_budget(model, volume) -> None:
    from biosam2.service.server.features import SharedFeatures

    whole = FeatureCache()
    volumes = (volume, volume.with_array(volume.array.copy()))
    sessions = [biosam2.Session(model, each, features=SharedFeatures(whole)) for each in volumes]
    masks = []
    for session in sessions:
        session.add_prompt("a", Point((11, 10, 2)))
        list(session.propagate())
        masks.append(session.mask("a"))
    assert len(whole) == 12
    sessions[0]._executor.tracker.features.forget()
    assert len(whole) == 6
    one = whole.nbytes // 6
    tight = FeatureCache(2 * one)
    session = biosam2.Session(model, volume, features=SharedFeatures(tight))
    session.add_prompt("a", Point((11, 10, 2)))
    list(session.propagate())
    assert tight.nbytes <= 2 * one
    assert (session.mask("a") == masks[0]).all()
