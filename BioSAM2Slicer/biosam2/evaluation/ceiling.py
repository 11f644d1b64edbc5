"""The best that any network could do at its resolution: masks come out of SAM 2 at a quarter of its input size."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from ..engine.regions import extent_of, follow, region_around
from ..frames import Frames, Region
from ..masks import dice
from .cases import TargetCase
from .user import middle_slice

_STRIDE = 4


def ceiling(case: TargetCase, image_size: int, axis: str = "k", crop: Literal["auto"] | None = None) -> float:
    """Dice of the true mask squeezed to a network's logits and brought back, as the engine does it.

    Args:
        case: the target.
        image_size: side S of the network's input; its logits are S/4 × S/4.
        axis: along which slices are taken.
        crop: as in `Session`: None for whole frames, ``"auto"`` for crops that follow the true mask.
    """
    frames = Frames(case.volume, axis, None, image_size)
    target = frames.unstack(case.mask)
    reached = np.zeros_like(target)
    start = middle_slice(target)
    for slices in (range(start, frames.count), range(start, -1, -1)):
        extent = extent_of(target[start])
        assert extent is not None
        region = region_around(extent, frames) if crop else frames.whole
        for s in slices:
            if crop:
                region = follow(region, target[s], frames)
            reached[s] = squeezed(target[s], region, image_size)
    return dice(reached, target)


def squeezed(mask: NDArray[np.bool_], region: Region, image_size: int) -> NDArray[np.bool_]:
    """What is left of a mask (rows, columns) seen through a region at S/4 × S/4: area average, bilinear, threshold."""
    part = torch.from_numpy(mask[region.slices].astype(np.float32))[None, None]
    low = interpolate(part, size=(image_size // _STRIDE,) * 2, mode="area")
    back = interpolate(low, size=part.shape[-2:], mode="bilinear", align_corners=False)
    result = np.zeros_like(mask)
    result[region.slices] = back[0, 0].numpy() > 0.5
    return result
