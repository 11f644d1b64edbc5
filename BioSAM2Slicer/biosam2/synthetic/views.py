"""Frames cut out of random anatomies at random zooms, with targets that a user could mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .anatomy import Anatomy, Grid, random_anatomy, random_rotation
from .images import random_image

SMALLEST_TARGET = 24 / 256**2  # of the prompted frame
LARGEST_TARGET = 0.6  # of the frame


def random_frames(
    rng: np.random.Generator, frames: int, targets: int, prompted: int, size: int
) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]]:
    """Neighbouring frames of one random anatomy, cut so that at least one target is in view on the prompted frame.

    Args:
        rng: source of randomness.
        frames: number of frames, F.
        targets: number of targets; one may come twice where there are too few.
        prompted: index of the frame that all targets are visible on.
        size: rows and columns of a frame, S.

    Returns:
        The image, float32 (F, S, S) in 0..1, and a mask, bool (F, S, S), for each target.
    """
    while True:
        anatomy = random_anatomy(rng)
        wanted = [i for i, shape in enumerate(anatomy.shapes) if shape.target]
        for _ in range(3):
            target = int(rng.choice(wanted))
            grid = _random_view(rng, anatomy, target, frames, prompted, size)
            labels = anatomy.sample(grid)
            if np.mean(labels[prompted] == target + 1) < SMALLEST_TARGET:
                continue
            image = random_image(rng, anatomy, labels)
            masks = _choose_targets(rng, anatomy, labels, image, target, targets, prompted)
            if masks is not None:
                return image, masks


def _random_view(
    rng: np.random.Generator, anatomy: Anatomy, target: int, frames: int, prompted: int, size: int
) -> Grid:
    """A stack of parallel planes through a target, at a random zoom and slice distance."""
    shape = anatomy.shapes[target]
    if rng.random() < 0.6:
        axes = np.eye(3, dtype=np.float32)[rng.permutation(3)]
        axes = axes @ _small_rotation(rng, 0.15)
    else:
        axes = random_rotation(rng)
    axes = axes * rng.choice([-1, 1], 3)[:, None]
    # Half the extent of the target along the normal and in the plane.
    lengths = np.sqrt(np.square((axes @ shape.rotation.T) * shape.radii).sum(axis=1))
    if shape.tube:
        lengths = np.minimum(lengths, shape.radii[:2].max() * rng.uniform(1, 4))
    across = max(float(np.sqrt(lengths[1] * lengths[2])), 0.01)
    share = np.exp(rng.uniform(np.log(0.08), np.log(0.85)))
    field = float(np.clip(2 * across / share, 0.08, 2.8))
    slices = np.exp(rng.uniform(np.log(2), np.log(20)))
    distance = 2 * lengths[0] / slices
    aspect = np.exp(rng.normal(0, 0.15))
    column = axes[2] * field / size * aspect
    row = axes[1] * field / size / aspect
    step = axes[0] * distance + (row * rng.normal(0, 0.5) + column * rng.normal(0, 0.5))
    middle = shape.centre + axes[0] * lengths[0] * rng.uniform(-0.7, 0.7)
    slack = max(field / 2 - across, 0.1 * field) * 0.9
    middle = middle + (axes[1] * rng.uniform(-1, 1) + axes[2] * rng.uniform(-1, 1)) * slack
    origin = middle - prompted * step - (row + column) * (size - 1) / 2
    origin, step, row, column = (a.astype(np.float32) for a in (origin, step, row, column))
    return Grid(origin, step, row, column, (frames, size, size))


def _small_rotation(rng: np.random.Generator, most: float) -> NDArray[np.float32]:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(rng.uniform(-most, most, 3)).as_matrix().astype(np.float32)


def _choose_targets(
    rng: np.random.Generator,
    anatomy: Anatomy,
    labels: NDArray[np.uint8],
    image: NDArray[np.float32],
    first: int,
    count: int,
    prompted: int,
) -> list[NDArray[np.bool_]] | None:
    """Masks (frames, rows, columns) of targets that a user could mean, the wanted one first; None if that is none."""
    present = np.unique(labels[prompted])
    others = [i for i, shape in enumerate(anatomy.shapes) if shape.target and i != first and i + 1 in present]
    rng.shuffle(others)
    masks: list[NDArray[np.bool_]] = []
    for index in [first, *others]:
        members = anatomy.descendants(index) if rng.random() < 0.88 else [index]
        table = np.zeros(256, bool)
        table[np.array(members) + 1] = True
        mask = table[labels]
        if plausible(mask[prompted], image[prompted]):
            masks.append(mask)
        elif index == first:
            return None
        if len(masks) == count:
            break
    return [masks[i % len(masks)] for i in range(count)]


def plausible(mask: NDArray[np.bool_], image: NDArray[np.float32]) -> bool:
    """Whether a target is of a reasonable size, mostly in one piece, and differs from what is around it."""
    if not SMALLEST_TARGET <= mask.mean() <= LARGEST_TARGET:
        return False
    coarse = mask[::2, ::2]
    pieces, number = ndimage.label(coarse)
    if number > 1 and np.bincount(pieces.ravel())[1:].max() < 0.75 * np.count_nonzero(coarse):
        return False
    edge = image[::2, ::2]
    ring = ndimage.binary_dilation(coarse, iterations=3) & ~coarse
    rim = coarse & ~ndimage.binary_erosion(coarse, iterations=3)
    if not ring.any() or not rim.any():
        return False
    contrast = abs(float(np.median(edge[ring])) - float(np.median(edge[rim])))
    return contrast > 0.05
