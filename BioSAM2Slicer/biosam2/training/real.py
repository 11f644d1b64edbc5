"""Clips from real images of many sources: volumes and videos as they are, single images set in motion.

A single image has no neighbours to propagate to. It gets them by a motion: the frames are the image drifting and
bending, and around a target the image is drawn together until the target is gone, as a round object ends from slice to
slice. Borders and textures stay real.

Besides labelled targets, regions that a classical tool finds in the image (Felzenszwalb and Huttenlocher 2004) are
targets too: a promptable network is to hold on to edges, whatever they belong to.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from ..datasets import Case, open_case
from ..engine.regions import Extent, region_around
from ..frames import Frames, Region
from .augmentation import augment_clip
from .clips import Clip, ClipBatches, finish_clip, to_device
from .collection import source_of
from .crops import covered, varied
from .rounds import PromptSimulation

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_VALIDATION_SEED = 7_000_000
_KEPT_BYTES = 1 << 30
_ATTEMPTS = 8
_FEWEST_PIXELS = 40  # of a target, in the image itself
_MOSTLY = 0.8  # of a target in its largest piece: it counts as one
_SMALLEST, _LARGEST = 0.001, 0.9  # of a frame that a target fills
_ROOM = 1.15  # radius within which an image is drawn together, in units of the target's
_GONE = 0.12  # a target that has shrunk to less of its size is not there


@dataclass
class _Study:
    """An opened case along one axis.

    Attributes:
        frames: the image.
        labels: uint8 (F, rows, columns): 0, or 1 + the number of a target.
        places: for each target, the frames on which it is large enough, ascending.
    """

    frames: Frames
    labels: NDArray[np.uint8]
    places: dict[int, NDArray[np.intp]]

    @property
    def nbytes(self) -> int:
        return self.frames.volume.array.nbytes + self.labels.nbytes


class RealClips:
    """Clips from real cases, each from a case of its own.

    Sources are drawn in proportion to the square root of their number of cases, so that the large ones do not drown
    the others.

    Args:
        cases: of a collection (see `collection`).
        targets: targets in a clip; one may come twice where there are too few.
        size: rows and columns of a frame, S.
        regions: share of the clips of single images whose targets are regions of a classical tool.
        augment: whether clips are varied.
    """

    def __init__(
        self, cases: Sequence[Case], targets: int, size: int, regions: float = 0.25, augment: bool = True
    ) -> None:
        self.targets = targets
        self.size = size
        self.regions = regions
        self.augment = augment
        self._sources: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            self._sources[source_of(case)].append(case)
        weights = np.sqrt([len(of) for of in self._sources.values()])
        self._weights = weights / weights.sum()
        self._open: OrderedDict[tuple[str, str], _Study] = OrderedDict()

    def clips(self, rng: np.random.Generator, frames: int, prompted: int, number: int) -> tuple[list[Clip], str]:
        """See `clips.ClipSource`."""
        clips: list[Clip] = []
        names: list[str] = []
        while len(clips) < number:
            source = list(self._sources.values())[int(rng.choice(len(self._weights), p=self._weights))]
            case = source[int(rng.integers(len(source)))]
            made = self._clip(rng, case, frames, prompted)
            if made is not None:
                clips.append(made)
                names.append(case.name)
        if any(clip.images.ndim == 4 for clip in clips):
            for clip in clips:
                if clip.images.ndim == 3:
                    clip.images = clip.images[:, None].expand(-1, 3, -1, -1)
        return clips, f"{frames} frames each of {', '.join(names)}"

    def _clip(self, rng: np.random.Generator, case: Case, frames: int, prompted: int) -> Clip | None:
        axis = str(rng.choice(["k", "j", "i"], p=[0.6, 0.2, 0.2])) if case.kind == "3D" else "k"
        study = self._study(case, axis)
        for _ in range(_ATTEMPTS):
            if study.frames.count >= frames > 1:
                made = self._neighbours(rng, study, frames, prompted)
            else:
                made = self._moving(rng, study, frames, prompted)
            if made is not None:
                return finish_clip(rng, *made, prompted)
        return None

    def _study(self, case: Case, axis: str) -> _Study:
        key = (case.name, axis)
        if key not in self._open:
            self._open[key] = _opened(case, axis, self.size)
            while len(self._open) > 1 and sum(study.nbytes for study in self._open.values()) > _KEPT_BYTES:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]

    # Volumes and videos ----------------------------------------------------------------------------------------------

    def _neighbours(
        self, rng: np.random.Generator, study: _Study, frames: int, prompted: int
    ) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]] | None:
        """Neighbouring slices, often such as go on beyond the target's end."""
        if not study.places:
            return None
        target = int(rng.choice(list(study.places)))
        places = study.places[target]
        step = int(rng.choice([-1, 1]))
        start = int(rng.choice(places))
        if rng.random() < 0.5:
            end = int(places[-1] if step > 0 else places[0])
            start = int(rng.choice(places[np.abs(places - end) < frames]))
        slices = [start + step * (n - prompted) for n in range(frames)]
        if min(slices) < 0 or max(slices) >= study.frames.count:
            return None
        region = _region(rng, study.labels[start] == target, study.frames, self.augment)
        image = torch.stack([study.frames.picture(s, region) for s in slices], dim=1)
        here = study.labels[(slice(None), *region.slices)][slices]
        present = [int(t) for t in np.unique(here[prompted]) if t and t != target]
        rng.shuffle(present)
        masks = torch.stack([covered(here == t, self.size) for t in [target, *present[: self.targets]]])
        return self._finished(rng, image, masks, prompted)

    # Single images ---------------------------------------------------------------------------------------------------

    def _moving(
        self, rng: np.random.Generator, study: _Study, frames: int, prompted: int
    ) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]] | None:
        """One image, set in motion where more than one frame is wanted."""
        if not study.places:
            return None
        target = int(rng.choice(list(study.places)))
        index = int(rng.choice(study.places[target]))
        region = _region(rng, study.labels[index] == target, study.frames, self.augment)
        image = study.frames.picture(index, region)
        here = study.labels[index][region.slices]
        if rng.random() < self.regions:
            masks = _regions(rng, image)
            masks = masks[torch.from_numpy(rng.permutation(len(masks)))][: self.targets]
        else:
            present = [int(t) for t in np.unique(here) if t and t != target]
            rng.shuffle(present)
            masks = torch.stack([covered((here == t)[None], self.size)[0] for t in [target, *present[: self.targets]]])
        if not len(masks) or not masks[0].any():
            return None
        stack, moved = image[:, None], masks[:, None]
        if frames > 1:
            stack, moved = set_in_motion(rng, image, masks, frames, prompted)
        return self._finished(rng, stack, moved, prompted)

    def _finished(
        self, rng: np.random.Generator, image: Tensor, masks: Tensor, prompted: int
    ) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]] | None:
        """A variation, and the targets that are of a usable size on the prompted frame; None if the first is not."""
        if self.augment:
            image = _recoloured(rng, image)
            image, masks = augment_clip(rng, image, masks)
            if rng.random() < 0.5:
                image, masks = image.transpose(-1, -2).contiguous(), masks.transpose(-1, -2).contiguous()
        sizes = masks[:, prompted].float().mean(dim=(1, 2))
        usable = [m.numpy() for m, s in zip(masks, sizes, strict=True) if _SMALLEST <= s <= _LARGEST]
        if not usable or not _SMALLEST <= float(sizes[0]) <= _LARGEST:
            return None
        pixels = image[0] if len(image) == 1 else image.transpose(0, 1)
        kept = [usable[n % len(usable)] for n in range(self.targets)]
        return pixels.numpy(), kept


