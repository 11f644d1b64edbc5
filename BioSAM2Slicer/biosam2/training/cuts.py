"""Clips cut from labelled cases: neighbouring slices in either direction, often beyond the target's end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from ..datasets import Case, Sample, open_case
from ..engine.regions import extent_of, region_around
from ..errors import BioSAM2Error, InputError
from ..frames import Frames, Region
from ..synthetic.views import SMALLEST_TARGET
from .augmentation import augment_clip
from .clips import Batch, Clip, draw_frames, finish_clip, stack_clips
from .crops import covered, varied

_ATTEMPTS = 60
_KEPT_BYTES = 2 << 30


@dataclass(frozen=True)
class Cutting:
    """How clips are cut.

    Args:
        size: rows and columns of a frame, S.
        clips: clips in a batch.
        targets: targets in a clip; one comes twice where there are too few.
        lengths: frames in a clip, drawn for every batch; an image has one.
        axes: index axes or anatomical names, drawn for every batch; images and videos have k only.
        window: as `frames.resolve_window` takes it.
        augment: whether clips are varied and cropped at random; otherwise they are as inference sees them.
    """

    size: int
    clips: int = 1
    targets: int = 2
    lengths: tuple[int, ...] = (1,)
    axes: tuple[str, ...] = ("k",)
    window: tuple[float, float] | str | None = None
    augment: bool = True


class CaseBatches(Dataset[Batch | BioSAM2Error]):
    """Batches by place (step, number within the step); the same seed and place give the same batch.

    An error that the user can mend is given as a value: raised in a process that makes data it would arrive as a
    traceback.

    Args:
        cases: to cut from, each as often as any other.
        cutting: how.
        seed: of this set of batches.
    """

    def __init__(self, cases: Sequence[Case], cutting: Cutting, seed: int) -> None:
        if not cases:
            raise InputError("there are no cases to train on")
        self.cases = list(cases)
        self.cutting = cutting
        self.seed = seed
        self._open: OrderedDict[str, _Study] = OrderedDict()

    def __getitem__(self, place: tuple[int, int]) -> Batch | BioSAM2Error:
        try:
            return self.batch(*place)
        except BioSAM2Error as error:
            return error

    def batch(self, step: int, number: int) -> Batch:
        """The batch of a place.

        Raises:
            InputError: a case cannot be opened, or none shows a target that is large enough.
        """
        rng = np.random.default_rng([self.seed, step, number])
        for _ in range(_ATTEMPTS):
            case = self.cases[int(rng.integers(len(self.cases)))]
            study = self._study(case)
            made = _cut(rng, study, self.cutting)
            if made is not None:
                return made
        raise InputError(
            f"no target fills {SMALLEST_TARGET:.2%} of a slice in {_ATTEMPTS} clips from {len(self.cases)} cases; "
            "check the labels and the axis"
        )

    def cut(self, step: int, number: int) -> Clip:
        """The clips of a place; see `batch`."""
        clip = self.batch(step, number).clip
        assert clip is not None  # they are cut from images
        return clip

    def _study(self, case: Case) -> _Study:
        """An opened case; the last ones are kept within a memory budget."""
        if case.name not in self._open:
            self._open[case.name] = _Study(open_case(case), self.cutting)
            while len(self._open) > 1 and sum(study.bytes for study in self._open.values()) > _KEPT_BYTES:
                self._open.popitem(last=False)
        self._open.move_to_end(case.name)
        return self._open[case.name]


class _Study:
    """An opened case, seen along its axes."""

    def __init__(self, sample: Sample, cutting: Cutting) -> None:
        self.case = sample.case
        self.bytes = sample.volume.array.nbytes + sum(mask.nbytes for mask in sample.masks.values())
        axes = cutting.axes if sample.case.kind == "3D" else ("k",)
        self.views = [_View(sample, axis, cutting) for axis in axes]


class _View:
    """A case as frames along an axis: masks (F, rows, columns) of each target, and their voxels on each slice."""

    def __init__(self, sample: Sample, axis: str, cutting: Cutting) -> None:
        self.frames = Frames(sample.volume, axis, cutting.window, cutting.size)
        self.masks = {name: self.frames.unstack(mask) for name, mask in sample.masks.items() if mask.any()}
        self.voxels = {name: np.count_nonzero(mask, axis=(1, 2)) for name, mask in self.masks.items()}


def _cut(rng: np.random.Generator, study: _Study, cutting: Cutting) -> Batch | None:
    """A batch of clips of one case, None where chance chose a target that is hardly in view."""
    view = study.views[int(rng.integers(len(study.views)))]
    if not view.masks:
        return None
    length, prompted = draw_frames(rng, cutting.lengths, view.frames.count)
    clips, titles = [], []
    for _ in range(cutting.clips):
        chosen = _choose(rng, view, length, prompted)
        if chosen is None:
            return None
        target, slices = chosen
        clip = _clip(rng, view, target, slices, prompted, cutting)
        if clip is None:
            return None
        clips.append(clip)
        titles.append(f"{target} on slices {slices[0]} to {slices[-1]}")
    return Batch(stack_clips(clips), f"{study.case.name}, axis {view.frames.axis}: {'; '.join(titles)}")


def _choose(rng: np.random.Generator, view: _View, length: int, prompted: int) -> tuple[str, list[int]] | None:
    """A target and the slices of a clip, in order of propagation; often they go on where the target has ended."""
    target = str(rng.choice(list(view.masks)))
    step = int(rng.choice([-1, 1]))
    present = np.flatnonzero(view.voxels[target])
    start = int(rng.choice(present))
    if rng.random() < 0.4:
        end = int(present[-1] if step > 0 else present[0])
        near = present[np.abs(present - end) < length]
        start = int(rng.choice(near))
    # Where the volume ends too soon in this direction the clip begins earlier, so that all have the same length.
    before, after = prompted, length - 1 - prompted
    low, high = (before, after) if step > 0 else (after, before)
    if start - low < 0 or start + high >= view.frames.count:
        return None
    return target, [start + step * (n - prompted) for n in range(length)]


def _clip(
    rng: np.random.Generator, view: _View, target: str, slices: list[int], prompted: int, cutting: Cutting
) -> Clip | None:
    region = _region(rng, view, target, slices[prompted], cutting.augment)
    others = [name for name, voxels in view.voxels.items() if name != target and voxels[slices[prompted]]]
    rng.shuffle(others)
    image = torch.stack([view.frames.picture(s, region) for s in slices], dim=1)  # (C, F, S, S)
    here = (slices, *region.slices)
    masks = torch.stack([covered(view.masks[name][here], cutting.size) for name in [target, *others]])
    if cutting.augment:
        changed, moved = augment_clip(rng, image, masks)
        if moved[0, prompted].any():  # a rotation may turn a target at the border out of the frame
            image, masks = changed, moved
    seen = [mask.numpy() for mask in masks if float(mask[prompted].float().mean()) >= SMALLEST_TARGET]
    if not seen or float(masks[0, prompted].float().mean()) < SMALLEST_TARGET:
        return None
    kept = [seen[n % min(len(seen), cutting.targets)] for n in range(cutting.targets)]
    pixels = image[0] if len(image) == 1 else image.transpose(0, 1)
    return finish_clip(rng, pixels.numpy(), kept, prompted)


def _region(rng: np.random.Generator, view: _View, target: str, prompted: int, vary: bool) -> Region:
    """What the network looks at: the whole frame, or as often the crop that inference would take, a little off."""
    frames = view.frames
    extent = extent_of(view.masks[target][prompted])
    if extent is None or rng.random() < 0.5:
        return frames.whole
    around = region_around(extent, frames)
    if not vary or around == frames.whole:
        return around
    return varied(rng, around, frames, float(np.exp(rng.uniform(-0.3, 0.4))), off=0.1)
