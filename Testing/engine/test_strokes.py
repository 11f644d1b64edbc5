"""Scribbles, lassos and rulers: which voxels they mean, what is refused, and what a session makes of them."""

from __future__ import annotations

import biosam2
import numpy as np
import pytest
from biosam2 import Box, Lasso, Line, Mask, Point, Scribble, Volume
from biosam2.errors import PromptError
from biosam2.frames import Frames
from biosam2.prompts import KINDS, SlicePrompt
from biosam2.prompts.stroke import thinned
from hypothesis import assume, given
from hypothesis import strategies as st
from skimage.measure import points_in_poly

SHAPE = (14, 17)
AXES = st.sampled_from("ijk")
# Voxels' centres and borders are the hard places: drawn more often than by chance.
FAR, SHIFTS = st.floats(0.05, 9), st.floats(0, 0.8)
NUMBERS = st.floats(-2, 16) | st.integers(-4, 32).map(lambda n: n / 2)


@st.composite
def stars(draw, reaches=FAR):
    """A centre and a polygon about it, which does not cross itself: each side is seen from it at less than 180°."""
    centre = np.array([draw(st.floats(3, 10)), draw(st.floats(3, 13))])
    count = draw(st.integers(3, 12))
    turns = 2 * np.pi * (np.arange(count) + np.array(draw(st.lists(SHIFTS, min_size=count, max_size=count)))) / count
    assume(np.diff(turns, append=turns[0] + 2 * np.pi).max() < 3.1)
    reach = np.array(draw(st.lists(reaches, min_size=count, max_size=count)))
    return centre, centre + reach[:, None] * np.stack([np.sin(turns), np.cos(turns)], axis=1)


def frames_of(axis: str = "k", spacing=(0.7, 1.3, 2.9)) -> Frames:
    volume = Volume(np.zeros((9, 14, 17), np.int16), spacing)
    return Frames(volume, axis, (0.0, 1.0), 0)


def to_ijk(frames: Frames, s: float, row: float, column: float) -> tuple[float, float, float]:
    return {"k": (column, row, s), "j": (column, s, row), "i": (s, column, row)}[frames.axis]


# -- which voxels a lasso encloses -------------------------------------------------------------------------------------


@given(stars())
def test_a_lasso_holds_the_voxels_whose_centres_lie_inside(star) -> None:
    _, polygon = star
    found = Lasso(0, polygon).inside(SHAPE)
    centres = np.argwhere(np.ones(SHAPE, bool)).astype(float)
    a, b = polygon, np.roll(polygon, -1, axis=0)
    way = b - a
    t = np.clip(((centres[:, None] - a) * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-12), 0, 1)
    clear = np.linalg.norm(centres[:, None] - a - t[..., None] * way, axis=-1).min(axis=1) > 1e-6
    expected = points_in_poly(centres, polygon)
    assert np.array_equal(found.ravel()[clear], np.asarray(expected)[clear])


@given(stars(), st.booleans())
def test_lassos_that_share_sides_share_no_voxel_and_leave_none(star, snapped) -> None:
    centre, polygon = star
    if snapped:  # every vertex on a centre or on a border
        centre, polygon = np.round(2 * centre) / 2, np.round(2 * polygon) / 2
    sides = list(zip(polygon - centre, np.roll(polygon, -1, axis=0) - centre, strict=True))
    assume(all(one[0] * other[1] < one[1] * other[0] for one, other in sides))  # still a star where it was rounded
    triangles = [Lasso(0, [centre, centre + one, centre + other]).inside(SHAPE) for one, other in sides]
    assert np.array_equal(np.sum(triangles, axis=0), Lasso(0, polygon).inside(SHAPE).astype(int))


@given(stars(), st.integers(0, 11), st.booleans())
def test_where_a_lasso_begins_and_which_way_it_runs_does_not_count(star, shift, backwards) -> None:
    _, polygon = star
    other = np.roll(polygon, shift, axis=0)[:: -1 if backwards else 1]
    assert np.array_equal(Lasso(0, polygon).inside(SHAPE), Lasso(0, other).inside(SHAPE))


def test_borders_belong_to_the_side_of_lower_rows_and_columns() -> None:
    square = Lasso(0, [(1, 2), (1, 5), (4, 5), (4, 2)]).inside((6, 7))
    assert np.array_equal(np.argwhere(square)[[0, -1]], [(1, 2), (3, 4)])
    assert square.sum() == 9
    around = Lasso(0, [(0.5, 1.5), (0.5, 4.5), (3.5, 4.5), (3.5, 1.5)]).inside((6, 7))
    assert np.array_equal(around[1:4, 2:5], np.ones((3, 3)))
    assert around.sum() == 9


