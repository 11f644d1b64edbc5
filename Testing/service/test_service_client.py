"""A client's session beside a session in this process, in cases that are named; `contract` has the random ones."""

from __future__ import annotations

import biosam2
import numpy as np
import pytest
from biosam2 import Mask, Point
from biosam2.service.client import ClientSession
from biosam2.service.errors import ServiceError
from biosam2.session import sweep
from biosam2.speed import Speed
from service_helpers import LoopConnector, ModelEngine, same_state, same_updates


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


def test_which_slices_were_interpolated_is_known_wherever_it_runs(connector, model, volume, monkeypatch) -> None:
    monkeypatch.setattr(sweep, "_ALIKE", -1.0)
    here, there = (
        biosam2.Session(model, volume, speed=Speed(stride=2)),
        ClientSession(connector, volume, speed=Speed(stride=2)),
    )
    told = []
    for session in (here, there):
        session.add_prompt("a", Mask(0, np.eye(24, 20, dtype=bool)))
        told.append([(u.slice_index, u.interpolated) for u in session.propagate()])
        assert session.interpolated_slices("a") == tuple(s for s, interpolated in told[0] if interpolated)
    assert told[0] == told[1]
    assert here.interpolated_slices("a")
    assert here.journal == there.journal
    same_state(there, here)


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
