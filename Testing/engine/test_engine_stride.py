"""The network on every n-th slice: what is interpolated, what is not, and that it can be done again."""

import json

import biosam2
import numpy as np
import pytest
import torch
from biosam2 import Mask, Point
from biosam2.engine.memory import MemoryBank, SliceMemory
from biosam2.errors import InputError
from biosam2.frames import Frames
from biosam2.interpolation import between
from biosam2.masks import pack
from biosam2.session import sweep as sweeps
from biosam2.speed import Speed
from networks import with_presence


@pytest.fixture
def all_alike(monkeypatch):
    """Whatever two masks look like, those between are interpolated."""
    monkeypatch.setattr(sweeps, "_ALIKE", -1.0)


@pytest.fixture
def none_alike(monkeypatch):
    monkeypatch.setattr(sweeps, "_ALIKE", 2.0)


def painted(columns=slice(6, 16)):
    mask = np.zeros((16, 20), bool)
    mask[4:11, columns] = True
    return mask


def prompted(model, volume, stride, *slices, **speed):
    session = biosam2.Session(model, volume, speed=Speed(stride=stride, **speed))
    for s in slices:
        session.add_prompt("x", Mask(s, painted()))
    return session


def logits(session):
    return [session.logits("x", s) for s in session.finished_slices("x")]


@pytest.mark.usefixtures("all_alike")
def test_slices_between_are_interpolated(model, volume):
    session = prompted(with_presence(model, 10.0), volume, 3, 1)
    updates = list(session.propagate())
    assert [u.slice_index for u in updates] == [*range(1, 10), 0]
    assert [u.slice_index for u in updates if u.interpolated] == [2, 3, 5, 6, 8]  # 9 is the last one
    assert session.interpolated_slices("x") == (2, 3, 5, 6, 8)
    bank = session._executor._bank(session.state, "x")
    one, four = (bank.result(s).unpacked(16, 20) for s in (1, 4))
    shown = session.mask("x")
    assert all((shown[s] == mask).all() for s, mask in zip((2, 3), between(one, four, 2, (0.9, 0.8)), strict=True))
    assert session.score("x", 2) == min(bank.result(1).score, bank.result(4).score)


@pytest.mark.usefixtures("none_alike")
def test_where_masks_differ_the_network_runs_as_without(model, volume):
    network = with_presence(model, 10.0)
    expected, session = (prompted(network, volume, stride, 4) for stride in (1, 4))
    for each in (expected, session):
        list(each.propagate())
        each.add_prompt("x", Point((3, 3, 7), positive=False))
        list(each.propagate())
    assert session.interpolated_slices("x") == ()
    assert all((a == b).all() for a, b in zip(logits(session), logits(expected), strict=True))


def test_the_end_of_the_object_is_found_slice_by_slice(model, volume):
    session = prompted(with_presence(model, -10.0), volume, 3, 4)
    list(session.propagate(direction="forward"))
    # Nothing on 7: the slices before it are run; from there on nothing lies between nothing and nothing.
    assert session.interpolated_slices("x") == (8,)
    assert session.mask("x").any(axis=(1, 2)).tolist() == [False] * 4 + [True] + [False] * 5


@pytest.mark.parametrize("stop", [2, 3])
def test_a_sweep_ends_where_it_ends_without(model, volume, stop):
    network = with_presence(model, -10.0)
    finished = []
    for stride in (1, 4):
        session = prompted(network, volume, stride, 4, stop=stop)
        finished.append([u.slice_index for u in session.propagate()])
    assert finished[0] == finished[1]


@pytest.mark.usefixtures("all_alike")
def test_prompted_slices_are_never_left_out(model, volume):
    session = prompted(with_presence(model, 10.0), volume, 4, 0, 3)
    list(session.propagate())
    assert session.interpolated_slices("x") == (1, 2, 4, 5, 6, 8)


@pytest.mark.usefixtures("all_alike")
def test_a_slice_that_the_user_owns_is_shown_as_it_is(model, volume):
    session = prompted(with_presence(model, 10.0), volume, 4, 0)
    session.lock("x", 2, mask=painted(slice(0, 3)))
    list(session.propagate())
    assert session.interpolated_slices("x") == (1, 3, 5, 6, 7)
    assert (session.mask("x")[2] == painted(slice(0, 3))).all()


@pytest.mark.usefixtures("all_alike")
def test_a_correction_on_an_interpolated_slice(model, volume):
    network = with_presence(model, 10.0)
    session = prompted(network, volume, 4, 0)
    list(session.propagate())
    before = session.mask("x")
    assert 2 in session.interpolated_slices("x")
    assert np.isfinite(session.logits("x", 2)).all()
    session.add_prompt("x", Point((3, 3, 2), positive=False))
    predicted = session.predict("x", 2)
    list(session.propagate())
    assert 2 not in session.interpolated_slices("x")
    assert (session.mask("x")[2] == predicted).all()
    after = session.mask("x")
    record = json.loads(json.dumps(session.to_record()))
    again = biosam2.Session.from_record(record, network, volume)
    assert (again.mask("x") == after).all()
    assert again.interpolated_slices("x") == session.interpolated_slices("x")
    assert again.journal == session.journal
    for _ in range(2):
        session.undo()
    assert (session.mask("x") == before).all()
    assert 2 in session.interpolated_slices("x")
    for _ in range(2):
        session.redo()
    assert (session.mask("x") == after).all()


