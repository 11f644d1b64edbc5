"""What a propagation tells, slice by slice. Torch-free, because clients without torch tell it too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Update:
    """One segment's new mask on one slice.

    Attributes:
        segment: its name.
        slice_index: the slice, along the session's axis.
        mask: bool (rows, columns); the user's own pixels where the user owns the slice.
        score: predicted IoU × probability that the segment is there, 0 to 1; of an interpolated slice the lower one of
            its neighbours'.
        interpolated: whether the network did not run on the slice, and the mask lies between its neighbours' (see
            `Speed`).
    """

    segment: str
    slice_index: int
    mask: NDArray[np.bool_]
    score: float
    interpolated: bool = False
