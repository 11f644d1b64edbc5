"""Of what a click's answer changes only what it points at is taken over."""

import biosam2
import numpy as np
import pytest
import torch
from biosam2 import Box, Lasso, Mask, Point
from biosam2.engine.memory import SliceMemory
from biosam2.engine.merging import merged_logits
from biosam2.errors import InputError
from biosam2.masks import pack
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage


def logits(*rectangles, shape=(12, 16)):
    """−4, and 4 within rectangles (row0, row1, column0, column1), ends excluded."""
    found = np.full(shape, -4, np.float32)
    for row0, row1, column0, column1 in rectangles:
        found[row0:row1, column0:column1] = 4
    return found


BEFORE = logits((2, 6, 2, 8))


def test_a_positive_click_gains_the_part_that_it_lies_in():
    after = logits((2, 9, 2, 8), (1, 4, 12, 15))
    merged = merged_logits(BEFORE, after, [(7.2, 4.6, True)])
    assert (merged > 0).nonzero()[0].max() == 8
    assert not (merged[:, 10:] > 0).any()


def test_a_negative_click_loses_nothing_elsewhere():
    after = logits((2, 6, 2, 5))  # the right half is gone, and with it nothing else
    after[2:4, 2:3] = -4  # but for a corner far from the click
    merged = merged_logits(BEFORE, after, [(4, 7, False)])
    assert not (merged[:, 5:] > 0).any()
    assert (merged[2:6, 2:5] > 0).all()


def test_a_click_beside_a_change_means_the_nearest():
    after = logits((2, 6, 2, 8), (8, 10, 2, 5), (8, 10, 12, 15))
    merged = merged_logits(BEFORE, after, [(7, 11, True)])
    assert (merged[8:10, 12:15] > 0).all()
    assert not (merged[8:10, 2:5] > 0).any()


def test_an_answer_against_the_click_changes_nothing():
    assert merged_logits(BEFORE, logits((2, 4, 2, 8)), [(8, 4, True)]) is None
    assert merged_logits(BEFORE, np.full_like(BEFORE, -1024), [(4, 4, True)]) is None


masks = arrays(np.float32, (9, 7), elements=st.sampled_from([-3.0, -0.5, 0.5, 3.0]))
clicks = st.lists(st.tuples(st.floats(0, 8), st.floats(0, 6), st.booleans()), min_size=1, max_size=3)


@given(masks, masks, clicks)
def test_every_pixel_is_of_one_of_both_and_changes_are_whole_parts(before, after, clicks):
    merged = merged_logits(before, after, clicks)
    if merged is None:
        return
    assert np.all((merged == before) | (merged == after))
    changed = (merged > 0) != (before > 0)
    assert changed.any()
    for difference in ((after > 0) & (before <= 0), (after <= 0) & (before > 0)):
        parts, count = ndimage.label(difference)
        for part in range(1, count + 1):
            assert len(np.unique(changed[parts == part])) == 1


# -- with what is known of the object ---------------------------------------------------------------