@torch.no_grad()
def validate_real(
    network: SAM2Base, cases: Sequence[Case], images: int = 8, volumes: int = 6
) -> dict[str, dict[str, Any]]:
    """Mean Dice on cases as inference sees them, by source and over all sources of a split.

    Single slices get a click or a box and two corrections each; clips of volumes get a box, a mask, and prompts on
    several frames.

    Args:
        network: in evaluation mode; its own frame size is used.
        cases: of a collection.
        images: slices of each source.
        volumes: clips of each source of volumes.

    Returns:
        ``split`` and ``split source`` → kind of answer → mean Dice.
    """
    device = network.no_mem_embed.device
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[f"{case.split} {source_of(case)}"].append(case)
    found: dict[str, dict[str, float]] = {}
    for group, members in sorted(groups.items()):
        dice: dict[str, list[float]] = defaultdict(list)
        frames = ClipBatches(_VALIDATION_SEED, 1, (1,), RealClips(members, 1, network.image_size, 0.0, augment=False))
        for index in range(images):
            one = PromptSimulation(
                network, to_device(frames.clip(index), device), np.random.default_rng([_VALIDATION_SEED, index])
            )
            answers = [one.answer_frame(kind, corrections=2, feed_back=False) for kind in ("click", "box")]
            for answer in answers:
                for name, values in answer.dice.items():
                    dice[name].extend(values)
        solid = [case for case in members if case.kind != "2D"]
        clips = ClipBatches(_VALIDATION_SEED, 1, (10,), RealClips(solid, 1, network.image_size, 0.0, augment=False))
        for index in range(volumes if solid else 0):
            clip = to_device(clips.clip(index), device)
            for kind in ("box", "mask"):
                one = PromptSimulation(network, clip, np.random.default_rng([_VALIDATION_SEED, index]))
                for answer in (one.answer_clip(kind, correct=False), one.answer_several(kind, 2, swept_before=True)):
                    for name, values in answer.dice.items():
                        dice[name].extend(values)
        found[group] = {name: round(float(np.mean(values)), 4) for name, values in sorted(dice.items()) if values}
    for split in sorted({case.split for case in cases}):
        of = [means for group, means in found.items() if group.startswith(f"{split} ")]
        names = sorted({name for means in of for name in means})
        found[split] = {
            name: round(float(np.mean([means[name] for means in of if name in means])), 4) for name in names
        }
    return found


