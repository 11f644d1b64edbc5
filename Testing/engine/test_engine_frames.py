"""Where a frame's pixels lie, and what the encoder is shown."""

import numpy as np
import pytest
import torch
from biosam2 import Volume
from biosam2.engine.regions import Extent, extent_of, follow, region_around
from biosam2.engine.tracker import _network_points, _resampled
from biosam2.frames import CT_PRESETS, Frames, Region, resolve_axis, resolve_window, windowed
from biosam2.prompts import SlicePrompt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

ROTATION_AND_FLIP = np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]], float)


def coded(shape=(4, 5, 6)):
    """Voxels that tell where they are: 100 k + 10 j + i."""
    k, j, i = np.indices(shape)
    return Volume((100 * k + 10 * j + i).astype(np.int16), spacing=(1, 2, 3))


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_pixels_and_prompts_agree(axis):
    volume = coded()
    frames = Frames(volume, axis, None, 32)
    for k, j, i in np.ndindex(4, 5, 6):
        s, row, column = frames.from_ijk((i, j, k))
        assert frames.pixels(int(s))[int(row), int(column)] == 100 * k + 10 * j + i


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_stacking_puts_slices_back(axis):
    volume = coded()
    frames = Frames(volume, axis, None, 32)
    stack = np.stack([frames.pixels(s) for s in range(frames.count)])
    assert (frames.stack(stack) == volume.array).all()
    assert (frames.unstack(volume.array) == stack).all()


def test_pixel_size_is_rows_then_columns():
    assert [Frames(coded(), a, None, 32).pixel_size for a in "kji"] == [(2, 1), (3, 1), (3, 2)]


def test_anatomical_axes_follow_the_direction():
    volume = Volume(np.zeros((3, 3, 3)), direction=ROTATION_AND_FLIP)
    # Column a of the direction is where index axis a points: i to posterior, j to superior, k to left.
    assert [resolve_axis(a, volume) for a in ("sagittal", "coronal", "axial")] == ["k", "i", "j"]
    assert [resolve_axis(a, coded()) for a in ("sagittal", "coronal", "axial")] == ["i", "j", "k"]


def test_anatomical_axes_are_all_different_on_an_oblique_volume():
    angle = np.radians(44.9)
    c, s = np.cos(angle), np.sin(angle)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    volume = Volume(np.zeros((3, 3, 3)), direction=direction)
    assert {resolve_axis(a, volume) for a in ("sagittal", "coronal", "axial")} == set("ijk")


def test_windows():
    assert resolve_window((40, 400), coded()) == (40, 400)
    assert resolve_window("lung", coded()) == CT_PRESETS["lung"]
    colour = Volume(np.zeros((1, 4, 4, 3), np.uint8))
    assert resolve_window(None, colour) == (127.5, 255)


def test_percentiles_ignore_background_and_outliers():
    rng = np.random.default_rng(0)
    array = np.full((20, 40, 40), -1024.0)
    array[5:15] = rng.uniform(0, 100, (10, 40, 40))
    array[7, 3, 3] = 30000
    centre, width = resolve_window(None, Volume(array))
    assert abs(centre - 50) < 2
    assert abs(width - 100) < 3


@pytest.mark.parametrize("value", [0, 5, -3.5])
def test_constant_volume_has_a_finite_frame(value):
    frames = Frames(Volume(np.full((2, 6, 7), value, float)), "k", None, 32)
    assert torch.isfinite(frames.tensor(0)).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e6])
def test_contrast_does_not_depend_on_the_unit(scale):
    array = np.random.default_rng(0).normal(5, 1, (3, 8, 8)).astype(np.float32)
    shown, expected = (Frames(Volume(a), "k", None, 32).tensor(1) for a in (array * np.float32(scale), array))
    torch.testing.assert_close(shown, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [np.uint8, bool])
def test_binary_volume_keeps_its_contrast(kind):
    array = np.zeros((2, 8, 8), kind)
    array[:, 4:] = 1
    shown = Frames(Volume(array), "k", None, 32).tensor(0)[0]
    assert shown[-1, 0] - shown[0, 0] > 4  # one in units of ImageNet's standard deviation is 1 / 0.229


def test_not_a_number_is_shown_dark():
    array = np.linspace(0, 100, 64).reshape(1, 8, 8)
    array[0, 0, 0] = np.nan
    array[0, 7, 7] = np.inf
    assert torch.isfinite(Frames(Volume(array), "k", None, 32).tensor(0)).all()


def test_colour_stays_colour():
    array = np.zeros((1, 4, 4, 3), np.uint8)
    array[..., 1] = 255
    red, green, blue = Frames(Volume(array), "k", None, 32).tensor(0)
    assert torch.allclose(red, torch.tensor(-0.485 / 0.229))
    assert torch.allclose(green, torch.tensor((1 - 0.456) / 0.224))
    assert torch.allclose(blue, torch.tensor(-0.406 / 0.225))


def test_region_is_shown_alone():
    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(size=(2, 40, 50)))
    frames = Frames(volume, "k", (0, 4), 32)
    region = Region(5, 7, 20, 30)
    cut = Frames(Volume(volume.array[:, 5:25, 7:37]), "k", (0, 4), 32)
    assert torch.equal(frames.tensor(1, region), cut.tensor(1))


