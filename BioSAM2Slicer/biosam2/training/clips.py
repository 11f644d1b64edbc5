"""Synthetic clips: a few neighbouring slices, the targets in them, and the prompts that start them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import Dataset

from .labels import Anatomy, Grid, random_anatomy, random_rotation
from .simulation import simulate_box, simulate_points
from .synthesis import random_image

SMALLEST_TARGET = 24 / 256**2  # of the prompted frame
LARGEST_TARGET = 0.6  # of the frame
POINTS = 4  # simulated clicks per target


@dataclass
class Clip:
    """Neighbouring slices with targets. F frames of S×S pixels, O targets; a batch adds a leading axis to each.

    Args:
        images: uint8 (F, S, S), 0..255; colour has (F, 3, S, S).
        masks: float16 (O, F, S/4, S/4), fraction of each cell that the target covers.
        areas: float32 (O, F), the target's share of the frame.
        prompted: index of the frame that the prompts lie on.
        prompt_masks: bool (O, S, S), the targets on the prompted frame.
        points: float32 (O, P, 2), clicks inside the target, x then y.
        boxes: float32 (O, 4), x0 y0 x1 y1, as a hand would draw them.
    """

    images: torch.Tensor
    masks: torch.Tensor
    areas: torch.Tensor
    prompted: int
    prompt_masks: torch.Tensor
    points: torch.Tensor
    boxes: torch.Tensor


class ClipBatches(Dataset[Clip]):
    """Batches of synthetic clips by index; the same seed and index give the same batch.

    Args:
        seed: of this set of batches.
        clips: clips in a batch, where they have the least number of frames; of longer ones there are fewer.
        targets: targets in a clip.
        choices: numbers of frames in a clip, drawn for every batch.
        size: rows and columns of a frame.
        length: number of batches, for samplers that ask.
    """

    def __init__(
        self, seed: int, clips: int, targets: int, choices: tuple[int, ...] = (1,), size: int = 256, length: int = 10**9
    ) -> None:
        self.seed = seed
        self.clips = clips
        self.targets = targets
        self.choices = choices
        self.size = size
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Clip:
        rng = np.random.default_rng([self.seed, index])
        frames = int(rng.choice(self.choices))
        prompted = int(rng.integers(frames)) if rng.random() < 0.5 else 0
        number = clips_of(frames, self.clips, self.choices)
        return stack_clips([random_clip(rng, frames, self.targets, prompted, self.size) for _ in range(number)])


def clips_of(frames: int, clips: int, choices: Sequence[int]) -> int:
    """How many clips of a length make a batch, where there are `clips` of the shortest."""
    return max(1, clips * min(choices) // frames)


def stack_clips(clips: Sequence[Clip]) -> Clip:
    """A batch of clips of one length, all prompted on the same frame."""
    names = ("images", "masks", "areas", "prompt_masks", "points", "boxes")
    stacked = {name: torch.stack([getattr(clip, name) for clip in clips]) for name in names}
    return Clip(**stacked, prompted=clips[0].prompted)


def random_clip(rng: np.random.Generator, frames: int, targets: int, prompted: int, size: int = 256) -> Clip:
    """A clip of one random anatomy, cut so that at least one target is in view on the prompted frame.

    Args:
        rng: source of randomness.
        frames: number of frames.
        targets: number of targets; one may come twice where there are too few.
        prompted: index of the frame that all targets are visible on.
        size: rows and columns of a frame, a multiple of 4.
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
                return finish_clip(rng, image, masks, prompted)


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


def finish_clip(
    rng: np.random.Generator, image: NDArray[np.float32], masks: Sequence[NDArray[np.bool_]], prompted: int
) -> Clip:
    """A clip of an image and its targets, with simulated clicks and boxes.

    Args:
        rng: source of randomness.
        image: (frames, rows, columns) or (frames, 3, rows, columns), 0..1.
        masks: bool (frames, rows, columns) of each target, not empty on the prompted frame.
        prompted: index of the frame that the prompts lie on.
    """
    stack = np.stack(masks)
    coarse = torch.nn.functional.avg_pool2d(torch.from_numpy(stack).float(), 4)
    return Clip(
        images=torch.from_numpy(np.round(image * 255).astype(np.uint8)),
        masks=coarse.half(),
        areas=torch.from_numpy(stack.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)),
        prompted=prompted,
        prompt_masks=torch.from_numpy(stack[:, prompted]),
        points=torch.from_numpy(np.stack([simulate_points(rng, mask[prompted], POINTS) for mask in masks])),
        boxes=torch.from_numpy(np.stack([simulate_box(rng, mask[prompted]) for mask in masks])),
    )
