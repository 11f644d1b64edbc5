"""A client's session beside a session in this process: whatever is done, and whenever the host dies."""

from __future__ import annotations

import itertools

import biosam2
import numpy as np
import pytest
from biosam2 import Box, Lasso, Line, Mask, Point, Scribble
from biosam2.service.client import ClientSession
from biosam2.service.errors import ServiceError
from biosam2.speed import Speed
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from service_helpers import LoopConnector, ModelEngine, outcome, same_state, same_updates

SEGMENTS = st.sampled_from(["a", "b"])
SLICES = st.integers(0, 5)
FEW = st.integers(0, 7)


class Sessions(RuleBasedStateMachine):
    """The same operations on a session here and on one behind a link that is cut now and then."""

    engine: ModelEngine
    ahead = 1

    @initialize(crop=st.sampled_from([None, "auto"]))
    def begin(self, crop: str | None) -> None:
        self.connector = LoopConnector(self.engine)
        self.notices: list[str] = []
        self.there = ClientSession(
            self.connector, self.engine.volume, crop=crop, ahead=self.ahead, on_notice=self.notices.append
        )
        self.here = biosam2.Session(self.engine.model, self.engine.volume, crop=crop)
        self.running: tuple | None = None
        self.both("add_prompt", "a", Point((11, 10, 3)))

    def both(self, name: str, *given: object) -> None:
        there, here = outcome(getattr(self.there, name), *given), outcome(getattr(self.here, name), *given)
        if isinstance(there, np.ndarray):
            assert isinstance(here, np.ndarray)
            assert np.array_equal(there, here)
        else:
            assert there == here
        self.compare()

    def compare(self) -> None:
        """In the middle of a slice, a session shows segments that its propagation has not yet told of."""
        if self.running is None:
            same_state(self.there, self.here)

    @rule(segment=SEGMENTS, k=SLICES, i=st.integers(0, 19), positive=st.booleans())
    def point(self, segment: str, k: int, i: int, positive: bool) -> None:
        self.both("add_prompt", segment, Point((i, 10, k), positive))

    @rule(segment=SEGMENTS, low=SLICES, high=SLICES)
    def box(self, segment: str, low: int, high: int) -> None:
        self.both("add_prompt", segment, Box((6, 6, min(low, high)), (15, 16, max(low, high))))

    @rule(segment=SEGMENTS, k=SLICES, top=st.integers(0, 12))
    def draw(self, segment: str, k: int, top: int) -> None:
        drawn = np.zeros((24, 20), dtype=bool)
        drawn[top : top + 9, 4:14] = True
        self.both("add_prompt", segment, Mask(k, drawn))

    @rule(segment=SEGMENTS, k=SLICES, top=st.integers(0, 12), positive=st.booleans())
    def lasso(self, segment: str, k: int, top: int, positive: bool) -> None:
        outline = [(top, 4), (top + 9, 4), (top + 9, 14), (top, 14)]
        self.both("add_prompt", segment, Lasso(k, outline, positive))

    @rule(segment=SEGMENTS, k=SLICES, row=st.integers(0, 23), positive=st.booleans())
    def scribble(self, segment: str, k: int, row: int, positive: bool) -> None:
        self.both("add_prompt", segment, Scribble(k, [(row, 4), (10, 12)], positive))

    @rule(segment=SEGMENTS, k=SLICES, row=st.integers(0, 9))
    def line(self, segment: str, k: int, row: int) -> None:
        self.both("add_prompt", segment, Line(k, [(row, 4), (10, 12)]))

    @rule(segment=SEGMENTS, position=st.integers(-2, 3))
    def remove(self, segment: str, position: int) -> None:
        self.running = None
        self.both("remove_prompt", segment, position)

    @rule(segment=SEGMENTS, k=SLICES, locked=st.booleans())
    def lock(self, segment: str, k: int, locked: bool) -> None:
        self.both("lock", segment, k, locked)

    @rule(segment=SEGMENTS)
    def start(self, segment: str) -> None:
        mask = np.zeros(self.engine.volume.shape, dtype=bool)
        mask[1:3, 3:9, 4:8] = True
        self.both("start_from", segment, mask)

    @rule(segment=SEGMENTS)
    def clear(self, segment: str) -> None:
        self.running = None
        self.both("clear", segment)

    @rule(segment=SEGMENTS, k=SLICES)
    def predict(self, segment: str, k: int) -> None:
        self.both("predict", segment, k)

    @rule(segment=SEGMENTS, k=SLICES)
    def logits(self, segment: str, k: int) -> None:
        self.both("logits", segment, k)

    @rule()
    def undo(self) -> None:
        self.running = None
        self.both("undo")

    @rule()
    def redo(self) -> None:
        self.running = None
        self.both("redo")

    @rule(
        direction=st.sampled_from(["both", "forward", "backward"]),
        few=FEW,
        bounds=st.none() | st.tuples(SLICES, SLICES),
    )
    def propagate(self, direction: str, few: int, bounds: tuple[int, int] | None) -> None:
        """Begin, and leave it in the middle or not."""
        first, last = (min(bounds), max(bounds)) if bounds else (None, None)
        begun = [outcome(s.propagate, None, direction, first, last) for s in (self.there, self.here)]
        if isinstance(begun[1], tuple):
            assert begun[0] == begun[1]
            return
        self.running = None
        self.compare()
        self.running = (begun[0], begun[1])
        self.go_on(few)

    @rule(few=FEW)
    def go_on(self, few: int) -> None:
        if self.running is not None:
            there, here = (list(itertools.islice(updates, few)) for updates in self.running)
            same_updates(there, here)
            if len(here) < few:
                self.running = None
            self.compare()

    @rule()
    def cancel(self) -> None:
        if self.running is not None:
            self.there.cancel()
            self.here.cancel()
            self.go_on(1)
            self.running = None
            same_state(self.there, self.here)

    @rule()
    def cut(self) -> None:
        self.connector.cut()

    @rule()
    def forget(self) -> None:
        """The host loses what it knows of the session, but not the session."""
        known = self.connector.loop.host._known
        if self.running is None and known is not None:
            known._entries.clear()

    def teardown(self) -> None:
        if hasattr(self, "there"):
            assert self.there.to_record() == self.here.to_record()
            assert len(self.notices) <= self.connector.opened


