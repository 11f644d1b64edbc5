"""Prompts as a user gives them: clicks, boxes, and corrections where the prediction is wrong.

Coordinates are pixels of the network's frame, x then y, (0, 0) the centre of the first pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def simulate_points(rng: np.random.Generator, mask: NDArray[np.bool_], count: int) -> NDArray[np.float32]:
    """Clicks inside a target: the first near its middle, the others anywhere in it.

    Args:
        rng: source of randomness.
        mask: bool (rows, columns), not empty.
        count: number of clicks.

    Returns:
        float32 (count, 2), x then y.
    """
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(len(rows), size=count)
    points = np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float32)
    if rng.random() < 0.75:
        points[0] = _deep_inside(rng, mask)
    return points


def simulate_box(rng: np.random.Generator, mask: NDArray[np.bool_], jitter: float = 0.1) -> NDArray[np.float32]:
    """The bounding box of a target, each side off by up to ``jitter`` of its length.

    Returns:
        float32 (4,), x0 y0 x1 y1, inside the frame.
    """
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    tight = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    sides = np.array([tight[2] - tight[0] + 1, tight[3] - tight[1] + 1] * 2, np.float32)
    loose = tight + rng.normal(0, jitter / 2, 4).clip(-jitter, jitter).astype(np.float32) * sides
    limit = np.array([mask.shape[1], mask.shape[0]] * 2, np.float32) - 1
    return np.clip(loose, 0, limit).astype(np.float32)


def simulate_correction(
    rng: np.random.Generator, prediction: NDArray[np.bool_], target: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], bool]:
    """The next click of somebody who compares a prediction with the target.

    It lies in the larger kind of error, missed or too much, half the time deep inside it; where nothing is wrong, it
    confirms a pixel of the target (or of the background where there is no target).

    Returns:
        float32 (2,), x then y in the arrays' pixels; and whether the click is positive.
    """
    missed, excess = target & ~prediction, prediction & ~target
    positive = bool(np.count_nonzero(missed) >= np.count_nonzero(excess))
    wrong = missed if positive else excess
    if not wrong.any():
        positive = bool(target.any())
        wrong = target if positive else ~target
    if rng.random() < 0.6:
        return _deep_inside(rng, wrong), positive
    rows, columns = np.nonzero(wrong)
    one = rng.integers(len(rows))
    return np.array([columns[one], rows[one]], np.float32), positive


def depth_inside(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How deep inside a mask its pixels lie: distance to the nearest pixel outside; beyond the frame counts.

    Args:
        mask: bool (rows, columns), not empty.

    Returns:
        float32 (rows, columns), in pixels.
    """
    rows, columns = np.nonzero(mask)
    part = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    depth = np.zeros(mask.shape, np.float32)
    depth[part] = ndimage.distance_transform_edt(np.pad(mask[part], 1))[1:-1, 1:-1]
    return depth


def _deep_inside(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A pixel of the mask that is far from its border."""
    depth = depth_inside(mask)
    rows, columns = np.nonzero(depth >= rng.uniform(0.6, 1.0) * depth.max())
    one = rng.integers(len(rows))
    return np.array([columns[one], rows[one]], np.float32)
