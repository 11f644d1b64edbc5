"""Clips: a few neighbouring slices, the targets in them, and the prompts that start them; and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from ..errors import BioSAM2Error
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


@dataclass
class Batch:
    """What a device holds at once.

    Attributes:
        clip: a batch of clips of one length; None for prompts without images.
        title: where it comes from, for people.
    """

    clip: Clip | None
    title: str


class ClipSource(Protocol):
    """Makes clips."""

    def clips(self, rng: np.random.Generator, frames: int, prompted: int, number: int) -> tuple[list[Clip], str]:
        """Clips of one length, all prompted on the same frame; and where they come from, for people.

        Args:
            rng: source of randomness; the same state gives the same clips.
            frames: frames in a clip.
            prompted: index of the prompted frame.
            number: of clips.

        Raises:
            InputError: a case cannot be read.
        """


@dataclass(frozen=True)
class GeneratedClips:
    """Clips of random anatomies.

    Args:
        targets: targets in a clip.
        size: rows and columns of a frame, S.
    """

    targets: int
    size: int

    def clips(self, rng: np.random.Generator, frames: int, prompted: int, number: int) -> tuple[list[Clip], str]:
        """See `ClipSource`."""
        made = [
            finish_clip(rng, *random_frames(rng, frames, self.targets, prompted, self.size), prompted)
            for _ in range(number)
        ]
        return made, f"{number} generated clips of {frames} frames"


class ClipBatches(Dataset[Batch | BioSAM2Error]):
    """Batches by place (step, number within the step); the same seed and place give the same batch.

    An error that the user can mend is given as a value: raised in a process that makes data it would arrive as a
    traceback.

    Args:
        seed: of this set of batches.
        clips: clips in a batch, where they have the least number of frames; of longer ones there are fewer.
        lengths: numbers of frames in a clip, drawn for every batch; none for prompts without images.
        source: of the clips.
        other: another source, that a share of the batches comes from.
        share: how large it is.
    """

    def __init__(
        self,
        seed: int,
        clips: int,
        lengths: Sequence[int],
        source: ClipSource,
        other: ClipSource | None = None,
        share: float = 0.0,
    ) -> None:
        self._seed, self._clips, self._lengths = seed, clips, tuple(lengths)
        self._source, self._other, self._share = source, other, share

    def __getitem__(self, place: tuple[int, int]) -> Batch | BioSAM2Error:
        if not self._lengths:
            return Batch(None, "prompts without images")
        step, number = place
        key = (step, number) if number else (step,)
        source = self._source
        if self._other is not None and np.random.default_rng([self._seed, 2, *key]).random() < self._share:
            source = self._other
        rng = np.random.default_rng([self._seed, *key])
        frames, prompted = draw_frames(rng, self._lengths)
        count = max(1, self._clips * min(self._lengths) // frames)
        try:
            made, title = source.clips(rng, frames, prompted, count)
        except BioSAM2Error as error:
            return error
        return Batch(stack_clips(made), title)

    def clip(self, index: int) -> Clip:
        """The clips of one place.

        Raises:
            InputError: a case cannot be read.
        """
        batch = self[index, 0]
        if isinstance(batch, BioSAM2Error):
            raise batch
        assert batch.clip is not None  # there are lengths
        return batch.clip


class SamplerIndices(Sampler[tuple[int, int]]):
    """Sampler indices of the steps from one to another, those that one of several processes works on.

    Args:
        first: step.
        last: step, exclusive.
        number: of batches in a step, over all processes.
        process: index of this one.
        processes: how many there are.
    """

    def __init__(self, first: int, last: int, number: int, process: int = 0, processes: int = 1) -> None:
        self._steps = range(first, last)
        self._numbers = range(process, number, processes)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((step, number) for step in self._steps for number in self._numbers)

    def __len__(self) -> int:
        return len(self._steps) * len(self._numbers)


def draw_frames(rng: np.random.Generator, lengths: Sequence[int], most: int | None = None) -> tuple[int, int]:
    """How many frames a clip has, and which one is prompted: half the time the first, otherwise any.

    Args:
        rng: source of randomness.
        lengths: numbers of frames to choose from.
        most: frames that there are.
    """
    frames = int(rng.choice(lengths))
    if most is not None:
        frames = min(frames, most)
    return frames, int(rng.integers(frames)) if rng.random() < 0.5 else 0


def stack_clips(clips: Sequence[Clip]) -> Clip:
    """A batch of clips of one length, all prompted on the same frame."""
    names = ("images", "masks", "areas", "prompt_masks", "points", "boxes")
    stacked = {name: torch.stack([getattr(clip, name) for clip in clips]) for name in names}
    return Clip(**stacked, prompted=clips[0].prompted)


def to_device(clip: Clip, device: torch.device) -> Clip:
    """The same clip on a device."""
    moved: dict[str, Any] = {
        f.name: value.to(device) for f in fields(clip) if isinstance(value := getattr(clip, f.name), torch.Tensor)
    }
    return replace(clip, **moved)


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
