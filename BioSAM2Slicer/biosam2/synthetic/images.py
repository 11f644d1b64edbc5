"""Label maps turned into images: random tissue, then MONAI's and TorchIO's transforms as the scanner."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..extras import import_monai
from .anatomy import Anatomy, Noise

Array = NDArray[np.float32]


def random_image(rng: np.random.Generator, anatomy: Anatomy, labels: NDArray[np.uint8]) -> Array:
    """An image of a label map, as the engine would show it to the network.

    Args:
        rng: source of randomness; the same state gives the same image.
        anatomy: what the labels stand for.
        labels: (frames, rows, columns), 0 outside, i + 1 for shape i.

    Returns:
        float32 (frames, rows, columns) in 0..1.
    """
    image = _tissue(rng, anatomy, labels)
    ultrasound = rng.random() < 0.15
    if ultrasound:
        image = _ultrasound(rng, image)
    image = _scanner(rng, image)
    image = _window(rng, image)
    if ultrasound and rng.random() < 0.6:
        image = image * _sector(rng, image.shape[1:])
    return image.astype(np.float32)


def _tissue(rng: np.random.Generator, anatomy: Anatomy, labels: NDArray[np.uint8]) -> Array:
    """Mean and texture of every label."""
    shapes = anatomy.shapes
    means = np.zeros(len(shapes) + 1, np.float32)  # index 0 is air
    means[0] = rng.choice([0.0, rng.uniform(0, 1)], p=[0.8, 0.2])
    kinds = {kind: float(rng.uniform(0, 1)) for kind in dict.fromkeys(shape.kind for shape in shapes)}
    flat = rng.uniform(0.25, 1.0)  # how far apart tissues are: a native CT of the abdomen is flat
    low = rng.uniform(0, 1 - flat)
    for kind in ("bone", "skin", "fat"):  # often far brighter than what one looks at
        if kind in kinds and rng.random() < 0.25:
            kinds[kind] = rng.uniform(1, 3)
    for index, shape in enumerate(shapes):
        mean = low + flat * kinds[shape.kind] + rng.normal(0, 0.02)
        around = means[shape.parent + 1]
        gap = rng.uniform(0.05, 0.25)
        if abs(mean - around) < gap and shape.kind != "grey":
            mean = around + gap * (1 if mean > around else -1)
        means[index + 1] = mean
    roughness = np.exp(rng.uniform(np.log(0.003), np.log(0.08), len(means))) * rng.choice([0.3, 1.0, 1.0])
    roughness[0] *= 0.2
    frames, rows, columns = labels.shape
    # Texture lives in pixels, whatever the zoom; neighbouring frames may or may not share it.
    depth = float(rng.uniform(1, 20))
    period = float(np.exp(rng.uniform(np.log(40), np.log(350))))
    axes = np.meshgrid(np.arange(frames) * depth, np.arange(rows), np.arange(columns), indexing="ij")
    places = (np.stack(axes) / period).astype(np.float32) + rng.random((3, 1, 1, 1)).astype(np.float32)
    noise = Noise(rng, 1, cutoff=float(rng.uniform(4, 14)), decay=float(rng.uniform(0.7, 2)), period=1.0)
    texture = noise.at(places)[0]
    image = means[labels] + roughness.astype(np.float32)[labels] * texture
    return image.astype(np.float32)


def _ultrasound(rng: np.random.Generator, image: Array) -> Array:
    """Speckle that grows with the echo, fading and shadows with depth."""
    sigma = (0.0, float(rng.uniform(0.5, 1.2)), float(rng.uniform(0.8, 2.5)))
    speckle = rng.rayleigh(0.8, image.shape).astype(np.float32)
    speckle = _monai("GaussianSmooth", sigma=sigma)(speckle[None])[0].numpy()
    strength = rng.uniform(0.3, 1.0)
    image = np.clip(image, 0, None) * (1 - strength + strength * speckle)
    depth = np.linspace(0, 1, image.shape[1], dtype=np.float32)[None, :, None]
    image = image * np.exp(-depth * rng.uniform(-0.3, 1.5))
    return np.log1p(image * rng.uniform(1, 10)).astype(np.float32)


def _sector(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """The fan that a curved probe sees."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    apex = (rng.uniform(-0.6, 0.0) * shape[0], rng.uniform(0.4, 0.6) * shape[1])
    angle = np.arctan2(columns - apex[1], rows - apex[0])
    radius = np.hypot(rows - apex[0], columns - apex[1])
    fan = np.abs(angle) < rng.uniform(0.5, 1.0)
    return (fan & (radius < shape[0] - apex[0]) & (radius > -apex[0] + 0.02 * shape[0])).astype(np.float32)