@pytest.mark.parametrize("examples", [12, pytest.param(400, marks=pytest.mark.soak)])
def test_a_client_session_is_a_session_whatever_happens(model, volume, examples: int) -> None:
    class Machine(Sessions):
        engine = ModelEngine(model, volume)

    limits = settings(
        max_examples=examples,
        stateful_step_count=14,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=limits)


@pytest.fixture
def connector(model, volume):
    return LoopConnector(ModelEngine(model, volume))


def test_a_propagation_ahead_of_its_reader_gives_the_same(connector, model, volume) -> None:
    here = biosam2.Session(model, volume)
    there = ClientSession(connector, volume, ahead=4, on_notice=print)
    for session in (here, there):
        session.add_prompt("a", Point((11, 10, 3)))
        session.add_prompt("b", Point((4, 4, 1)))
    updates = there.propagate()
    got = [next(updates)]
    connector.cut()
    same_updates(got + list(updates), list(here.propagate()))
    same_state(there, here)


def test_what_was_finished_ahead_is_kept_when_the_reader_stops(connector, model, volume) -> None:
    there = ClientSession(connector, volume, ahead=4)
    there.add_prompt("a", Point((11, 10, 0)))
    for _ in there.propagate():
        break
    entry = there.journal[-1]
    assert 1 <= len(entry.finished) <= 5
    assert not entry.complete
    here = biosam2.Session.from_record(there.to_record(), model, volume)
    same_state(here, there)


def test_a_lock_while_propagating_is_kept_through_a_cut_and_in_the_record(connector, model, volume) -> None:
    there = ClientSession(connector, volume, on_notice=print)
    there.add_prompt("a", Point((11, 10, 0)))
    list(there.propagate())
    there.add_prompt("a", Point((3, 3, 0), positive=False))
    for n, _ in enumerate(there.propagate()):
        if n == 0:
            there.lock("a", 5)  # not reached yet: as it was before
        if n == 1:
            connector.cut()
    same_state(biosam2.Session.from_record(there.to_record(), model, volume), there)


def test_a_prompt_between_two_slices_waits_for_the_next_propagation(connector, model, volume) -> None:
    here, there = biosam2.Session(model, volume), ClientSession(connector, volume, on_notice=print)
    told = []
    for session in (here, there):
        session.add_prompt("a", Point((11, 10, 1)))
        updates = session.propagate()
        one = [next(updates)]
        session.add_prompt("a", Point((3, 3, 4), positive=False))
        click = session.predict("a", 4)
        if session is there:
            connector.cut()
        told.append((click, one + list(updates), list(session.propagate())))
    assert np.array_equal(told[0][0], told[1][0])
    same_updates(told[0][1], told[1][1])
    same_updates(told[0][2], told[1][2])
    same_state(there, here)


