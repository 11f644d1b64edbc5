"""The session's rules: order, ranges, the user's own pixels, undo, and the record that repeats it all."""

import json

import biosam2
import numpy as np
import pytest
from biosam2 import Box, Mask, Point
from biosam2.engine.memory import QualityGatePolicy
from biosam2.errors import InputError, PromptError
from biosam2.session.entries import Prompted, Propagated
from biosam2.speed import Speed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def session(model, volume):
    return biosam2.Session(model, volume)


def painted(rows=(4, 11), columns=(6, 16)):
    mask = np.zeros((16, 20), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def visited(updates):
    return [u.slice_index for u in updates]


# -- order and range -------------------------------------------------------------------------------


def test_forward_first_then_backward(session):
    session.add_prompt("x", Point((11, 7, 5)))
    assert visited(session.propagate(["x"])) == [5, 6, 7, 8, 9, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(("direction", "expected"), [("forward", [5, 6, 7, 8, 9]), ("backward", [5, 4, 3, 2, 1, 0])])
def test_one_direction(session, direction, expected):
    session.add_prompt("x", Point((11, 7, 5)))
    assert visited(session.propagate(["x"], direction)) == expected


def test_range_leaves_other_slices_alone(session):
    session.add_prompt("x", Point((11, 7, 5)))
    assert visited(session.propagate(["x"], first=4, last=6)) == [5, 6, 4]
    assert session.finished_slices("x") == (4, 5, 6)


def test_range_away_from_the_prompt(session):
    session.add_prompt("x", Point((11, 7, 5)))
    assert visited(session.propagate(["x"], first=7, last=9)) == [7, 8, 9]
    assert visited(session.propagate(["x"], first=0, last=2)) == [2, 1, 0]


def test_box_over_several_slices_prompts_the_middle_and_bounds(session):
    session.add_prompt("x", Box((6, 4, 3), (15, 10, 7)))
    assert visited(session.propagate(["x"])) == [5, 6, 7, 4, 3]
    assert visited(session.propagate(["x"], last=6)) == [5, 6, 4, 3]


def test_a_prompt_beyond_the_box_widens_the_bounds(session):
    session.add_prompt("x", Box((6, 4, 3), (15, 10, 7)))
    session.add_prompt("x", Point((11, 7, 8)))
    assert max(visited(session.propagate(["x"]))) == 8


@pytest.mark.parametrize(
    "arguments", [{}, {"direction": "forward"}, {"first": 3}, {"first": 2, "last": 4}, {"direction": "backward"}]
)
def test_count_steps_is_what_propagate_yields(session, arguments):
    session.add_prompt("a", Point((11, 7, 5)))
    session.add_prompt("b", Box((6, 4, 1), (15, 10, 6)))
    assert session.count_steps(**arguments) == len(list(session.propagate(**arguments)))


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
def test_count_steps_is_not_exceeded_where_only_corrections_are_followed(model, volume, direction):
    session = biosam2.Session(model, volume, speed=Speed(local=True))
    session.add_prompt("x", Point((11, 7, 2)))
    list(session.propagate())
    session.add_prompt("x", Mask(8, painted()))
    most = session.count_steps(direction=direction)
    assert len(list(session.propagate(direction=direction))) <= most


def test_scores_and_logits(session):
    session.add_prompt("x", Point((11, 7, 5)))
    for update in session.propagate():
        assert 0 <= update.score <= 1
        assert update.score == session.score("x", update.slice_index)
        logits = session.logits("x", update.slice_index)
        assert logits.dtype == np.float32
        assert (update.mask == (logits > 0)).all()


@pytest.mark.parametrize(("axis", "shape"), [("k", (16, 20)), ("j", (10, 20)), ("i", (10, 16))])
def test_masks_lie_where_the_prompt_is(model, volume, axis, shape):
    session = biosam2.Session(model, volume, axis=axis)
    session.add_prompt("x", Point((11, 7, 5)))
    for update in session.propagate(direction="forward"):
        assert update.mask.shape == shape
        index = {
            "k": np.s_[update.slice_index],
            "j": np.s_[:, update.slice_index],
            "i": np.s_[:, :, update.slice_index],
        }
        assert (session.mask("x")[index[axis]] == update.mask).all()


# -- the user's own pixels -------------------------------------------------------------------------


def test_painted_slices_stay_the_users(session):
    mask = painted()
    session.add_prompt("x", Mask(5, mask))
    updates = {u.slice_index: u.mask for u in session.propagate()}
    assert (updates[5] == mask).all()
    assert (session.mask("x")[5] == mask).all()
    assert (session.predict("x", 5) == mask).all()
    session.add_prompt("x", Mask(7, painted((0, 3), (0, 3))))
    list(session.propagate())
    assert (session.mask("x")[7] == painted((0, 3), (0, 3))).all()
    assert (session.mask("x")[5] == mask).all()


def test_locked_slices_stay_until_unlocked(session):
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate())
    before = session.mask("x")[7].copy()
    session.lock("x", 7)
    session.add_prompt("x", Point((2, 2, 7), positive=False))
    session.add_prompt("x", Point((2, 2, 8), positive=True))
    updates = {u.slice_index: u.mask for u in session.propagate()}
    assert (updates[7] == before).all()
    assert (session.mask("x")[7] == before).all()
    session.lock("x", 7, locked=False)
    assert (session.mask("x")[7] == (session.logits("x", 7) > 0)).all()


def test_empty_mask_says_absent_but_cannot_start(session):
    with pytest.raises(PromptError, match="empty mask"):
        session.add_prompt("x", Mask(5, np.zeros((16, 20), bool)))
    session.add_prompt("x", Point((11, 7, 5)))
    session.add_prompt("x", Mask(8, np.zeros((16, 20), bool)))
    list(session.propagate())
    assert not session.mask("x")[8].any()


def test_existing_mask_stands_until_something_newer_does(session, volume):
    existing = volume.array > 50
    session.start_from("x", existing)
    assert (session.mask("x") == existing).all()
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate(first=4, last=6))
    assert (session.mask("x")[:4] == existing[:4]).all()
    assert (session.mask("x")[5] == (session.logits("x", 5) > 0)).all()


