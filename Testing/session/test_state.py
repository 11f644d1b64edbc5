"""A session as data, without torch: what is derived from its entries, and that every way to a head gives the same."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from biosam2 import Box, Lasso, Line, Mask, Point, Scribble, Volume
from biosam2.errors import InputError, PromptError
from biosam2.frames import Frames
from biosam2.prompts import lasso
from biosam2.session.entries import Cleared, Locked, Prompted, Propagated, Removed, Started, from_json, to_json
from biosam2.session.results import ResultStore
from biosam2.session.settings import SessionSettings
from biosam2.session.state import SessionState, read_record
from biosam2.speed import Speed
from hypothesis import given
from hypothesis import strategies as st

SHAPE = (6, 5, 4)
VOLUME = Volume(np.arange(120, dtype=np.int16).reshape(SHAPE))
NAMES = st.sampled_from(["a", "b"])
SLICES = st.integers(0, 5)
IJK = st.tuples(st.floats(-0.5, 3.5), st.floats(-0.5, 4.5), st.floats(-0.5, 5.5))
PLACES = st.tuples(st.floats(-0.5, 4.5), st.floats(-0.5, 3.5))
MASKS = st.lists(st.booleans(), min_size=20, max_size=20).map(lambda bits: np.array(bits).reshape(5, 4))
PROMPTS = st.one_of(
    st.builds(Point, IJK, st.booleans()),
    st.builds(lambda a, b: Box(np.minimum(a, b), np.maximum(a, b)), IJK, IJK).filter(
        lambda box: box.min_ijk[2] == box.max_ijk[2] or min(np.subtract(box.max_ijk, box.min_ijk)[:2]) > 0
    ),
    st.builds(Mask, SLICES, MASKS),
    st.builds(Scribble, SLICES, st.lists(PLACES, min_size=2, max_size=4), st.booleans()),
    st.builds(
        lambda s, a, shown, add: Lasso(s, [a, (a[0] + 2, a[1]), (a[0], a[1] + 2)], add, shown),
        SLICES,
        st.tuples(st.integers(0, 2), st.integers(0, 1)),
        MASKS,
        st.booleans(),
    ),
    st.tuples(PLACES, PLACES).filter(lambda ends: ends[0] != ends[1]).map(lambda ends: Line(2, ends)),
)
ENTRIES = st.one_of(
    st.builds(Prompted, NAMES, PROMPTS),
    st.builds(Removed, NAMES, st.integers(0, 3)),
    st.builds(lambda name, seed: Started(name, np.random.default_rng(seed).random(SHAPE) > 0.5), NAMES, SLICES),
    st.builds(lambda name, s, mask: Locked(name, s, mask is not None, mask), NAMES, SLICES, st.none() | MASKS),
    st.builds(Cleared, NAMES),
    st.builds(
        lambda names, direction, slices: Propagated(
            tuple(names), direction, None, None, tuple((n, s) for s in slices for n in names)
        ),
        st.lists(NAMES, min_size=1, max_size=2, unique=True),
        st.sampled_from(["both", "forward", "backward"]),
        st.lists(SLICES, unique=True, max_size=4),
    ),
)


def empty(**options) -> SessionState:
    settings = SessionSettings.resolve(VOLUME, **options)
    return SessionState(settings, Frames(VOLUME, settings.axis, settings.window, 0))


def told(entries) -> SessionState:
    """The state after those entries that fit."""
    state = empty()
    for number, entry in enumerate(entries, start=1):
        with contextlib.suppress(InputError):
            state = state.with_entry(number, entry)
    return state


def results_of(state: SessionState) -> ResultStore:
    """A mask of its own for every result that a state has."""
    store = ResultStore()
    for name in state.segments:
        for s, made_by in state.segment(name).results.items():
            mask = np.random.default_rng([made_by, s, ord(name)]).random((5, 4)) > 0.5
            store.put(made_by, name, s, mask, 0.5)
    return store


def shown(state: SessionState) -> dict:
    """Everything that a state derives, as something that can be compared."""
    store = results_of(state)
    return {
        name: (
            state.prompts(name),
            state.finished_slices(name),
            state.user_slices(name),
            state.bounds(name),
            state.segment(name).pending,
            dict(state.segment(name).results),
            state.mask(name, store).tobytes(),
        )
        for name in state.segments
    }


@given(st.lists(ENTRIES, max_size=12), st.data())
def test_a_head_means_the_same_however_one_came_to_it(entries, data) -> None:
    """Undone to a head and built up to it are one state; redone, everything is back."""
    state = told(entries)
    count = data.draw(st.integers(0, len(state.in_force)))
    back = state
    for _ in range(len(state.in_force) - count):
        back = back.undone()
    built = empty()
    for each in state.in_force[:count]:
        built = built.with_entry(each.id, each.entry)
    assert shown(back) == shown(built)
    assert back.head == built.head
    while (forward := back.redone()) is not None:
        back = forward
    assert shown(back) == shown(state)
    assert back.in_force == state.in_force


@given(st.lists(ENTRIES, max_size=12))
def test_whose_a_slice_is_follows_from_what_was_told_about_it(entries) -> None:
    state = told(entries)
    for name in state.segments:
        given_ = {s: state.prompt_on(name, s) for s in state.prompted_slices(name)}
        assert state.drawn_slices(name) == {s for s, each in given_.items() if each.drawn is not None}
        own = {s for s, each in given_.items() if each.mask is not None}
        assert state.user_slices(name) == own | set(state.segment(name).locked)


def test_a_lasso_is_filled_once_and_not_to_know_whose_a_slice_is(monkeypatch) -> None:
    filled = []
    fill = lasso._enclosed
    monkeypatch.setattr(lasso, "_enclosed", lambda *how: filled.append(how) or fill(*how))
    state = empty()
    for number in range(100):
        way = [(0.5, 0.5), (0.5, 2.5 + number / 200), (3.5, 2.5)]
        state = state.with_entry(number + 1, Prompted("x", Lasso(number % 3, way, shown=np.zeros((5, 4), bool))))
    for _ in range(2):
        assert state.user_slices("x") == state.drawn_slices("x") == set(state.finished_slices("x")) == {0, 1, 2}
        for s in range(3):
            assert state.user_mask("x", s).any()
    assert len(filled) == 100


@given(st.lists(ENTRIES, max_size=12), st.integers(0, 13))
def test_the_head_moves_to_an_entry_and_back(entries, to) -> None:
    state = told(entries)
    moved = state.moved_to(to)
    last = max([each.id for each in state.in_force if each.id <= to], default=0)
    assert moved.head == last
    assert shown(moved) == shown(state.up_to(last))
    assert shown(moved.moved_to(state.head)) == shown(state)
    assert moved.in_force + moved.undone_entries == state.in_force


@given(st.lists(ENTRIES, max_size=12), st.data())
def test_without_an_entry_all_others_are_as_they_would_have_been(entries, data) -> None:
    """Told again without it, removed prompts by what they are instead of where they stand."""
    state = told(entries)
    if not state.in_force:
        return
    refused = data.draw(st.sampled_from(state.in_force))
    expected, before = empty(), empty()
    for each in state.in_force:
        entry = each.entry
        if isinstance(entry, Removed):
            gave = before.segment(entry.segment).given[entry.position]
            known = expected.segment(entry.segment).given if entry.segment in expected.segments else ()
            entry = Removed(entry.segment, known.index(gave)) if gave in known else None
        before = before.with_entry(each.id, each.entry)
        if each is refused or entry is None:
            continue
        with contextlib.suppress(InputError):
            expected = expected.with_entry(each.id, entry)
    without = state.without(refused.id)
    assert shown(without) == shown(expected)
    assert [each.id for each in without.in_force] == [each.id for each in expected.in_force]


@given(st.lists(ENTRIES, max_size=12))
def test_each_prompt_knows_its_entry_and_what_has_to_be_predicted(entries) -> None:
    state = told(entries)
    by_id = {each.id: each.entry for each in state.in_force}
    for name in state.segments:
        segment = state.segment(name)
        assert [by_id[entry_id].prompt for entry_id in segment.given] == list(segment.prompts)
        for s in range(6):
            if state.is_to_predict(name, s):
                assert s in state.prompted_slices(name)
                assert s not in state.user_slices(name)
                assert s in segment.pending or s not in segment.results
    assert set(state.prompted) == {name for name in state.segments if state.prompts(name)}


@given(st.lists(ENTRIES, max_size=8), ENTRIES)
def test_a_new_entry_ends_what_could_be_redone(entries, another) -> None:
    state = told(entries)
    back = state.undone() or state
    try:
        forward = back.with_entry(100, another)
    except InputError:
        assert back.redone() is None or back.redone().head == state.head
        return
    assert forward.redone() is None
    assert forward.undone().head == back.head


@given(st.lists(ENTRIES, max_size=10))
def test_slices_show_the_user_s_pixels_before_results_and_results_before_the_start(entries) -> None:
    state = told(entries)
    store = results_of(state)
    for name in state.segments:
        whole = state.frames.unstack(state.mask(name, store))
        for s in range(6):
            one = state.mask_on(name, s, store)
            assert np.array_equal(one, whole[s])
            own = state.user_mask(name, s)
            assert (own is not None) == (s in state.user_slices(name))
            if own is not None:
                assert np.array_equal(one, own)
                assert s in state.finished_slices(name)


@given(ENTRIES)
def test_entries_come_back_from_json(entry) -> None:
    again = from_json(msgspec.json.decode(msgspec.json.encode(to_json(entry))))
    assert type(again) is type(entry)
    assert to_json(again) == to_json(entry)


@given(st.lists(ENTRIES, max_size=10))
def test_a_record_holds_the_session(entries) -> None:
    state = told(entries)
    settings, read = read_record(msgspec.json.decode(msgspec.json.encode(state.to_record("float32"))))
    again = empty(**settings)
    for each, entry in zip(state.in_force, read, strict=True):
        again = again.with_entry(each.id, entry)
    assert again.settings == state.settings
    assert shown(again) == shown(state)


def test_a_propagation_s_results_are_on_its_prompted_slices_and_where_it_came_by() -> None:
    state = empty().with_entry(1, Prompted("a", Point((1, 1, 2)))).with_entry(2, Prompted("a", Point((1, 1, 5))))
    assert state.segment("a").pending == (2, 5)
    begun = state.with_entry(3, Propagated(("a",), "forward", None, 3))
    assert begun.finished_slices("a") == (2, 5)
    assert begun.segment("a").pending == ()
    on_the_way = begun.with_entry(4, Locked("a", 0, True, np.ones((5, 4), bool)))
    on_the_way = on_the_way.with_progress(3, Propagated(("a",), "forward", None, 3, (("a", 2), ("a", 3)), True))
    assert on_the_way.finished_slices("a") == (0, 2, 3, 5)
    assert on_the_way.undone().finished_slices("a") == (2, 3, 5)


def test_what_is_taken_back_beyond_the_end_has_no_result() -> None:
    state = empty().with_entry(1, Prompted("a", Point((1, 1, 2))))
    state = state.with_entry(2, Propagated(("a",), "forward", None, None, (("a", 2), ("a", 3), ("a", 4)), True))
    again = Propagated(("a",), "forward", None, None, (("a", 2), ("a", 3)), True, (("a", 3),))
    state = state.with_entry(3, again)
    assert state.finished_slices("a") == (2, 4)
    with pytest.raises(InputError, match="no result on slice 3"):
        state.result_of("a", 3)


@pytest.mark.parametrize(
    ("entry", "kind", "says"),
    [
        (Prompted("", Point((0, 0, 0))), InputError, "needs a name"),
        (Prompted("a", Point((9, 0, 0))), PromptError, "outside the volume"),
        (Prompted("a", Mask(1, np.zeros((5, 4), bool))), PromptError, "cannot start"),
        (Removed("b", 0), InputError, "no segment 'b'"),
        (Removed("a", 1), InputError, "no prompt 1"),
        (Started("a", np.ones((2, 2, 2), bool)), InputError, "shape"),
        (Started("b", np.zeros(SHAPE, bool)), InputError, "empty"),
        (Locked("a", 6, True, np.ones((5, 4), bool)), InputError, "no slice 6"),
        (Locked("a", 1, True, np.ones((5, 5), bool)), InputError, "shape"),
        (Locked("a", 1, True), InputError, "shape"),
        (Cleared("b"), InputError, "no segment 'b'"),
        (Propagated(("b",), "both", None, None), InputError, "no segment 'b'"),
        (Propagated(("a",), "up", None, None), InputError, "no direction"),
        (Propagated(("a",), "both", 4, 2), InputError, "range is empty"),
    ],
)
def test_entries_that_do_not_fit_are_refused(entry, kind, says) -> None:
    state = empty().with_entry(1, Prompted("a", Point((1, 1, 2))))
    if isinstance(entry, Prompted) and isinstance(entry.prompt, Mask):
        state = empty()
    with pytest.raises(kind, match=says):
        state.with_entry(2, entry)
    assert state.head in (0, 1)


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"crop": "all"}, "crop"),
        ({"axis": "q"}, "axis"),
        ({"window": "liver"}, "window"),
        ({"window": (0, 0)}, "width"),
        ({"policy": "none such"}, "polic"),
        ({"precision": "float8"}, "precision"),
    ],
)
def test_settings_that_are_none_are_refused(given_, says) -> None:
    with pytest.raises(InputError, match=says):
        SessionSettings.resolve(VOLUME, **given_)


def test_a_setting_that_is_not_one_is_a_mistake_in_the_program() -> None:
    with pytest.raises(TypeError, match="no setting 'precison'"):
        SessionSettings.resolve(VOLUME, precison="float32")


def test_settings_come_back_from_json() -> None:
    settings = SessionSettings.resolve(VOLUME, crop="auto", policy="path", speed=Speed(stop=3, encoder=False))
    assert msgspec.json.decode(msgspec.json.encode(settings), type=SessionSettings) == settings


def test_a_policy_of_one_s_own_has_no_record() -> None:
    with pytest.raises(InputError, match="by its name"):
        empty(policy=object()).to_record("float32")


def test_the_session_as_data_needs_no_torch() -> None:
    script = "import sys, biosam2.session, biosam2.session.results; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
