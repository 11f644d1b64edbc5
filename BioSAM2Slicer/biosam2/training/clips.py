"""Synthetic clips: a few neighbouring slices, the targets in them, and the prompts that start them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..synthetic.views import random_frames
from .simulation import simulate_box, simulate_points

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
    """A clip of one random anatomy; see `synthetic.views.random_frames` for the arguments."""
    return finish_clip(rng, *random_frames(rng, frames, targets, prompted, size), prompted)


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