def test_labelmap_gives_overlaps_to_the_later_segment(session):
    session.add_prompt("a", Mask(5, painted()))
    session.add_prompt("b", Mask(5, painted((0, 6), (0, 10))))
    labels = session.labelmap()
    assert labels.dtype == np.uint8
    assert labels.shape == (10, 16, 20)
    assert (labels[5][painted((0, 6), (0, 10))] == 2).all()
    assert labels[5, 10, 12] == 1


# -- predict ---------------------------------------------------------------------------------------


def test_predict_leaves_no_trace(model, volume):
    def run(predict):
        session = biosam2.Session(model, volume)
        session.add_prompt("x", Point((11, 7, 5)))
        if predict:
            alone = session.predict("x", 5)
            assert not session.mask("x").any()
        masks = [u.mask for u in session.propagate()]
        if predict:
            assert (masks[0] == alone).all()
            session.predict("x", 5)
        session.add_prompt("x", Point((2, 2, 7), positive=False))
        if predict:
            session.predict("x", 7)
        return masks + [u.mask for u in session.propagate()]

    for with_predict, without in zip(run(True), run(False), strict=True):
        assert (with_predict == without).all()


@pytest.mark.parametrize("crop", [None, "auto"])
def test_predict_shows_what_the_next_propagation_keeps(model, volume, crop):
    """Corrections too, of which several wait."""
    session = biosam2.Session(model, volume, crop=crop)
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate())
    alone = biosam2.Session(model, volume, crop=crop)
    for s in (3, 7):
        for each in (session, alone):
            each.add_prompt("x", Point((4, 3, s)))
            each.add_prompt("x", Point((13, 9, s), positive=False))
    shown = {s: session.predict("x", s) for s in (3, 5, 7)}
    kept = {u.slice_index: u.mask for u in session.propagate()}
    for s, mask in shown.items():
        np.testing.assert_array_equal(kept[s], mask)
    # In the light of the memories around it, which a session that never propagated lacks.
    assert any((alone.predict("x", s) != shown[s]).any() for s in (3, 7))


def test_predict_needs_a_prompt_there(session):
    session.add_prompt("x", Point((11, 7, 5)))
    with pytest.raises(PromptError, match="no prompt on slice 4"):
        session.predict("x", 4)


def test_one_slice_is_the_image_pipeline(model):
    image = biosam2.Volume(np.random.default_rng(0).normal(size=(1, 30, 40)))
    session = biosam2.Session(model, image)
    session.add_prompt("x", Point((20, 15, 0)))
    (update,) = session.propagate()
    assert (update.mask == session.predict("x", 0)).all()


