"""Strokes as a user draws them: scribbles, outlines and rulers on one slice, with a hand's randomness.

Coordinates are (row, column) of the slice's voxels, (0, 0) the centre of the first one.
"""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.spatial import ConvexHull, QhullError, distance
from skimage import measure, morphology

from ..errors import PromptError
from ..prompts import Lasso
from ..training.simulation import depth_inside

Way = NDArray[np.float64]
# A scribble runs over so much of the middle line's length.
_SHARE = (0.6, 1.0)
# How far a scribble strays from the middle: at most so much of the depth there, and of its own length.
_STRAY, _BEND = 0.5, 0.1
# How far an outline strays from the border, in units of the radius of a disc of the same area; at least half a voxel.
_SLIP = 0.05
# How much longer or shorter a ruler's end makes it: the radiologists' spread of a few per cent.
_RULER_SLIP = 0.02
# Vertices of an outline: one for so many voxels of its length, and at least a few.
_VERTEX_STEP, _LEAST_VERTICES = 2.0, 16


def simulate_scribble(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Way:
    """A smooth line inside a target, along its middle.

    The longest way through the skeleton, a part of it, bent smoothly and kept inside: the centreline scribbles of
    ScribblePrompt (Wong et al., arXiv 2312.07381, section 3.2), as a line. A target without a middle line, like a
    disc, gets a line across its middle.

    Args:
        rng: source of randomness.
        mask: bool (rows, columns), one piece, not empty.

    Returns:
        (vertices, 2), about a voxel apart, two at least.
    """
    depth = depth_inside(mask)
    way = _middle_line(mask)
    if _length(way) < np.sqrt(mask.sum()) / 2:
        way = _across(mask, depth)
    share = rng.uniform(*_SHARE)
    start = rng.uniform(0, 1 - share)
    way = _resampled(way, max(2, round(share * _length(way)) + 1), start, start + share)
    bend = _wave(rng, len(way))
    room = ndimage.map_coordinates(depth, way.T, order=1, mode="nearest")
    stray = np.minimum(_STRAY * np.maximum(room - 0.5, 0), _BEND * _length(way))
    bent = way + (np.tanh(bend) * stray)[:, None] * _normals(way)
    rows, columns = np.clip(np.rint(bent).astype(int), 0, np.array(mask.shape) - 1).T
    inside = mask[rows, columns]
    runs, count = ndimage.label(inside)
    if count:
        bent = bent[runs == 1 + int(np.argmax(np.bincount(runs)[1:]))]
    if count and len(bent) > 1:
        return bent
    # Of a target of a few voxels no line is left but a dot.
    return np.repeat([np.unravel_index(int(depth.argmax()), depth.shape)], 2, axis=0).astype(float)


def simulate_lasso(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Way:
    """The outline of a target as a hand draws it: smoothly too far out here and too far in there.

    Args:
        rng: source of randomness.
        mask: bool (rows, columns), one piece, not empty.

    Returns:
        (vertices, 2), a polygon that does not cross itself.
    """
    padded = np.pad(mask, 1).astype(float)
    outline = max(measure.find_contours(padded, 0.5), key=len)[:-1] - 1
    limit = np.array(mask.shape) - 0.5
    closed = np.vstack([outline, outline[:1]])
    count = max(_LEAST_VERTICES, round(_length(closed) / _VERTEX_STEP))
    way = np.clip(_resampled(closed, count + 1)[:-1], -0.5, limit)
    slip = max(0.5, _SLIP * np.sqrt(mask.sum() / np.pi)) * _wave(rng, len(way), closed=True)
    for _ in range(8):
        drawn = np.clip(way + slip[:, None] * _normals(way, closed=True), -0.5, limit)
        try:
            if Lasso(0, drawn).inside(mask.shape).any():
                return drawn
        except PromptError:
            pass
        slip = slip / 2
    return way


def simulate_ruler(
    rng: np.random.Generator, mask: NDArray[np.bool_], pixel_size: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The longest diameter of a target on a slice, as RECIST 1.1 asks for it (Eisenhauer et al. 2009).

    Args:
        rng: source of randomness: each end is off by a few per cent of the length, along the line.
        mask: bool (rows, columns), one piece, not empty.
        pixel_size: along rows and columns, in mm.

    Returns:
        Both ends, (row, column).
    """
    places = np.argwhere(mask).astype(float)
    with contextlib.suppress(QhullError):  # of a target that is a line itself
        places = places[ConvexHull(places).vertices]
    apart = distance.squareform(distance.pdist(places * pixel_size)) if len(places) > 1 else np.zeros((1, 1))
    one, other = np.unravel_index(int(apart.argmax()), apart.shape)
    ends = places[[one, other]]
    way = ends[1] - ends[0]
    slip = rng.normal(0, _RULER_SLIP, 2).clip(-3 * _RULER_SLIP, 3 * _RULER_SLIP)
    drawn = np.clip([ends[0] - slip[0] * way, ends[1] + slip[1] * way], 0, np.array(mask.shape) - 1)
    (row0, column0), (row1, column1) = drawn.tolist()
    return (row0, column0), (row1, column1)


def _middle_line(mask: NDArray[np.bool_]) -> Way:
    """The longest of the shortest ways through the skeleton."""
    places = np.argwhere(morphology.skeletonize(np.pad(mask, 1))[1:-1, 1:-1])
    if len(places) < 2:
        return np.argwhere(mask)[:1].astype(float)
    number = np.full(np.array(mask.shape) + 2, -1)
    number[tuple(places.T + 1)] = np.arange(len(places))
    links = []
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = number[tuple((places + 1 + step).T)]
        one = np.flatnonzero(other >= 0)
        links.append((one, other[one], np.full(len(one), np.hypot(*step))))
    one, other, cost = (np.concatenate(part) for part in zip(*links, strict=True))
    graph = sparse.csr_matrix((cost, (one, other)), shape=(len(places),) * 2)
    far = 0
    for _ in range(2):  # twice to the farthest: the longest way of a tree, nearly so of a graph
        reached, before = sparse.csgraph.dijkstra(graph, directed=False, indices=far, return_predecessors=True)
        reached[~np.isfinite(reached)] = -1
        start, far = far, int(reached.argmax())
    way = [far]
    while way[-1] != start:
        way.append(int(before[way[-1]]))
    line = places[way].astype(float)
    return np.stack([ndimage.gaussian_filter1d(line[:, n], 2, mode="nearest") for n in range(2)], axis=1)


def _across(mask: NDArray[np.bool_], depth: NDArray[np.float32]) -> Way:
    """A line across the middle of a compact target, along its longer side, half as long as it."""
    middle = np.array(np.unravel_index(int(depth.argmax()), depth.shape), float)
    places = np.argwhere(mask).astype(float)
    if len(places) < 2:
        return np.vstack([middle, middle])
    _, _, directions = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)
    reach = max(0.25 * float(np.ptp(places @ directions[0])), 0.5 * float(depth.max()))
    return np.vstack([middle - reach * directions[0], middle + reach * directions[0]])


def _length(way: Way) -> float:
    return float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())


def _resampled(way: Way, count: int, start: float = 0.0, stop: float = 1.0) -> Way:
    """Places at even distances along a way, from one share of its length to another."""
    reached = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    wanted = np.linspace(start, stop, count) * reached[-1]
    return np.stack([np.interp(wanted, reached, way[:, n]) for n in range(2)], axis=1)


def _normals(way: Way, closed: bool = False) -> Way:
    """Unit vectors at right angles to a way."""
    along = np.roll(way, -1, axis=0) - np.roll(way, 1, axis=0) if closed else np.gradient(way, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)


def _wave(rng: np.random.Generator, count: int, closed: bool = False) -> NDArray[np.float64]:
    """A smooth random curve of a few waves, about one high."""
    t = np.arange(count) / (count if closed else max(count - 1, 1))
    waves = np.arange(1, 5)
    phases, heights = rng.uniform(0, 2 * np.pi, 4), rng.normal(0, 1, 4) / np.sqrt(waves)
    turns = waves if closed else waves / 2
    return (heights[:, None] * np.sin(2 * np.pi * turns[:, None] * t + phases[:, None])).sum(axis=0) / 1.5
