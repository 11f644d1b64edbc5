"""Masks of one slice."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2.masks import floods

ROWS, COLUMNS = np.mgrid[:200, :160]


def disk(radius, row=100, column=80):
    return np.hypot(ROWS - row, COLUMNS - column) <= radius


def box(row0, row1, column0, column1):
    mask = np.zeros((200, 160), bool)
    mask[row0:row1, column0:column1] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.zeros((200, 160), bool), False),
        (disk(6), False),
        (disk(40), False),
        (disk(50), True),  # a quarter of the slice
        (box(60, 100, 40, 80), True),  # cut off on all sides, as by a crop
        (box(60, 100, 40, 80) & disk(24, 80, 60), True),
        (box(60, 100, 40, 80) & disk(19, 80, 60), False),
        (box(60, 100, 40, 80) & (ROWS + COLUMNS < 150), False),
        (box(60, 70, 40, 50), False),  # too small to tell
        (np.ones((200, 160), bool), True),
    ],
)
def test_which_masks_are_questioned(mask, expected):
    assert floods(mask) is expected