# -- stopping --------------------------------------------------------------------------------------


def test_cancel_keeps_what_is_finished(session):
    session.add_prompt("x", Point((11, 7, 5)))
    seen = []
    for update in session.propagate():
        seen.append(update)
        if len(seen) == 3:
            session.cancel()
    assert visited(seen) == [5, 6, 7]
    assert session.finished_slices("x") == (5, 6, 7)
    assert session.journal[-1].finished == (("x", 5), ("x", 6), ("x", 7))


def test_leaving_the_loop_is_like_cancelling(session):
    session.add_prompt("x", Point((11, 7, 5)))
    for update in session.propagate():
        if update.slice_index == 6:
            break
    session.undo()
    assert session.finished_slices("x") == ()


def test_prompts_given_while_propagating_count_from_the_next_time(model, volume):
    def run(when):
        session = biosam2.Session(model, volume)
        session.add_prompt("x", Point((11, 7, 5)))
        for n, _ in enumerate(session.propagate()):
            if n == when:
                session.add_prompt("x", Point((3, 3, 7), positive=False))
        if when is None:
            session.add_prompt("x", Point((3, 3, 7), positive=False))
        list(session.propagate())
        return session

    during, after = run(2), run(None)
    assert (during.mask("x") == after.mask("x")).all()
    assert [type(e) for e in during.journal] == [type(e) for e in after.journal]
    while during.undo():
        assert after.undo()
        assert during.segments == after.segments
        assert all((during.mask(s) == after.mask(s)).all() for s in during.segments)


def test_a_failing_network_changes_nothing(session, monkeypatch):
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate())
    before, journal = session.mask("x"), session.journal
    session.add_prompt("x", Point((2, 2, 7)))

    def broken(*_):
        raise RuntimeError("the device fell off the bus")

    with monkeypatch.context() as patch:
        patch.setattr(session._executor.tracker, "prompt", broken)
        with pytest.raises(RuntimeError, match="fell off"):
            list(session.propagate())
    assert (session.mask("x") == before).all()
    assert session.journal[:-1] == journal
    list(session.propagate())


# -- undo, redo, record ----------------------------------------------------------------------------


def test_undo_and_redo_take_prompts_with_their_masks(session):
    states = []

    def note():
        states.append({name: session.mask(name) for name in session.segments})

    def same(a, b):
        return a.keys() == b.keys() and all((a[n] == b[n]).all() for n in a)

    note()
    for step in (
        lambda: session.add_prompt("x", Point((11, 7, 5))),
        lambda: list(session.propagate()),
        lambda: session.add_prompt("y", Mask(3, painted())),
        lambda: session.add_prompt("x", Point((2, 2, 7), positive=False)),
        lambda: session.lock("x", 2),
        lambda: list(session.propagate()),
        lambda: session.remove_prompt("x", 0),
        lambda: session.clear("y"),
    ):
        step()
        note()
    here = len(states) - 1
    while session.undo():
        here -= 1
        assert same({n: session.mask(n) for n in session.segments}, states[here])
    assert here == 0
    while session.redo():
        here += 1
        assert same({n: session.mask(n) for n in session.segments}, states[here])
    assert here == len(states) - 1


def test_undone_propagation_is_forgotten_by_the_next(model, volume):
    def run(detour):
        session = biosam2.Session(model, volume)
        session.add_prompt("x", Point((11, 7, 5)))
        list(session.propagate())
        if detour:
            session.add_prompt("x", Point((3, 3, 7)))
            list(session.propagate())
            session.undo()
            session.undo()
        list(session.propagate())
        return [session.logits("x", s) for s in range(10)]

    for a, b in zip(run(True), run(False), strict=True):
        assert (a == b).all()


def test_a_record_taken_while_propagating_is_as_if_stopped_there(session, model, volume):
    session.add_prompt("x", Point((11, 7, 5)))
    for n, _ in enumerate(session.propagate()):
        if n == 2:
            record, mask = session.to_record(), session.mask("x")
    assert (biosam2.Session.from_record(record, model, volume).mask("x") == mask).all()
    assert len(session.finished_slices("x")) == 10