@given(st.integers(4, 40), st.integers(0, 39))
def test_a_lasso_with_two_vertices_exchanged_crosses_itself(count, n) -> None:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    convex = np.stack([7 + 6 * np.sin(angles), 8 + 6 * np.cos(angles)], axis=1)
    Lasso(0, convex)
    n %= count
    convex[[n, n - 1]] = convex[[n - 1, n]]
    with pytest.raises(PromptError, match="crosses itself near row"):
        Lasso(0, convex)


@pytest.mark.parametrize(
    "polygon",
    [
        [(0, 0), (4, 4), (0, 4), (4, 0)],
        [(0, 0), (2, 2), (4, 4), (0, 4), (2, 2), (4, 0)],  # through a vertex
        [(0, 0), (0, 6), (3, 3), (3, 0), (3, 4)],  # along a side
    ],
)
def test_a_lasso_that_meets_itself_is_refused(polygon) -> None:
    with pytest.raises(PromptError, match="crosses itself"):
        Lasso(0, polygon)


def test_a_vertex_given_twice_is_one() -> None:
    assert Lasso(0, [(1, 1), (1, 5), (1, 5), (5, 5), (1, 1)]).inside(SHAPE).sum() > 0


def test_a_lasso_of_many_vertices_is_checked_in_pieces() -> None:
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    circle = np.stack([50 + 40 * np.sin(angles), 50 + 40 * np.cos(angles)], axis=1)
    assert abs(Lasso(0, circle).inside((100, 100)).sum() - np.pi * 1600) < 20
    circle[2990:] = circle[1500:1510]
    with pytest.raises(PromptError, match="crosses itself"):
        Lasso(0, circle)


# -- points along lines ------------------------------------------------------------------------------------------------


@given(AXES, st.lists(st.tuples(st.floats(0, 8), st.floats(0, 8)), min_size=2, max_size=9), st.booleans())
def test_a_scribble_s_points_lie_at_equal_ways_along_it(axis, way, positive) -> None:
    frames = frames_of(axis)
    vertices = np.array(way) * frames.pixel_size
    steps = np.linalg.norm(np.diff(vertices, axis=0), axis=1)
    assume(steps.sum() > 0.1)
    scribble = Scribble.from_places([to_ijk(frames, 3.2, *place) for place in way], frames, positive)
    assert scribble.slice_of(frames) == 3
    scribble.check(frames)
    told = scribble.alone(frames)
    assert told.slice_index == 3
    assert told.mask is None
    assert {p[2] for p in told.points} == {positive}
    reached = []
    for row, column, _ in told.points:
        place = np.array([row, column]) * frames.pixel_size
        # On the line: on the way from one vertex to the next, and so far along.
        gaps = np.linalg.norm(vertices[:-1] - place, axis=1) + np.linalg.norm(vertices[1:] - place, axis=1) - steps
        on = np.flatnonzero(gaps < 1e-6)
        assert on.size
        reached.append({round(float(steps[:n].sum() + np.linalg.norm(place - vertices[n])), 5) for n in on})
    count = len(reached)
    for n, ways in enumerate(reached):
        wanted = (n + 0.5) / count * steps.sum()
        assert min(abs(way - wanted) for way in ways) < 1e-4