def test_what_remains_of_a_target_is_not_absent_where_the_answer_to_a_click_is(model, volume):
    """A click takes one of two parts away, and the network answers that nothing is there: the other part stays."""
    session = biosam2.Session(model, volume)
    tracker, frames = session.executor.tracker, session.frames
    n = model.image_size // 4
    left, right = (n // 4, n // 2, 1, n // 4), (n // 4, n // 2, n // 2, n - 2)

    def memory(low, score, value):
        return SliceMemory(
            slice_index=5,
            region=frames.whole,
            low_logits=torch.from_numpy(low)[None, None],
            pointer=torch.full((1, 8), float(value)),
            object_score=torch.full((1, 1), float(score)),
            score=value,
            prompted=True,
            mask=pack(np.zeros((frames.rows, frames.columns), bool)),
        )

    absent = memory(np.full((n, n), -1024, np.float32), -5, 0.01)
    click = (frames.rows * 3 / 8, frames.columns / 8, False)
    for parts, present in (((left, right), True), ((left,), False)):
        before = memory(logits(*parts, shape=(n, n)), 5, 0.9)
        merged = tracker.merged(before, absent, [click])
        mask = merged.unpacked(frames.rows, frames.columns)
        assert not mask[:, : frames.columns // 4].any()
        assert mask.any() == present
        of = before if present else absent
        assert (float(merged.object_score), merged.score) == (float(of.object_score), of.score)
        assert torch.equal(merged.pointer, of.pointer)


# -- in a session ----------------------------------------------------------------------------------


@pytest.fixture
def session(model, volume):
    return biosam2.Session(model, volume, merge="progressive")


def test_the_first_mark_is_answered_as_without_merging(model, volume, session):
    plain = biosam2.Session(model, volume)
    for name, prompt in (("a", Point((11, 7, 5))), ("b", Box((6, 4, 5), (15, 10, 5)))):
        for each in (plain, session):
            each.add_prompt(name, prompt)
        assert np.array_equal(plain.predict(name, 5), session.predict(name, 5))


def test_clicks_after_a_mark_change_only_whole_parts_of_the_difference(model, volume, session):
    plain = biosam2.Session(model, volume)
    first, clicks = Box((6, 4, 5), (15, 10, 5)), [Point((3, 3, 5)), Point((12, 8, 5), False)]
    for each in (plain, session):
        each.add_prompt("t", first)
    before = session.predict("t", 5)
    for each in (plain, session):
        for click in clicks:
            each.add_prompt("t", click)
    asked, merged = plain.predict("t", 5), session.predict("t", 5)
    assert not np.array_equal(asked, before)
    # Borders lie between the network's pixels, whose answers are mixed there.
    assert ((merged != before) & (merged != asked)).mean() < 0.02


def test_a_correction_after_a_propagation_is_merged_with_what_was_found(session):
    session.add_prompt("t", Box((6, 4, 5), (15, 10, 5)))
    list(session.propagate(["t"]))
    before = session.mask("t")[7].copy()
    session.add_prompt("t", Point((4, 4, 7), not before[4, 4]))
    merged = session.predict("t", 7)
    list(session.propagate(["t"], first=7, last=7))
    assert np.array_equal(session.mask("t")[7], merged)
    session.undo(), session.undo()
    assert np.array_equal(session.mask("t")[7], before)


def test_a_mask_is_not_merged(session):
    drawn = np.zeros((16, 20), bool)
    drawn[3:9, 4:12] = True
    session.add_prompt("t", Point((11, 7, 5)))
    list(session.propagate(["t"]))
    session.add_prompt("t", Mask(5, drawn))
    list(session.propagate(["t"], first=5, last=5))
    assert np.array_equal(session.mask("t")[5], drawn)


def test_a_click_on_a_drawn_mask_changes_parts_of_it(model, volume, session):
    drawn = np.zeros((16, 20), bool)
    drawn[3:12, 4:16] = True
    plain = biosam2.Session(model, volume)
    for each in (plain, session):
        each.add_prompt("t", Mask(5, drawn))
        each.add_prompt("t", Point((9, 7, 5), False))
    asked, merged = plain.predict("t", 5), session.predict("t", 5)
    assert not np.array_equal(asked, merged)
    assert ((merged != drawn) & (merged != asked)).mean() < 0.02


def test_a_lasso_is_corrected_as_the_mask_that_it_encloses(model, volume):
    """Also by a second click, after a propagation: what it was told is known by its pixels."""
    drawn = np.zeros((16, 20), bool)
    drawn[3:12, 4:16] = True
    lasso = Lasso(5, ((2.5, 3.5), (2.5, 15.5), (11.5, 15.5), (11.5, 3.5)))
    shown = []
    for prompt in (Mask(5, drawn), lasso):
        session = biosam2.Session(model, volume, merge="progressive")
        session.add_prompt("t", prompt)
        session.add_prompt("t", Point((9, 7, 5), False))
        list(session.propagate(["t"]))
        session.add_prompt("t", Point((5, 4, 5), False))
        list(session.propagate(["t"]))
        shown.append(session.mask("t")[5])
    assert np.array_equal(*shown)


def test_removing_a_click_takes_its_part_back(session):
    session.add_prompt("t", Box((6, 4, 5), (15, 10, 5)))
    before = session.predict("t", 5)
    session.add_prompt("t", Point((3, 3, 5)))
    session.predict("t", 5)
    session.remove_prompt("t", 1)
    assert np.array_equal(session.predict("t", 5), before)


def test_a_word_that_is_none_is_refused(model, volume):
    with pytest.raises(InputError, match="there is no merge 'always'; use progressive"):
        biosam2.Session(model, volume, merge="always")