@pytest.mark.parametrize("meanwhile", ["lock", "start_from"])
@pytest.mark.parametrize("stop", [None, 1])
def test_what_is_done_while_propagating_is_in_the_record(model, volume, meanwhile, stop):
    session = biosam2.Session(model, volume, speed=Speed(stop=stop))
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate())
    session.add_prompt("x", Point((3, 3, 5), positive=False))
    for n, _ in enumerate(session.propagate()):
        if n == 1:
            if meanwhile == "lock":
                session.lock("x", 9)  # not reached yet: as it was before
            else:
                session.start_from("x", np.broadcast_to(painted(), volume.shape))
    record = json.loads(json.dumps(session.to_record()))
    again = biosam2.Session.from_record(record, model, volume)
    assert (again.mask("x") == session.mask("x")).all()
    assert again.finished_slices("x") == session.finished_slices("x")


def test_a_lock_keeps_the_mask_that_is_given(session):
    session.add_prompt("x", Point((11, 7, 5)))
    session.lock("x", 8, mask=painted())
    list(session.propagate())
    assert (session.mask("x")[8] == painted()).all()
    with pytest.raises(InputError, match="shape"):
        session.lock("x", 8, mask=np.ones((2, 2), bool))


def test_a_policy_of_ones_own_has_no_record(model, volume):
    session = biosam2.Session(model, volume, policy=QualityGatePolicy(0.7))
    session.add_prompt("x", Point((11, 7, 5)))
    with pytest.raises(InputError, match="policy"):
        session.to_record()


def test_a_sweep_that_ends_where_it_began_is_repeated_whole(model, volume):
    """Its backward half only visits the prompted slice, but a later correction depends on it."""
    session = biosam2.Session(model, volume)
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate(first=5))
    again = biosam2.Session.from_record(session.to_record(), model, volume)
    for each in (session, again):
        each.add_prompt("x", Point((4, 4, 5), positive=False))
        list(each.propagate())
    assert all((session.logits("x", s) == again.logits("x", s)).all() for s in range(10))


