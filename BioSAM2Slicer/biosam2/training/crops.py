"""Crops of labelled frames, as inference would take them or a little off."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ..frames import Frames, Region


def varied(
    rng: np.random.Generator, region: Region, frames: Frames, scale: float, off: float, smallest: int = 1
) -> Region:
    """A region scaled about a point near its middle, within the frame.

    Args:
        rng: source of randomness.
        region: to be varied.
        frames: that it lies in.
        scale: of its sides.
        off: share of a side that the middle moves at most.
        smallest: side in voxels, where the frame has as many.
    """
    row, rows = _moved(rng, region.row, region.rows, scale, frames.rows, off, smallest)
    column, columns = _moved(rng, region.column, region.columns, scale, frames.columns, off, smallest)
    return Region(row, column, rows, columns)


def covered(masks: NDArray[np.bool_], size: int) -> Tensor:
    """Masks (F, rows, columns) as bool (F, S, S): what is covered by half or more."""
    given = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
    return interpolate(given, size=(size, size), mode="bilinear", antialias=True)[:, 0] > 0.5


def _moved(
    rng: np.random.Generator, start: int, length: int, scale: float, limit: int, off: float, smallest: int
) -> tuple[int, int]:
    new = int(np.clip(round(length * scale), min(smallest, limit), limit))
    middle = start + length / 2 + rng.uniform(-off, off) * length
    return int(np.clip(round(middle - new / 2), 0, limit - new)), new
