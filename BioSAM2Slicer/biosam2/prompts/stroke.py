"""What is drawn on one slice by dragging: a line of (row, column), and where it lies in the volume."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..errors import PromptError
from .base import IJK, check_slice, finite, nearest_slice

if TYPE_CHECKING:
    from ..frames import Frames

Way: TypeAlias = tuple[tuple[float, float], ...]
"""Vertices, (row, column) on their slice, may be fractional."""
# A hand that draws for a minute leaves a few thousand.
_MOST = 10_000
# A slice view shows what lies up to half a slice away, and rounding adds a little.
_HALF = 0.5 + 1e-3


def way_of(vertices: Iterable[Sequence[float]], least: int, what: str) -> Way:
    """Vertices of a stroke.

    Args:
        vertices: (row, column) each.
        least: how many there must be.
        what: it is, for the message.

    Raises:
        PromptError: too few or too many, or one that is not two finite numbers.
    """
    way = []
    for vertex in vertices:
        row, column = finite(vertex, "row, column", f"a vertex of a {what}")
        way.append((row, column))
    if not least <= len(way) <= _MOST:
        raise PromptError(f"a {what} has {least} to {_MOST} vertices, not {len(way)}")
    return tuple(way)


def check_way(slice_index: int, way: Way, what: str, frames: Frames) -> None:
    """Refuse a stroke that leaves the volume.

    Raises:
        PromptError: it does.
    """
    check_slice(slice_index, frames)
    for row, column in way:
        if not (-0.5 <= row <= frames.rows - 0.5 and -0.5 <= column <= frames.columns - 0.5):
            raise PromptError(
                f"the {what} leaves its slice at row {row:g}, column {column:g}; "
                f"a slice along {frames.axis} has {frames.rows} × {frames.columns} voxels"
            )


def on_slice(places: Sequence[IJK], what: str, frames: Frames) -> tuple[int, Way]:
    """The slice that places in the volume lie on, and their way there.

    Args:
        places: voxel indices.
        what: is drawn, for the message.
        frames: the volume's slices along the session's axis.

    Raises:
        PromptError: there are none, they lie on several slices, or on one along another axis.
    """
    if not places:
        raise PromptError(f"the {what} has no points")
    found = [frames.from_ijk(place) for place in places]
    middle = statistics.median(s for s, _, _ in found)
    if any(abs(s - middle) > _HALF for s, _, _ in found):
        spread = dict(zip("ijk", np.ptp(np.array(places), axis=0), strict=True))
        flat = [a for a in "ijk" if a != frames.axis and spread[a] <= 2 * _HALF]
        if len(flat) == 1:
            raise PromptError(
                f"the {what} is flat along {flat[0]}, and this session runs along {frames.axis}; "
                f'start a second session with axis="{flat[0]}" for it'
            )
        slices = [nearest_slice(place, frames) for place in places]
        raise PromptError(
            f"the {what} leaves its slice: it runs from slice {min(slices)} to {max(slices)} along {frames.axis}; "
            "draw it on one"
        )
    place = min(places, key=lambda p: abs(frames.from_ijk(p)[0] - middle))
    return nearest_slice(place, frames), tuple((row, column) for _, row, column in found)


def along(way: Way, fractions: Sequence[float], pixel_size: tuple[float, float]) -> Way:
    """Places at fractions of a way's length.

    Args:
        way: its vertices.
        fractions: 0 to 1.
        pixel_size: of a voxel along rows and columns, in mm, which the length is measured in.
    """
    vertices = np.array(way)
    steps = np.linalg.norm(np.diff(vertices, axis=0) * pixel_size, axis=1)
    reached = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.array(fractions) * reached[-1]
    rows, columns = (np.interp(wanted, reached, vertices[:, n]) for n in range(2))
    return tuple(zip(rows.tolist(), columns.tolist(), strict=True))


def thinned(places: Sequence[IJK], spacing: IJK, tolerance: float) -> tuple[IJK, ...]:
    """A drawn way with as few of its vertices as keep it where it is (Ramer 1972; Douglas and Peucker 1973).

    Args:
        places: its vertices, voxel indices.
        spacing: of the voxels along i, j, k, in mm.
        tolerance: how far it may come to lie from any vertex, in mm.

    Returns:
        Vertices of the way, its ends among them.
    """
    at = np.array(places, float).reshape(-1, 3) * spacing
    kept = {0, len(at) - 1}
    parts = [(0, len(at) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        along, between = at[last] - at[first], at[first + 1 : last] - at[first]
        length = float(along @ along)
        share = np.clip(between @ along / length, 0, 1)[:, None] if length else 0.0
        off = np.linalg.norm(between - share * along, axis=1)
        if off.max() > tolerance:
            middle = first + 1 + int(off.argmax())
            kept.add(middle)
            parts += [(first, middle), (middle, last)]
    return tuple(places[n] for n in sorted(kept) if n >= 0)