@pytest.mark.parametrize("shape", [(1, 1, 9), (3, 9, 1), (2, 1, 1)])
def test_thin_frames(shape):
    frames = Frames(Volume(np.random.default_rng(0).normal(size=shape)), "k", None, 32)
    assert frames.tensor(0).shape == (3, 32, 32)


# -- coordinates -----------------------------------------------------------------------------------

extents = st.integers(1, 700)


@given(extents, extents, st.data())
def test_clicks_hit_the_centre_of_their_voxel(rows, columns, data):
    """Squeezing a frame by pixel areas carries voxel i's interval [i, i + 1) to [i, i + 1) · S / W."""
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    xy, _ = _network_points(SlicePrompt(0, points=((row, column, True),)), Region(0, 0, rows, columns), 256)
    x, y = xy[0, 0].tolist()
    assert np.isclose((x + 0.5) * columns / 256, column + 0.5, atol=1e-3)
    assert np.isclose((y + 0.5) * rows / 256, row + 0.5, atol=1e-3)


@given(extents, st.data())
def test_boxes_cover_their_voxels(columns, data):
    first = data.draw(st.integers(0, columns - 1))
    last = data.draw(st.integers(first, columns - 1))
    prompt = SlicePrompt(0, box=(0, first, 9, last))
    xy, labels = _network_points(prompt, Region(0, 0, 10, columns), 256)
    (x0, _), (x1, _) = xy[0].tolist()
    assert labels.tolist() == [[2, 3]]
    assert x0 <= x1
    middle = (first + last + 1) / 2 * 256 / columns - 0.5
    assert np.isclose((x0 + x1) / 2, middle, atol=1e-2)


def test_box_comes_before_points():
    prompt = SlicePrompt(0, box=(1, 1, 4, 4), points=((2, 2, True), (8, 8, False)))
    _, labels = _network_points(prompt, Region(0, 0, 10, 10), 256)
    assert labels.tolist() == [[2, 3, 1, 0]]


# -- crops -----------------------------------------------------------------------------------------

frame_sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(frame_sizes, st.data(), st.sampled_from([(1.0, 1.0), (0.5, 6.5), (3.0, 0.7)]))
def test_crop_lies_in_the_frame_and_holds_the_target(size, data, mm):
    rows, columns = size
    frames = Frames(Volume(np.zeros((1, rows, columns)), spacing=(mm[1], mm[0], 1)), "k", None, 256)
    row0, column0 = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    row1, column1 = data.draw(st.integers(row0, rows - 1)), data.draw(st.integers(column0, columns - 1))
    region = region_around(Extent(row0, column0, row1, column1), frames)
    assert 0 <= region.row <= row0
    assert row1 < region.row + region.rows <= rows
    assert 0 <= region.column <= column0
    assert column1 < region.column + region.columns <= columns


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_extent_is_tight(mask):
    extent = extent_of(mask)
    if extent is None:
        assert not mask.any()
    else:
        rows, columns = np.nonzero(mask)
        assert extent == Extent(rows.min(), columns.min(), rows.max(), columns.max())


def test_crop_stays_while_the_target_is_clear_of_its_border_and_follows_it_then():
    frames = Frames(Volume(np.zeros((1, 200, 200))), "k", None, 256)
    mask = np.zeros((200, 200), bool)
    mask[95:105, 95:105] = True
    region = region_around(extent_of(mask), frames)
    assert follow(region, mask, frames) == region
    mask[95:105, 80:121] = True
    moved = follow(region, mask, frames)
    assert moved.columns > region.columns
    assert moved.column < 80
    assert moved.column + moved.columns > 121


def test_logits_move_between_crops_without_a_shift():
    """A linear ramp over the frame is the same ramp in any crop, to rounding."""
    n = 64

    def ramp(region):
        rows = region.row + (torch.arange(n) + 0.5) * region.rows / n
        columns = region.column + (torch.arange(n) + 0.5) * region.columns / n
        return (rows[:, None] * 0.05 + columns[None] * 0.1 - 7)[None, None]

    source, target = Region(0, 0, 100, 120), Region(20, 30, 50, 45)
    assert torch.allclose(_resampled(ramp(source), source, target), ramp(target), atol=1e-4)


def test_logits_beyond_the_old_crop_say_absent():
    source, target = Region(0, 0, 50, 50), Region(50, 50, 50, 50)
    assert (_resampled(torch.full((1, 1, 16, 16), 5.0), source, target) <= -32 + 1e-6).all()


@settings(max_examples=20, deadline=None)
@given(centre=st.floats(-500, 500), width=st.floats(1, 2000), seed=st.integers(0, 99))
def test_what_the_panel_shows_of_a_window_is_what_the_model_is_given(centre, width, seed):
    array = np.random.default_rng(seed).normal(0, 300, (1, 16, 16)).astype(np.float32)
    array[0, 0, 0] = np.nan
    given_to_it = Frames(Volume(array, (1, 1, 1)), "k", (centre, width), 16).picture(0)[0].numpy()
    np.testing.assert_allclose(windowed(array[0], (centre, width)), given_to_it, atol=1e-6)