def _scanner(rng: np.random.Generator, image: Array) -> Array:
    """Bias field, blur, low resolution, noise, ringing, ghosts."""
    seed = int(rng.integers(2**31))
    spread = float(image.max() - image.min()) + 1e-6
    scaled = torch.from_numpy((image - image.min()) / spread)[None]
    # TorchIO draws from torch's global generator.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if rng.random() < 0.08:
            axis = int(rng.integers(1, 3))
            ghost = _torchio("RandomGhosting", num_ghosts=(2, 6), axes=(axis,), intensity=(0.1, 0.5))
            scaled = ghost(scaled)
        if rng.random() < 0.15:
            axis = int(rng.integers(1, 3))
            scaled = _torchio("RandomAnisotropy", axes=(axis,), downsampling=(1.5, 6))(scaled)
    pipeline = _pipeline(image.shape[-1])
    pipeline.set_random_state(seed)
    return np.asarray(pipeline(scaled)[0], dtype=np.float32)


@lru_cache(maxsize=4)
def _pipeline(size: int) -> Any:
    """MONAI's part of the scanner, for frames of a size: a crop that was enlarged to 256 is soft."""
    mt = import_monai("monai.transforms")
    pixel = size / 256
    sharp, soft = (0.2 * pixel, 1.2 * pixel), (1.0 * pixel, 4.0 * pixel)
    return mt.Compose(
        [
            mt.RandBiasField(degree=3, coeff_range=(-0.25, 0.25), prob=0.35),
            mt.OneOf(
                [
                    mt.Identity(),
                    mt.RandGaussianSmooth((0, 0), sharp, sharp, prob=1.0),
                    mt.RandGaussianSmooth((0, 0), soft, soft, prob=1.0),
                ],
                weights=[0.2, 0.4, 0.4],
            ),
            mt.OneOf(
                [
                    mt.RandGaussianNoise(prob=1.0, std=0.08),
                    mt.RandGaussianNoise(prob=1.0, std=0.02),
                    mt.RandRicianNoise(prob=1.0, std=0.06, sample_std=True),
                    mt.Identity(),
                ]
            ),
            mt.RandGaussianSmooth((0, 0), sharp, sharp, prob=0.4),
            mt.RandGibbsNoise(prob=0.06, alpha=(0.3, 0.7)),
            mt.RandAdjustContrast(prob=0.5, gamma=(0.5, 2.0)),
            mt.RandHistogramShift(num_control_points=(4, 8), prob=0.1),
        ]
    )


def _monai(name: str, **settings: Any) -> Any:
    return getattr(import_monai("monai.transforms"), name)(**settings)


def _torchio(name: str, **settings: Any) -> Any:
    import torchio

    return getattr(torchio, name)(**settings)


def _window(rng: np.random.Generator, image: Array) -> Array:
    """0..1 between robust percentiles, or through a narrower window as CT is read."""
    if rng.random() < 0.2:
        low, high = np.percentile(image, [rng.uniform(0, 25), rng.uniform(75, 100)])
    else:
        low, high = np.percentile(image, [rng.uniform(0, 2), rng.uniform(98, 100)])
    image = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    return 1 - image if rng.random() < 0.1 else image