@given(AXES, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_a_line_s_box_is_tangent_to_its_disc(axis, row0, column0, row1, column1) -> None:
    frames = frames_of(axis)
    ends = np.clip([(row0, column0), (row1, column1)], 0, (frames.rows - 1, frames.columns - 1))
    assume(np.abs(ends[0] - ends[1]).max() > 0.1)
    line = Line.from_places([to_ijk(frames, 4, *end) for end in ends], frames)
    top, left, bottom, right = line.box(frames)
    size = np.array(frames.pixel_size)
    radius = np.linalg.norm((ends[1] - ends[0]) * size) / 2
    angles = np.linspace(0, 2 * np.pi, 720)
    disc = ends.mean(axis=0) + radius * np.stack([np.sin(angles), np.cos(angles)], axis=1) / size
    disc = np.clip(disc, 0, (frames.rows - 1, frames.columns - 1))
    assert np.allclose(disc.min(axis=0), (top, left), atol=1e-3)
    assert np.allclose(disc.max(axis=0), (bottom, right), atol=1e-3)


def test_a_line_s_box_is_medsam2_s_where_voxels_are_square() -> None:
    frames = frames_of(spacing=(1, 1, 1))
    # Centre (7, 8), diameter 8: half a side of 4 each way.
    assert Line(0, [(7, 4), (7, 12)]).box(frames) == (3, 4, 11, 12)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "vertices", "says"),
    [
        (Scribble, [(1, 2)], "a scribble has 2 to"),
        (Scribble, [], "a scribble has 2 to"),
        (Scribble, [(1, 2), (1, float("nan"))], "finite"),
        (Scribble, [(1, 2), (1, 2, 3)], "two finite numbers row, column"),
        (Lasso, [(1, 2), (3, 4)], "a lasso has 3 to"),
        (Lasso, [(1, 1), (5, 5), (1, 5), (5, 1)], "crosses itself near row 3, column 3"),
        (Line, [(1, 2), (3, 4), (5, 6)], "two ends"),
        (Line, [(1, 2), (1, 2)], "at different places"),
    ],
)
def test_strokes_that_are_none(kind, vertices, says) -> None:
    with pytest.raises(PromptError, match=says) as refused:
        kind(0, vertices)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [Scribble, Lasso, Line])
def test_a_stroke_stays_on_its_slice_and_in_the_volume(kind) -> None:
    frames = frames_of()
    name = kind.__name__.lower()
    good = [(2.0, 3.0, 4.0), (9.0, 3.0, 4.0), (9.0, 8.0, 4.0)][: 2 if kind is Line else 3]
    kind.from_places(good, frames).check(frames)
    with pytest.raises(PromptError, match=rf"the {name} leaves its slice: it runs from slice 4 to 7 along k; draw"):
        kind.from_places([*good[:-1], (5.0, 5.0, 7.0)], frames)
    with pytest.raises(PromptError, match=rf'the {name} is flat along j.*start a second session with axis="j"'):
        kind.from_places([(i, 3.0, k) for i, k in ((2.0, 1.0), (9.0, 6.0), (4.0, 8.0))[: len(good)]], frames)
    with pytest.raises(PromptError, match=f"the {name} has no points"):
        kind.from_places([], frames)
    vertices = [(3.0, 2.0), (3.0, 17.0), (8.0, 5.0)][: len(good)]
    with pytest.raises(PromptError, match=f"the {name} leaves its slice at row 3, column 17"):
        kind(4, vertices).check(frames)
    with pytest.raises(PromptError, match="there is no slice 9 along k; slices are 0 to 8"):
        kind(9, [(3.0, 2.0), (3.0, 9.0), (8.0, 5.0)][: len(good)]).check(frames)


def test_a_stroke_between_two_slices_is_on_one_of_them() -> None:
    frames = frames_of()
    for wobble in (1e-9, -1e-9):
        scribble = Scribble.from_places([(1, 1, 3.5 + wobble), (5, 5, 3.5 - wobble)], frames)
        assert scribble.slice_index in (3, 4)


def test_a_lasso_around_nothing_is_refused() -> None:
    small = Lasso(2, [(3.1, 3.1), (3.1, 3.6), (3.6, 3.6)])
    with pytest.raises(PromptError, match="encloses no voxel's centre"):
        small.check(frames_of())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_how_it_is_marked_and_drawn(kind) -> None:
    examples = {
        Point: Point((1, 2, 3)),
        Box: Box((1, 2, 3), (4, 5, 3)),
        Mask: Mask(3, np.eye(14, 17, dtype=bool)),
        Scribble: Scribble(3, [(1, 2), (3, 4)]),
        Lasso: Lasso(3, [(1, 2), (3, 4), (5, 2)]),
        Line: Line(3, [(1, 2), (3, 4)]),
    }
    drawing = examples[kind].drawing(frames_of())
    assert (drawing.first, drawing.last) == (3, 3)
    assert drawing.places
    assert isinstance(examples[kind].alone(frames_of()), SlicePrompt)
    assert kind.markup is None or kind.help


# -- in a session ------------------------------------------------------------------------------------------------------


@pytest.fixture
def session(model, volume):
    return biosam2.Session(model, volume)


OUTLINE = [(3.5, 6.5), (3.5, 15.5), (10.5, 15.5), (10.5, 6.5)]
CORNER = [(3.5, 6.5), (3.5, 10.5), (6.5, 10.5), (6.5, 6.5)]