@pytest.mark.usefixtures("all_alike")
def test_what_is_drawn_on_an_interpolated_slice_asks_nothing(model, volume, monkeypatch):
    """A click there is answered in the light of what the network finds; a drawn mask is not."""
    monkeypatch.setattr(sweeps, "_ALIKE", -1.0)
    session = prompted(with_presence(model, 10.0), volume, 3, 1)
    list(session.propagate())
    steps = []
    tracker = session._executor.tracker
    step = tracker.sweep_step
    monkeypatch.setattr(tracker, "sweep_step", lambda *given: steps.append(given[2]) or step(*given))
    assert 5 in session.interpolated_slices("x")
    session.add_prompt("x", Mask(5, painted(slice(5, 12))))
    list(session.propagate(first=5, last=5))
    assert not steps
    assert (session.mask("x")[5] == painted(slice(5, 12))).all()
    session.add_prompt("x", Point((10, 7, 6)))
    session.predict("x", 6)
    assert steps == [6]


def test_a_propagation_stopped_between_two_slices_is_gone_on_from(model, volume):
    network = with_presence(model, 10.0)
    session = prompted(network, volume, 4, 0)
    list(session.propagate())
    updates = session.propagate()
    for _ in range(3):
        next(updates)
    updates.close()
    session.add_prompt("x", Point((3, 3, 5), positive=False))
    again = biosam2.Session.from_record(session.to_record(), network, volume)
    assert (again.predict("x", 5) == session.predict("x", 5)).all()
    assert all((a == b).all() for a, b in zip(logits(again), logits(session), strict=True))


def test_interpolated_slices_beyond_the_end_are_taken_back(model, volume, monkeypatch):
    network = with_presence(model, 10.0)
    monkeypatch.setattr(sweeps, "_ALIKE", -1.0)
    session = prompted(network, volume, 3, 4, stop=1)
    list(session.propagate())
    assert session.interpolated_slices("x") == (2, 3, 5, 6, 8)
    monkeypatch.undo()
    with torch.no_grad():
        network.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-10.0)
    list(session.propagate())
    assert session.mask("x").any(axis=(1, 2)).tolist() == [s == 4 for s in range(10)]
    assert session.interpolated_slices("x") == ()


@pytest.mark.usefixtures("all_alike")
def test_segments_go_their_own_ways(model, volume):
    network = with_presence(model, 10.0)
    alone = {}
    for name, s in (("x", 0), ("y", 2)):
        session = biosam2.Session(network, volume, speed=Speed(stride=3))
        session.add_prompt(name, Mask(s, painted()))
        list(session.propagate())
        alone[name] = session
    both = biosam2.Session(network, volume, speed=Speed(stride=3))
    both.add_prompt("x", Mask(0, painted()))
    both.add_prompt("y", Mask(2, painted()))
    list(both.propagate())
    for name, session in alone.items():
        assert both.interpolated_slices(name) == session.interpolated_slices(name)
        assert (both.mask(name) == session.mask(name)).all()


@pytest.mark.parametrize(("distance", "expected"), [(0.5, 4), (1.0, 4), (2.0, 2), (4.0, 1), (9.0, 1)])
def test_a_stride_is_chosen_by_the_distance_of_slices_and_the_size(distance, expected):
    volume = biosam2.Volume(np.zeros((9, 40, 40), np.int16), spacing=(0.5, 1.0, distance))
    mask = np.zeros((40, 40), bool)
    mask[5:25, 3:35] = True  # 320 mm², a disc of 20.2 mm
    memory = SliceMemory(4, Frames(volume, "k", None, 64).whole, *(torch.zeros(1, 1),) * 3, 1.0, True, pack(mask))
    bank = MemoryBank({4: memory}, {}, {})
    assert sweeps.stride_of(Speed(stride="auto"), bank, Frames(volume, "k", None, 64)) == expected


def test_what_a_stride_may_be():
    assert Speed.parse("stride=3").stride == 3
    assert Speed.parse("stride=auto").stride == "auto"
    assert Speed.from_json(json.loads(json.dumps(Speed(stride="auto").to_json()))) == Speed(stride="auto")
    assert not Speed(stride="auto").is_exact
    for text in ("stride", "stride=0", "stride=often", "-stride", "stop=auto", "local,stride=2"):
        with pytest.raises(InputError):
            Speed.parse(text)
