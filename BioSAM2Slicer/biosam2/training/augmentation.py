"""Labelled clips made different: turned and mirrored with their labels, and seen by another scanner."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..extras import import_monai


def augment_clip(rng: np.random.Generator, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """A variation of a clip, all of its frames alike.

    Args:
        rng: source of randomness; the same state gives the same variation.
        image: float32 (C, F, S, S), 0..1, one colour or three.
        masks: bool (O, F, S, S).

    Returns:
        Image and masks of the same shapes and types.
    """
    spatial, scanner = _spatial(), _scanner(image.shape[-1])
    seed = int(rng.integers(2**31))
    spatial.set_random_state(seed)
    moved = spatial({"image": image, "masks": masks.float()})
    image, masks = torch.as_tensor(moved["image"]), torch.as_tensor(moved["masks"]) > 0.5
    # TorchIO draws from torch's global generator.
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        image = _artefact(rng, image)
    scanner.set_random_state(seed)
    image = torch.as_tensor(scanner(image))
    return _window(rng, image).contiguous(), masks


@lru_cache(maxsize=1)
def _spatial() -> Any:
    """MONAI's rotation within the slice, scaling and mirroring; the slice's axis is not touched."""
    mt = import_monai("monai.transforms")
    both = ("image", "masks")
    return mt.Compose(
        [
            mt.RandAffined(
                both,
                prob=0.5,
                rotate_range=(0.26, 0.0, 0.0),
                scale_range=(0.0, 0.12, 0.12),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            mt.RandFlipd(both, prob=0.3, spatial_axis=1),
            mt.RandFlipd(both, prob=0.3, spatial_axis=2),
        ]
    )


@lru_cache(maxsize=4)
def _scanner(size: int) -> Any:
    """MONAI's bias field, blur, noise, ringing and contrast, milder than what `nano`'s label maps get."""
    mt = import_monai("monai.transforms")
    pixel = size / 256
    sigma = (0.2 * pixel, 1.2 * pixel)
    return mt.Compose(
        [
            mt.RandBiasField(degree=3, coeff_range=(-0.15, 0.15), prob=0.3),
            mt.RandGaussianSmooth((0, 0), sigma, sigma, prob=0.25),
            mt.RandGaussianNoise(prob=0.3, std=0.04, sample_std=True),
            mt.RandGibbsNoise(prob=0.05, alpha=(0.2, 0.5)),
            mt.RandAdjustContrast(prob=0.5, gamma=(0.65, 1.6)),
        ]
    )


def _artefact(rng: np.random.Generator, image: Tensor) -> Tensor:
    """TorchIO's ghosts, and a matrix that is coarser one way, rarely."""
    import torchio

    axis = int(rng.integers(1, 3))
    choice = rng.random()
    if choice < 0.05:
        return torchio.RandomGhosting(num_ghosts=(2, 5), axes=(axis,), intensity=(0.1, 0.35))(image)
    if choice < 0.15:
        return torchio.RandomAnisotropy(axes=(axis,), downsampling=(1.5, 4))(image)
    return image


def _window(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Another window than the one that was asked for, a little off and narrower or wider."""
    centre = 0.5 + rng.uniform(-0.08, 0.08)
    width = rng.uniform(0.75, 1.2)
    return ((image - centre) / width + 0.5).clamp(0, 1)
