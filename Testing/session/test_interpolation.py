"""Masks between two slices."""

import numpy as np
import pytest
from biosam2.interpolation import between
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

MASKS = arrays(bool, (7, 9))


def disc(radius, row=32.0, column=40.0, shape=(64, 80), pixel=(1.0, 1.0)):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - row) * pixel[0]) ** 2 + ((columns - column) * pixel[1]) ** 2 < radius**2


def test_a_disc_grows_evenly():
    radii = [np.sqrt(mask.sum() / np.pi) for mask in between(disc(10), disc(20), 4)]
    assert radii == pytest.approx([12, 14, 16, 18], abs=0.4)


def test_a_disc_moves_evenly():
    places = [np.argwhere(mask).mean(axis=0) for mask in between(disc(10, row=25), disc(10, row=33), 3)]
    assert np.array(places) == pytest.approx(np.array([[27, 40], [29, 40], [31, 40]]), abs=0.6)


def test_pixels_that_are_not_square():
    pixel = (1.0, 2.0)
    before, after = (disc(radius, column=20, shape=(64, 40), pixel=pixel) for radius in (12, 20))
    (mask,) = between(before, after, 1, pixel)
    expected = disc(16, column=20, shape=(64, 40), pixel=pixel)
    assert (mask ^ expected).sum() / expected.sum() < 0.05


@settings(deadline=None)
@given(MASKS, MASKS, st.integers(1, 4))
def test_within_both_is_within_and_outside_both_is_outside(before, after, count):
    masks = list(between(before, after, count))
    assert len(masks) == count
    for mask in masks:
        assert mask.dtype == bool
        if before.any() and after.any():
            assert mask[before & after].all()
        assert not mask[~(before | after)].any()


@settings(deadline=None)
@given(MASKS, st.integers(1, 3))
def test_between_equal_masks_is_the_same(mask, count):
    assert all((found == mask).all() for found in between(mask, mask, count))


@settings(deadline=None)
@given(MASKS, MASKS)
def test_the_order_does_not_matter(before, after):
    there, back = list(between(before, after, 2)), list(between(after, before, 2))
    assert all((a == b).all() for a, b in zip(there, back[::-1], strict=True))


def test_nothing_lies_between_a_mask_and_nothing():
    assert not any(mask.any() for mask in between(disc(10), np.zeros((64, 80), bool), 3))
