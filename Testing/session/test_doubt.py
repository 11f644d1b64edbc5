"""Which slices are to be looked at first: distance from what the user knows, the score where that is equal."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2 import Mask, Point, Volume
from biosam2.errors import InputError
from biosam2.frames import Frames
from biosam2.session.doubt import doubts
from biosam2.session.entries import Locked, Prompted, Propagated, Removed
from biosam2.session.settings import SessionSettings
from biosam2.session.state import SessionState
from hypothesis import given
from hypothesis import strategies as st

COUNT = 30
SLICES = st.integers(0, COUNT - 1)
FRAMES = Frames(Volume(np.zeros((COUNT, 4, 4), np.int16)), "k", (0.0, 1.0), 0)


def carried(prompted, first=0, last=COUNT - 1, locked=(), drawn=()) -> SessionState:
    """A session in which a segment was prompted, locked and drawn on slices, and carried through a range."""
    state = SessionState(SessionSettings(axis="k", window=(0.0, 1.0)), FRAMES)
    mask = np.ones((4, 4), bool)
    entries = [Prompted("a", Point((1, 1, s))) for s in prompted] + [Prompted("a", Mask(s, mask)) for s in drawn]
    entries += [Propagated(("a",), "both", first, last, tuple(("a", s) for s in range(first, last + 1)), True)]
    entries += [Locked("a", s, True, mask) for s in locked]
    for number, entry in enumerate(entries, start=1):
        state = state.with_entry(number, entry)
    return state


@given(st.lists(SLICES, min_size=1), st.lists(SLICES), st.lists(SLICES), st.lists(SLICES), st.data())
def test_the_farther_from_all_that_the_user_knows_the_more_in_doubt(prompted, locked, drawn, known, data) -> None:
    low = data.draw(SLICES)
    high = data.draw(st.integers(low, COUNT - 1))
    scores = data.draw(st.dictionaries(SLICES, st.floats(0, 1)))
    found = doubts(carried(prompted, locked=locked, drawn=drawn), "a", scores, (low, high), known)
    sure = {*prompted, *locked, *drawn, *known}
    assert set(found) == set(range(max(0, low - 1), min(COUNT, high + 2))) - sure
    assert all(0 < doubt < 1 for doubt in found.values())
    for s, doubt in found.items():
        for other, less in found.items():
            mine, its = ((min(abs(n - k) for k in sure), 1 - scores.get(n, 1.0)) for n in (s, other))
            if mine[0] > its[0] or (mine[0] == its[0] and mine[1] > its[1] + 1e-9):
                assert doubt > less


def test_a_slice_that_was_not_propagated_is_in_no_doubt() -> None:
    assert set(doubts(carried([10], 8, 12), "a", {}, (0, COUNT - 1))) == {8, 9, 11, 12}


def test_slices_without_the_segment_far_beyond_its_ends_are_in_no_doubt() -> None:
    state = carried([10])
    assert set(doubts(state, "a", {}, (9, 11))) == {8, 9, 11, 12}
    # It has no voxels at all.
    assert not doubts(state, "a", {}, (np.inf, -np.inf))
    # While masks come in nobody knows where it ends.
    assert len(doubts(state, "a", {}, (-np.inf, np.inf))) == COUNT - 1


def test_where_every_prompt_was_taken_away_the_score_decides() -> None:
    state = carried([10]).with_entry(9, Prompted("b", Point((1, 1, 3))))
    assert doubts(state, "b", {}, (0, COUNT - 1)) == {}
    found = doubts(state.with_entry(10, Removed("a", 0)), "a", {4: 0.2}, (0, COUNT - 1))
    assert max(found, key=lambda s: found[s]) == 4


def test_of_a_segment_that_is_not_there_nothing_is_said() -> None:
    with pytest.raises(InputError, match="no segment"):
        doubts(carried([1]), "c", {}, (0, 3))