def test_a_scribble_is_its_points(session, model, volume) -> None:
    scribble = Scribble(5, [(7, 7), (7, 15)])
    session.add_prompt("x", scribble)
    clicks = biosam2.Session(model, volume)
    for row, column in scribble.points(session.frames):
        clicks.add_prompt("x", Point((column, row, 5)))
    assert np.array_equal(session.predict("x", 5), clicks.predict("x", 5))
    for both in (session, clicks):
        list(both.propagate(["x"], first=3, last=7))
    assert np.array_equal(session.mask("x"), clicks.mask("x"))


def test_a_lasso_is_the_mask_that_it_encloses_and_the_users_own(session) -> None:
    session.add_prompt("x", Lasso(5, OUTLINE))
    drawn = np.zeros((16, 20), bool)
    drawn[4:11, 7:16] = True
    assert np.array_equal(session.predict("x", 5), drawn)
    list(session.propagate(["x"], first=4, last=6))
    assert np.array_equal(session.mask("x")[5], drawn)


def test_lassos_add_to_what_the_slice_shows_and_erase_from_it(session) -> None:
    session.add_prompt("x", Point((11, 7, 5)))
    list(session.propagate(["x"], first=4, last=6))
    before = session.mask("x")[6]
    inside = Lasso(6, CORNER).inside(before.shape)
    session.add_prompt("x", Lasso(6, CORNER))
    assert np.array_equal(session.mask("x")[6], before | inside)
    session.add_prompt("x", Lasso(6, OUTLINE, positive=False))
    outline = Lasso(6, OUTLINE).inside(before.shape)
    assert np.array_equal(session.mask("x")[6], (before | inside) & ~outline)
    list(session.propagate(["x"], first=4, last=6))
    assert np.array_equal(session.mask("x")[6], (before | inside) & ~outline), "a slice of the user's is kept"
    for _ in range(2):
        session.undo()
    assert np.array_equal(session.mask("x")[6], before | inside)


def test_a_lasso_erases_from_what_a_click_predicts(session) -> None:
    session.add_prompt("x", Point((11, 7, 5)))
    predicted = session.predict("x", 5)
    outline = Lasso(5, OUTLINE).inside(predicted.shape)
    assert (predicted & outline).any()
    session.add_prompt("x", Lasso(5, OUTLINE, positive=False))
    assert np.array_equal(session.predict("x", 5), predicted & ~outline)


def test_there_must_be_something_to_erase(session) -> None:
    for prepare in (lambda: None, lambda: session.add_prompt("x", Point((11, 7, 5)))):
        prepare()
        with pytest.raises(PromptError, match="slice 2 shows nothing of the segment that a lasso could erase"):
            session.add_prompt("x", Lasso(2, OUTLINE, positive=False))
    assert len(session.journal) == 1


ELSEWHERE = [(9.5, 2.5), (9.5, 5.5), (13.5, 5.5), (13.5, 2.5)]
FULL = np.ones((16, 20), bool)


@pytest.mark.parametrize("propagated", [False, True])
@pytest.mark.parametrize("positive", [True, False])
def test_a_lasso_that_is_taken_away_takes_what_it_drew(session, model, volume, propagated, positive) -> None:
    s = 6 if propagated else 2
    if propagated:
        session.add_prompt("x", Point((11, 7, 5)))
        list(session.propagate(["x"], first=4, last=6))
    else:
        session.add_prompt("x", Lasso(3, OUTLINE))
    before = session.mask("x")[s]
    first, second, third = (Lasso(s, way).inside(before.shape) for way in (OUTLINE, ELSEWHERE, CORNER))
    session.add_prompt("x", Lasso(s, OUTLINE))
    session.add_prompt("x", Lasso(s, ELSEWHERE))
    session.add_prompt("x", Lasso(s, CORNER, positive))
    shown = before | first | second
    assert np.array_equal(session.mask("x")[s], shown | third if positive else shown & ~third)
    session.remove_prompt("x", 1)
    rest = before | second
    assert np.array_equal(session.mask("x")[s], rest | third if positive else rest & ~third)
    again = biosam2.Session.from_record(session.to_record(), model, volume)
    assert np.array_equal(again.mask("x"), session.mask("x"))
    session.remove_prompt("x", 1)
    assert np.array_equal(session.mask("x")[s], before | third if positive else before & ~third)
    for _ in range(2):
        session.undo()
    assert np.array_equal(session.mask("x")[s], shown | third if positive else shown & ~third)


