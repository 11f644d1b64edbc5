"""How well two masks agree."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import distance

from ..extras import import_monai


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape, 0 to 1; 1 where both are empty.

    Args:
        a: bool, of any shape.
        b: bool, of the same shape.
    """
    return 1 - float(distance.jaccard(a.ravel(), b.ravel())) if a.any() or b.any() else 1.0


def surface_agreement(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: Sequence[float], tolerance: float
) -> tuple[float, float | None]:
    """How near the surfaces of two masks lie, by MONAI.

    Args:
        a: bool (K, J, I); with K = 1 outlines are compared within the slice.
        b: the other mask, of the same shape.
        spacing: along i, j, k, in mm.
        tolerance: how far apart surfaces may lie and still agree, in mm.

    Returns:
        Normalised surface Dice, 0 to 1, weighted by the area of the surfaces' parts; and the 95th percentile of the
        distances from either surface to the other, in mm (the larger of the two), None where one mask is empty. Two
        empty masks agree.
    """
    if not a.any() and not b.any():
        return 1.0, 0.0
    if not a.any() or not b.any():
        return 0.0, None
    import torch

    metrics = import_monai("monai.metrics")

    (around,) = ndimage.find_objects((a | b).astype(np.uint8))
    steps = list(spacing[::-1])
    if a.shape[0] == 1:
        a, b, around, steps = a[0], b[0], around[1:], steps[1:]
    # A border of background, so that surfaces are closed where the masks reach the volume's.
    one, two = (torch.from_numpy(np.pad(mask[around], 1))[None, None].float() for mask in (a, b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of MONAI, about its own calls
        nsd = metrics.compute_surface_dice(
            one, two, class_thresholds=[tolerance], include_background=True, spacing=steps, use_subvoxels=True
        )
        hd95 = metrics.compute_hausdorff_distance(one, two, include_background=True, percentile=95, spacing=steps)
    return float(nsd), float(hd95)
