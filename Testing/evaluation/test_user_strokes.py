"""A simulated user's strokes: inside the target, around it, as long as it; the same each time."""

from __future__ import annotations

import biosam2
import numpy as np
import pytest
from biosam2.errors import PromptError
from biosam2.evaluation.strokes import simulate_lasso, simulate_ruler, simulate_scribble
from biosam2.evaluation.user import User, largest_piece
from biosam2.frames import Frames
from biosam2.masks import dice
from biosam2.prompts import Lasso, Line, Scribble
from biosam2.session import SessionSettings, SessionState
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage


@st.composite
def pieces(draw):
    """One connected piece of any size and shape, at the frame's border too."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    noise = ndimage.gaussian_filter(rng.normal(size=shape), draw(st.sampled_from([0.0, 1.0, 2.5, 5.0])))
    mask = noise >= np.quantile(noise, draw(st.floats(0.0, 0.99)))
    return largest_piece(mask)


@settings(max_examples=60, deadline=None)
@given(pieces(), st.integers(0, 99))
def test_strokes_of_any_target_are_prompts(mask, seed) -> None:
    frames = Frames(biosam2.Volume(np.zeros((1, *mask.shape), np.uint8), (0.7, 1.1, 3.0)), "k", (0.0, 1.0), 0)
    scribble, outline = (draw(np.random.default_rng(seed), mask) for draw in (simulate_scribble, simulate_lasso))
    assert np.array_equal(scribble, simulate_scribble(np.random.default_rng(seed), mask))
    assert np.array_equal(outline, simulate_lasso(np.random.default_rng(seed), mask))

    Scribble(0, scribble).check(frames)
    rows, columns = np.rint(scribble).astype(int).T
    assert mask[rows, columns].all(), "a scribble stays inside"

    lasso = Lasso(0, outline)
    lasso.check(frames)
    radius = np.sqrt(mask.sum() / np.pi)
    if ndimage.binary_fill_holes(mask).sum() == mask.sum():
        deep = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] > 3 + 0.3 * radius
        assert lasso.inside(mask.shape)[deep].all(), "an outline goes around the middle"

    if mask.sum() > 1:
        ruler = simulate_ruler(np.random.default_rng(seed), mask, frames.pixel_size)
        Line(0, ruler).check(frames)
        places = np.argwhere(mask) * frames.pixel_size
        longest = max(np.linalg.norm(places - place, axis=1).max() for place in places)
        drawn = np.linalg.norm((np.array(ruler[1]) - ruler[0]) * frames.pixel_size)
        assert 0.85 * longest - 1e-9 <= drawn <= 1.13 * longest + 1e-9


def test_an_outline_is_nearly_the_target() -> None:
    rows, columns = np.ogrid[:80, :90]
    disc = (rows - 40) ** 2 + (columns - 44) ** 2 < 25**2
    agreements = [
        dice(Lasso(0, simulate_lasso(np.random.default_rng(n), disc)).inside(disc.shape), disc) for n in range(20)
    ]
    assert 0.9 < np.mean(agreements) < 0.99
    assert min(agreements) > 0.85


def test_a_scribble_follows_a_bent_target() -> None:
    rows, columns = np.ogrid[:80, :90]
    radius = np.hypot(rows - 70, columns - 45)
    arc = (radius > 30) & (radius < 40) & (rows < 70)
    line = simulate_scribble(np.random.default_rng(0), arc)
    length = np.linalg.norm(np.diff(line, axis=0), axis=1).sum()
    assert length > 0.55 * np.pi * 35
    assert np.abs(np.hypot(*(line - (70, 45)).T) - 35).max() < 5


class Recorded:
    """A session without a network: what a slice shows is given."""

    def __init__(self, volume: biosam2.Volume, shown: np.ndarray) -> None:
        self.frames = Frames(volume, "k", (0.0, 1.0), 0)
        self.state = SessionState(SessionSettings.resolve(volume), self.frames)
        self.shown = shown
        self.prompts: list = []

    def add_prompt(self, segment: str, prompt) -> None:
        here = self.shown[prompt.slice_of(self.frames)]
        self.prompts.append(prompt.completed(lambda: here, lambda: here))

    def predict(self, segment: str, slice_index: int) -> np.ndarray:
        return self.shown[slice_index]

    def mask(self, segment: str) -> np.ndarray:
        return self.shown


@pytest.mark.parametrize(("kind", "prompt"), [("scribble", Scribble), ("lasso", Lasso)])
def test_a_user_corrects_with_the_strokes_that_they_began_with(kind, prompt) -> None:
    volume = biosam2.Volume(np.zeros((3, 40, 40), np.uint8))
    target = np.zeros(volume.shape, bool)
    target[:, 5:20, 8:30] = True
    shown = np.zeros_like(target)
    shown[1] = target[1]
    shown[1, 10:18, 8:16] = False  # missed
    shown[2] = target[2]
    shown[2, 22:38, 10:36] = True  # too much, and most of all
    shown[0] = target[0]
    session = Recorded(volume, shown)
    user = User(session, "a", target, 1)
    user.start(kind)
    assert user.correct()
    assert user.correct_on(1, shown[1])
    assert not user.correct_on(0, shown[0])
    first, excess, missed = session.prompts
    assert [type(p) for p in session.prompts] == [prompt] * 3
    assert [(p.slice_index, p.positive) for p in session.prompts] == [(1, True), (2, False), (1, True)]
    if kind == "lasso":
        told = excess.alone(session.frames).mask
        assert dice(told, target[2]) > 0.93 > dice(shown[2], target[2])
        assert dice(missed.alone(session.frames).mask, target[1]) > dice(shown[1], target[1])
    assert first.slice_of(session.frames) == user.slice_index


def test_a_user_measures_with_a_ruler_and_goes_on_with_clicks() -> None:
    volume = biosam2.Volume(np.zeros((1, 40, 40), np.uint8))
    target = np.zeros(volume.shape, bool)
    target[:, 5:20, 8:30] = True
    session = Recorded(volume, np.zeros_like(target))
    user = User(session, "a", target, 0)
    user.start("line")
    user.correct()
    assert [type(p).__name__ for p in session.prompts] == ["Line", "Point"]


def test_a_lasso_of_nothing_shown_erases_nothing() -> None:
    session = Recorded(biosam2.Volume(np.zeros((1, 40, 40), np.uint8)), np.zeros((1, 40, 40), bool))
    with pytest.raises(PromptError, match="nothing"):
        session.add_prompt("a", Lasso(0, [(1, 1), (1, 9), (9, 9)], positive=False))