def test_new_change_drops_what_could_be_redone(session):
    session.add_prompt("x", Point((11, 7, 5)))
    session.undo()
    session.add_prompt("y", Point((11, 7, 5)))
    assert not session.redo()
    assert session.segments == ("y",)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("point"),
            st.sampled_from("ab"),
            st.integers(0, 9),
            st.integers(0, 15),
            st.integers(0, 19),
            st.booleans(),
        ),
        st.tuples(st.just("mask"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(st.just("propagate"), st.sampled_from(["both", "forward", "backward"]), st.integers(1, 6)),
        st.tuples(st.just("undo")),
        st.tuples(st.just("redo")),
        st.tuples(st.just("remove"), st.sampled_from("ab")),
        st.tuples(st.just("lock"), st.sampled_from("ab"), st.integers(0, 9)),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_any_journal_replays_to_the_same_masks(model, volume, operations):
    session = biosam2.Session(model, volume)
    for operation, *arguments in operations:
        if operation == "point":
            name, k, j, i, positive = arguments
            session.add_prompt(name, Point((i, j, k), positive))
        elif operation == "mask":
            session.add_prompt(arguments[0], Mask(arguments[1], painted()))
        elif operation == "propagate":
            if any(session.prompts(name) for name in session.segments):
                direction, steps = arguments
                for n, _ in enumerate(session.propagate(direction=direction)):
                    if n + 1 == steps:
                        session.cancel()
        elif operation in ("undo", "redo"):
            getattr(session, operation)()
        elif arguments[0] in session.segments:
            if operation == "remove" and session.prompts(arguments[0]):
                session.remove_prompt(arguments[0], 0)
            elif operation == "lock":
                session.lock(*arguments)
    record = json.loads(json.dumps(session.to_record()))
    again = biosam2.Session.from_record(record, model, volume)
    entire = biosam2.Session(model, volume)
    for entry in session.journal:
        entire.replay(entry)
    for other in (again, entire):
        assert other.segments == session.segments
        assert all((other.mask(n) == session.mask(n)).all() for n in session.segments)
        assert other.to_record() == session.to_record()


def test_the_journal_tells_what_happened(session):
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate(last=5, first=4))
    prompted = Prompted("x", Point((11, 7, 5)))
    propagated = Propagated(("x",), "both", 4, 5, (("x", 5), ("x", 4)), complete=True)
    assert session.journal == (prompted, propagated)
    session.undo()
    assert session.journal == (prompted,)


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.pop("journal"),
        lambda r: r.update(journal=[{"op": "fly"}]),
        lambda r: r.update(journal=["prompt"]),
        lambda r: r["journal"][0].pop("segment"),
        lambda r: r["journal"][0]["prompt"].update(kind="line"),
        lambda r: r.update(axis="z"),
        lambda r: r["journal"][1].update(finished=[["x", 9]]),
    ],
)
def test_damaged_records_are_refused(session, model, volume, damage):
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate(first=4, last=6))
    record = session.to_record()
    damage(record)
    with pytest.raises(InputError):
        biosam2.Session.from_record(record, model, volume)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Point((20, 3, 3)), "outside the volume of 20 × 16 × 10"),
        (Point((3, -1, 3)), "outside the volume"),
        (Point((3, 3, 10)), "outside the volume"),
        (Box((0, 0, 5), (25, 5, 5)), "outside the volume"),
        (Box((2, 3, 1), (8, 3, 8)), 'axis="j"'),
        (Mask(5, np.ones((10, 20), bool)), 'axis="j"'),
        (Mask(5, np.ones((10, 16), bool)), 'axis="i"'),
        (Mask(5, np.ones((7, 7), bool)), r"shape \(16, 20\), not \(7, 7\)"),
        (Mask(10, painted()), "no slice 10"),
        ("here", "a Point, a Box, a Scribble, a Lasso, a Line or a Mask"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(session, prompt, words):
    with pytest.raises(PromptError, match=words):
        session.add_prompt("x", prompt)
    assert session.segments == ()
    assert session.journal == ()


def test_points_of_another_view_are_voxels_of_their_own_slice(session):
    session.add_prompt("x", Point((11, 7, 5.4)))
    assert visited(session.propagate(first=5, last=5)) == [5]


def test_vanishing_mask_is_refused(model):
    """One voxel of a frame that is larger than the network's is less than half a pixel there."""
    session = biosam2.Session(model, biosam2.Volume(np.random.default_rng(0).normal(size=(2, 700, 700))))
    mask = np.zeros((700, 700), bool)
    mask[350, 350] = True
    with pytest.raises(PromptError, match="too small"):
        session.add_prompt("x", Mask(0, mask))
    assert session.segments == ()
    cropped = biosam2.Session(model, session.volume, crop="auto")
    cropped.add_prompt("x", Mask(0, mask))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.mask("z"), "no segment 'z'"),
        (lambda s: s.logits("x", 3), "no result on slice 3"),
        (lambda s: s.logits("x", 99), "no slice 99"),
        (lambda s: s.frame_tensor(-1), "no slice -1"),
        (lambda s: s.propagate(["x"], "sideways"), "no direction 'sideways'"),
        (lambda s: s.propagate(["x"], first=6, last=5), "range is empty"),
        (lambda s: s.propagate(["x"], last=10), "no slice 10"),
        (lambda s: s.propagate("x"), "list of names"),
        (lambda s: s.propagate(["z"]), "no segment 'z'"),
        (lambda s: s.remove_prompt("x", 4), "has no prompt"),
        (lambda s: s.remove_prompt("x", Point((0, 0, 0))), "has no prompt"),
        (lambda s: s.start_from("x", np.ones((3, 3, 3))), "shape"),
        (lambda s: s.start_from("x", np.zeros((10, 16, 20))), "empty"),
        (lambda s: s.add_prompt(" ", Point((0, 0, 0))), "needs a name"),
    ],
)
def test_wrong_calls_are_refused_at_once(session, call, words):
    session.add_prompt("x", Point((11, 7, 5)))
    journal = session.journal
    with pytest.raises(InputError, match=words):
        call(session)
    assert session.journal == journal


@pytest.mark.parametrize(
    "setting", [{"axis": "z"}, {"window": "liver"}, {"window": (0, 0)}, {"crop": "yes"}, {"policy": "x"}]
)
def test_wrong_settings_are_refused(model, volume, setting):
    with pytest.raises(InputError):
        biosam2.Session(model, volume, **setting)


def test_propagating_without_prompts_is_refused(session):
    with pytest.raises(PromptError, match="no segment has a prompt"):
        session.propagate()
    session.add_prompt("x", Point((11, 7, 5)))
    session.clear("x")
    with pytest.raises(PromptError, match="'x' has no prompt"):
        session.propagate(["x"])
    assert session.segments == ("x",)