def set_in_motion(
    rng: np.random.Generator, image: Tensor, masks: Tensor, frames: int, prompted: int
) -> tuple[Tensor, Tensor]:
    """An image and its targets as a clip, in which things drift, bend, and end.

    Args:
        rng: source of randomness.
        image: float32 (C, S, S).
        masks: bool (O, S, S); the image is drawn together around the first.
        frames: number of frames, F.
        prompted: index of the frame that stays as it is.

    Returns:
        float32 (C, F, S, S), bool (O, F, S, S).
    """
    size = image.shape[-1]
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    base = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).flip(-1)  # (S, S, 2), x then y
    rows, columns = torch.nonzero(masks[0], as_tuple=True)
    centre = torch.stack([line[columns].mean(), line[rows].mean()])
    radius = _ROOM * float((torch.stack([line[columns], line[rows]], dim=-1) - centre).norm(dim=-1).max()) + 2 / size
    drift = torch.from_numpy(rng.normal(0, 0.025, 2).astype(np.float32))
    coarse = torch.from_numpy(rng.normal(0, 0.03, (1, 2, 5, 5)).astype(np.float32))
    bend = interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
    # Frames from the prompted one to the target's end, each way: mostly within the clip, for ends are to be learned.
    ends = [float(rng.uniform(1.2, max(1.5, frames))) if rng.random() < 0.75 else 8.0 * frames for _ in range(2)]
    grow = rng.random() < 0.35  # the target is largest elsewhere
    stack, moved = [], []
    for frame in range(frames):
        away = frame - prompted
        share = abs(away) / ends[away > 0]
        scale = float(np.sqrt(max(0.0, 1 - share * share)))
        if grow and away > 0:
            scale = min(scale * (1 + 0.12 * away), 1.6)
        places = base + away * (drift + bend)
        offset = places - centre
        distance = offset.norm(dim=-1, keepdim=True)
        places = centre + offset * _drawn(distance, radius, max(scale, 0.02)) / distance.clamp(min=1e-6)
        stack.append(grid_sample(image[None], places[None], padding_mode="border", align_corners=False)[0])
        here = grid_sample(masks[None].float(), places[None], align_corners=False)[0] > 0.5
        if scale < _GONE:
            here[0] = False
        moved.append(here)
    return torch.stack(stack, dim=1), torch.stack(moved, dim=1)


def _drawn(distance: Tensor, radius: float, scale: float) -> Tensor:
    """Where a point at a distance from the centre is taken from, when what lies within a radius is scaled.

    Linear within the scaled radius, linear again from there to twice the larger radius, and still beyond.
    """
    outer = 2 * radius * max(1.0, scale)
    inner = radius * scale
    within = distance / scale
    between = radius + (distance - inner) * (outer - radius) / (outer - inner)
    return torch.where(distance < inner, within, torch.where(distance < outer, between, distance))