def test_a_mask_that_is_taken_away_from_under_a_lasso_leaves_what_was_before(session) -> None:
    session.add_prompt("x", Point((11, 7, 5)))
    predicted = session.predict("x", 5)
    session.add_prompt("x", Mask(5, FULL))
    session.add_prompt("x", Lasso(5, CORNER))
    assert session.mask("x")[5].all()
    session.remove_prompt("x", 1)
    assert np.array_equal(session.mask("x")[5], predicted | Lasso(5, CORNER).inside(predicted.shape))


def test_a_lasso_keeps_what_clicks_made_of_one_before_it(session) -> None:
    """What the network found depends on all that it was told, so it is kept as a whole."""
    session.add_prompt("x", Lasso(5, OUTLINE))
    session.add_prompt("x", Point((11, 7, 5)))
    predicted = session.predict("x", 5)
    session.add_prompt("x", Lasso(5, ELSEWHERE))
    session.remove_prompt("x", 0)
    assert np.array_equal(session.mask("x")[5], predicted | Lasso(5, ELSEWHERE).inside(predicted.shape))


def test_a_small_lasso_beside_a_large_mask_is_taken_and_comes_back_from_a_record(model) -> None:
    """The network has to see what the slice shows, not what the lasso adds to it."""
    volume = Volume(np.random.default_rng(0).normal(size=(3, 900, 900)).astype(np.float32))
    session = biosam2.Session(model, volume)
    mask = np.zeros((900, 900), bool)
    mask[20:200, 20:200] = True
    dot = [(250.5, 250.5), (250.5, 251.5), (251.5, 251.5), (251.5, 250.5)]
    with pytest.raises(PromptError, match="too small to be seen"):
        session.add_prompt("x", Lasso(1, dot))
    session.add_prompt("x", Mask(1, mask))
    session.add_prompt("x", Lasso(1, dot))
    mask[251, 251] = True
    again = biosam2.Session.from_record(session.to_record(), model, volume)
    for each in (session, again):
        assert np.array_equal(each.mask("x")[1], mask)


def test_a_record_with_strokes_gives_the_same_masks(session, model, volume) -> None:
    session.add_prompt("x", Line(5, [(7, 7), (7, 15)]))
    list(session.propagate(["x"], first=3, last=8))
    session.add_prompt("x", Scribble(7, [(2, 2), (3, 6)], positive=False))
    session.add_prompt("x", Lasso(4, CORNER, positive=False))
    list(session.propagate(["x"], first=3, last=8))
    again = biosam2.Session.from_record(session.to_record(), model, volume)
    assert again.journal == session.journal
    assert np.array_equal(again.mask("x"), session.mask("x"))
    assert session.mask("x").any()


@pytest.mark.parametrize("axis", "ij")
def test_strokes_run_along_any_axis(model, volume, axis) -> None:
    session = biosam2.Session(model, volume, axis=axis)
    frames = session.frames
    places = [to_ijk(frames, 6, row, column) for row, column in ((2, 6), (2, 9), (7, 9), (7, 6))]
    for prompt in (Lasso.from_places(places, frames), Scribble.from_places(places, frames, False)):
        session.add_prompt("x", prompt)
    session.add_prompt("y", Line.from_places(places[::2], frames))
    list(session.propagate(first=5, last=7))
    assert session.finished_slices("x") == session.finished_slices("y") == (5, 6, 7)


# -- what a hand draws -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(-5, 60), st.floats(-5, 60), st.just(4.0)), min_size=2, max_size=40),
    st.floats(0, 8),
)
def test_a_thinned_way_stays_where_it_was_drawn(places, tolerance) -> None:
    spacing = (0.8, 1.1, 2.5)
    kept = thinned(places, spacing, tolerance)
    assert (kept[0], kept[-1]) == (places[0], places[-1])
    rest = iter(places)
    assert all(place in rest for place in kept), "vertices of the way, in its order"
    a = np.array(kept)[:-1] * spacing
    way = np.array(kept)[1:] * spacing - a
    at = np.array(places)[:, None] * spacing - a
    t = np.clip((at * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-12), 0, 1)
    assert np.linalg.norm(at - t[..., None] * way, axis=-1).min(axis=1).max() <= tolerance + 1e-9


def test_a_straight_way_is_its_ends_and_a_corner_stays() -> None:
    there = [(float(i), 3.0, 1.0) for i in range(10)]
    back = [(9.0, 3.0 + j, 1.0) for j in range(1, 6)]
    assert thinned(there, (1, 1, 1), 0.3) == (there[0], there[-1])
    assert thinned(there + back, (1, 1, 1), 0.3) == (there[0], there[-1], back[-1])
    assert thinned(there[:1], (1, 1, 1), 0.3) == (there[0],)
