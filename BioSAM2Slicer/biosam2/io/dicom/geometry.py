"""From where frames lie, one by one, to one regular grid; what is not regular is named, not guessed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .header import FramePlace


@dataclass(frozen=True, eq=False)
class FrameGrid:
    """A regular stack of frames.

    Attributes:
        order: indices of the frames along k.
        spacing: along i, j, k, mm.
        origin: LPS of voxel (0, 0, 0), mm.
        direction: 3×3, columns are the directions of i, j, k.
    """

    order: tuple[int, ...]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64]


def arrange(source: Path, places: Sequence[FramePlace], names: Sequence[str], thickness: float) -> FrameGrid:
    """Sort frames along their normal and check that they form a regular grid.

    Slices may be off the regular grid by a tenth of their distance (positions are written with few decimals) and
    drift sideways by half a pixel over the whole stack.

    Args:
        source: file or folder, for messages.
        places: where each frame lies.
        names: what each frame is called in messages.
        thickness: distance between slices where there is only one.

    Raises:
        InputError: orientations or spacings are mixed, slices are missing, lie twice at a position, are unevenly
            spaced, or are shifted sideways (gantry tilt).
    """
    first = places[0]
    axes = np.stack([np.concatenate([p.along_i, p.along_j]) for p in places])
    _same(source, "orientations", np.round(axes, 2) + 0.0, np.abs(axes - axes[0]).max() <= 1e-3, names)
    pixel = np.array([p.spacing for p in places])
    _same(source, "pixel spacings", np.round(pixel, 4), np.allclose(pixel, pixel[0], rtol=1e-3), names)

    normal = np.cross(first.along_i, first.along_j)
    positions = np.stack([p.position for p in places])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    spacing_k = _step(source, heights[order], [names[n] for n in order], thickness)
    start = positions[order[0]]
    drift = positions[order] - start - np.outer(heights[order] - heights[order[0]], normal)
    shift = float(np.linalg.norm(drift, axis=1).max())
    if shift > 0.5 * min(first.spacing):
        raise InputError(
            f"{source}: the slices are shifted sideways against each other by up to {shift:.2f} mm (gantry tilt); "
            "resample to a regular grid first"
        )
    return FrameGrid(
        order=tuple(int(n) for n in order),
        spacing=(*first.spacing, spacing_k),
        origin=(float(start[0]), float(start[1]), float(start[2])),
        direction=np.column_stack([first.along_i, first.along_j, normal]),
    )


def _step(source: Path, heights: NDArray[np.float64], names: Sequence[str], thickness: float) -> float:
    """The distance between slices of increasing height."""
    if len(heights) == 1:
        return thickness
    steps = np.diff(heights)
    typical = float(np.median(steps))
    twice = np.flatnonzero(steps <= max(0.01 * typical, 1e-4))
    if len(twice):
        here = int(twice[0])
        raise InputError(
            f"{source}: {len(twice) + 1} or more slices share a position, for example {names[here]} and "
            f"{names[here + 1]} (time points, echoes or a second copy); keep one per position"
        )
    gaps = np.flatnonzero(steps > 1.5 * typical)
    if len(gaps):
        here = int(gaps[0])
        raise InputError(
            f"{source}: slices are missing at {len(gaps)} place(s), the first between {names[here]} and "
            f"{names[here + 1]} ({steps[here]:.2f} mm apart, others {typical:.2f} mm); complete the series"
        )
    step = float(heights[-1] - heights[0]) / (len(heights) - 1)
    off = np.abs(heights - heights[0] - step * np.arange(len(heights))).max()
    if off > 0.1 * step + 0.05:
        raise InputError(
            f"{source}: slices are unevenly spaced, {steps.min():.2f} to {steps.max():.2f} mm; "
            "resample to a regular grid first"
        )
    return step


def _same(source: Path, what: str, rounded: NDArray[Any], agree: bool, names: Sequence[str]) -> None:
    """Refuse mixed values, with how many frames have which."""
    if agree:
        return
    counts = Counter(tuple(row) for row in rounded.tolist())
    shown = "; ".join(
        f"{n} with {' '.join(f'{v:g}' for v in value)} such as {names[rounded.tolist().index(list(value))]}"
        for value, n in counts.most_common(3)
    )
    raise InputError(f"{source} mixes {what} ({shown}); keep the slices of one")
