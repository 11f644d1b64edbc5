"""How well two masks agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import distance


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks of one shape, 0 to 1; 1 where both are empty."""
    return 1 - float(distance.dice(a.ravel(), b.ravel())) if a.any() or b.any() else 1.0


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape, 0 to 1; 1 where both are empty."""
    return 1 - float(distance.jaccard(a.ravel(), b.ravel())) if a.any() or b.any() else 1.0