def test_a_correction_in_the_middle_of_a_propagation_is_outlined_the_same_after_a_cut(connector, model, volume) -> None:
    """The next host first does again what of the propagation there is: it is what the correction refines."""
    here, there = biosam2.Session(model, volume), ClientSession(connector, volume, on_notice=print)
    clicks = []
    for session in (here, there):
        session.add_prompt("a", Point((11, 10, 1)))
        updates = session.propagate()
        for _ in range(4):
            next(updates)
        session.add_prompt("a", Point((3, 3, 3), positive=False))
        if session is there:
            connector.cut()
        clicks.append(session.predict("a", 3))
        list(updates)
    assert np.array_equal(*clicks)
    same_state(there, here)


def test_an_operation_that_kills_every_host_is_given_up(connector, volume) -> None:
    notices: list[str] = []
    session = ClientSession(connector, volume, on_notice=notices.append)
    session.add_prompt("a", Point((11, 10, 1)))
    good = connector.open

    def deadly(*given):
        loop, model = good(*given)
        send = loop.tell

        def tell(request):
            if type(request).__name__ == "Predict":
                loop.alive = False
            send(request)

        loop.tell = tell
        return loop, model

    connector.open = deadly
    connector.cut()
    with pytest.raises(ServiceError, match="tried"):
        session.predict("a", 1)
    connector.open = good
    assert session.predict("a", 1).shape == (24, 20)


def test_a_closed_session_still_shows_its_masks(connector, volume) -> None:
    with ClientSession(connector, volume) as session:
        session.add_prompt("a", Point((11, 10, 1)))
        list(session.propagate())
    assert session.mask("a").any()
    assert session.labelmap().max() == 1
    session.add_prompt("a", Point((3, 3, 4), positive=False))
    with pytest.raises(ServiceError, match="closed"):
        session.predict("a", 4)


def test_undo_and_redo_need_no_host(connector, model, volume) -> None:
    here, there = biosam2.Session(model, volume), ClientSession(connector, volume)
    for session in (here, there):
        session.add_prompt("a", Point((11, 10, 1)))
        list(session.propagate())
        session.add_prompt("a", Point((3, 3, 4), positive=False))
    connector.open = None  # whoever needed the host would notice
    connector.cut()
    for name in ("undo", "undo", "redo"):
        assert getattr(there, name)() == getattr(here, name)()
        same_state(there, here)


def test_a_host_that_has_another_history_is_sent_the_session_s(connector, model, volume) -> None:
    """A propagation that went further there than here is run again, as far as it went here."""
    here, there = biosam2.Session(model, volume), ClientSession(connector, volume, on_notice=print)
    for session in (here, there):
        session.add_prompt("a", Point((11, 10, 1)))
        list(session.propagate(first=0, last=2))
        session.add_prompt("a", Point((3, 3, 2), positive=False))
        session.predict("a", 2)
    known = connector.loop.host._known
    known.note(2, known.begin(2))
    assert np.array_equal(there.predict("a", 2), here.predict("a", 2))
    same_updates(list(there.propagate()), list(here.propagate()))
    same_state(there, here)
    assert connector.opened == 1


def test_what_lay_beyond_the_end_is_taken_back_wherever_the_network_runs(connector, model, volume) -> None:
    """Finished slices, masks and scores agree, where a sweep ends early and where a prompt was removed."""
    told = []
    for session in (
        biosam2.Session(model, volume, speed=Speed(stop=1)),
        ClientSession(connector, volume, speed=Speed(stop=1)),
    ):
        session.add_prompt("a", Mask(1, np.eye(24, 20, dtype=bool)))
        session.add_prompt("a", Point((11, 10, 4)))
        list(session.propagate(direction="forward"))
        session.add_prompt("a", Mask(2, np.zeros((24, 20), dtype=bool)))
        session.remove_prompt("a", 1)
        list(session.propagate(direction="forward"))
        told.append(session)
    same_state(*told)


def test_as_many_changes_can_be_undone_as_there_were(connector, model, volume) -> None:
    here, there = biosam2.Session(model, volume), ClientSession(connector, volume)
    for session in (here, there):
        for n in range(103):
            session.add_prompt("a", Point((n % 20, 10, 1)))
    assert sum(there.undo() for _ in range(110)) == sum(here.undo() for _ in range(110)) == 103
    same_state(there, here)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"crop": "all"}, "crop"),
        ({"axis": "q"}, "axis"),
        ({"window": "liver"}, "window"),
        ({"policy": object()}, "policy"),
        ({"precision": "float8"}, "precision"),
        ({"policy": "none such"}, "polic"),
    ],
)
def test_settings_that_are_none_are_refused(connector, volume, given: dict, says: str) -> None:
    with pytest.raises(biosam2.BioSAM2Error, match=says):
        ClientSession(connector, volume, **given)
