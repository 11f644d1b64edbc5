"""What a correcting click may change on its slice. Approximate.

A network answers a click with a whole new mask, which may differ far from the click too, where the user had nothing to
say. Progressive merging (FocalClick, Chen et al. 2022, arXiv 2204.02574, section 3.3) takes over only the connected
parts of the difference that the clicks point at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

# Row, column (may be fractional), and whether the place belongs to the target.
Click: TypeAlias = tuple[float, float, bool]


def merged_logits(
    before: NDArray[np.float32], after: NDArray[np.float32], clicks: Sequence[Click]
) -> NDArray[np.float32] | None:
    """Logits of a corrected mask that differ from those before only where the clicks ask for it.

    Of each click the part of the difference counts that it lies in, or else the nearest: of what was gained for a
    positive click, of what was lost for a negative one.

    Args:
        before: logits (rows, columns) that the clicks correct.
        after: logits (rows, columns) of the answer to them.
        clicks: (row, column, positive) in pixels of these grids; may be fractional.

    Returns:
        Logits (rows, columns), None where the answer changes nothing that the clicks point at.
    """
    was, now = before > 0, after > 0
    taken = np.zeros_like(was)
    for row, column, positive in clicks:
        change = now & ~was if positive else was & ~now
        if change.any():
            taken |= _pointed_at(change, row, column)
    if not taken.any():
        return None
    # The border of a part lies between two pixels: both sides of it come from one answer.
    beside = _grown(taken) & (was == now)
    return np.where(taken | beside, after, before)


def _pointed_at(change: NDArray[np.bool_], row: float, column: float) -> NDArray[np.bool_]:
    """The connected part that a place lies in, or else the nearest."""
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(change.astype(np.uint8))))
    places = np.argwhere(change)
    nearest = places[np.square(places - (row, column)).sum(axis=1).argmin()]
    return parts == parts[tuple(nearest)]


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return sitk.GetArrayFromImage(sitk.BinaryDilate(sitk.GetImageFromArray(mask.astype(np.uint8)), (1, 1))).astype(bool)