def _opened(case: Case, axis: str, size: int) -> _Study:
    sample = open_case(case)
    frames = Frames(sample.volume, axis, None, size)
    labels = np.zeros(sample.volume.shape[:3], np.uint8)
    masks = list(sample.masks.values())
    if sample.volume.shape[0] == 1:
        masks = [piece for mask in masks for piece in _pieces(mask)]
    for number, mask in enumerate(masks[:255], start=1):
        labels[mask] = number
    labels = frames.unstack(labels)
    places = {}
    for target in np.unique(labels):
        found = np.flatnonzero(np.count_nonzero(labels == target, axis=(1, 2)) >= _FEWEST_PIXELS)
        if target and found.size:
            places[int(target)] = found
    return _Study(frames, labels, places)


def _pieces(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """A target in one piece, or each piece as a target of its own: one prompt means one thing."""
    numbered, count = ndimage.label(mask)
    sizes = np.bincount(numbered.ravel(), minlength=2)[1:]
    if count < 2 or sizes.max() > _MOSTLY * sizes.sum():
        return [mask]
    return [numbered == 1 + n for n in np.argsort(-sizes) if sizes[n] >= _FEWEST_PIXELS]


def _region(rng: np.random.Generator, mask: NDArray[np.bool_], frames: Frames, vary: bool) -> Region:
    """The whole frame, the crop that inference would take, any crop around the target, or a part of it."""
    choice = rng.random()
    rows, columns = np.nonzero(mask)
    if not rows.size or (choice < 0.3 and rows.size > 2 * _SMALLEST * mask.size):
        return frames.whole
    extent = Extent(float(rows.min()), float(columns.min()), float(rows.max()), float(columns.max()))
    around = region_around(extent, frames)
    if not vary:
        return around
    if choice < 0.45:
        # No larger than the target, which fills it and may run over its edges, as one that a user has zoomed in on.
        top, left = int(extent.row0), int(extent.column0)
        around = Region(top, left, int(extent.row1) + 1 - top, int(extent.column1) + 1 - left)
        scale = float(rng.uniform(0.7, 1.1))
    else:
        scale = float(np.exp(rng.normal(0, 0.2) if choice < 0.75 else rng.uniform(-0.5, 1.2)))
    return varied(rng, around, frames, scale, off=0.15, smallest=16)


def _regions(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Regions of an image (C, S, S) by Felzenszwalb's method at a random scale: bool (N, S, S), plausible ones."""
    from skimage.segmentation import felzenszwalb

    size = image.shape[-1]
    pixels = interpolate(image[None], size=(128, 128), mode="bilinear", antialias=True)[0].numpy()
    found = felzenszwalb(
        pixels.transpose(1, 2, 0),
        scale=float(np.exp(rng.uniform(np.log(15), np.log(300)))),
        sigma=float(rng.uniform(0.5, 1.5)),
        min_size=20,
    )
    masks = []
    for value, part in enumerate(ndimage.find_objects(found + 1)):
        if part is None:
            continue
        mask = found == value
        # Compact ones that do not run along the border.
        area = np.count_nonzero(mask)
        box = (part[0].stop - part[0].start) * (part[1].stop - part[1].start)
        border = np.count_nonzero(mask[[0, -1]]) + np.count_nonzero(mask[:, [0, -1]])
        if 0.002 < area / mask.size < 0.4 and area > 0.35 * box and border < 0.15 * np.sqrt(area):
            masks.append(ndimage.binary_fill_holes(ndimage.binary_opening(mask)))
    kept = [mask for mask in masks if mask.any()]
    if not kept:
        return torch.zeros((0, size, size), dtype=torch.bool)
    coarse = torch.from_numpy(np.stack(kept)).float()[:, None]
    return interpolate(coarse, size=(size, size), mode="bilinear")[:, 0] > 0.5


def _recoloured(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Colours (C, F, S, S) mixed or dropped, and light and dark exchanged now and then."""
    if len(image) == 3:
        if rng.random() < 0.3:
            weights = torch.from_numpy(rng.dirichlet([1, 1, 1]).astype(np.float32))
            image = (image * weights[:, None, None, None]).sum(dim=0, keepdim=True)
        elif rng.random() < 0.5:
            gains = torch.from_numpy(np.exp(rng.normal(0, 0.15, 3)).astype(np.float32))
            image = (image * gains[:, None, None, None]).clamp(0, 1)
    return 1 - image if rng.random() < 0.12 else image
