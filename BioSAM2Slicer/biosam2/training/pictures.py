"""Pictures of clips with the truth and the answer outlined, for TensorBoard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .clips import Clip
from .rounds import Answers

_TRUTH = (60, 220, 90)
_ANSWER = (240, 70, 60)


def clip_picture(clip: Clip, answers: Answers) -> NDArray[np.uint8]:
    """The first clip's answered frames side by side: the first target outlined in green, its answer in red.

    Returns:
        uint8 (3, S, S times the answered frames).
    """
    tiles = []
    for frame in sorted(answers.masks):
        image = clip.images[0, frame].cpu().numpy()
        tile = np.broadcast_to(image, (3, *image.shape[-2:])).copy()
        for mask, colour in (
            (clip.masks[0, 0, frame].float() > 0.5, _TRUTH),
            (answers.masks[frame][0].float() > 0, _ANSWER),
        ):
            tile[:, _outline(mask)] = np.array(colour, np.uint8)[:, None]
        tiles.append(tile)
    return np.concatenate(tiles, axis=2)


def _outline(mask: Tensor) -> NDArray[np.bool_]:
    """The border of a mask of (S/4, S/4), one pixel wide, at (S, S)."""
    inside = np.kron(mask.cpu().numpy(), np.ones((4, 4), bool))
    return inside & ~ndimage.binary_erosion(inside, border_value=1)
