"""The memory bank of one segment, and the policies that decide what a slice is compared with.

SAM 2 (arXiv 2408.00714, section 4) remembers conditioning frames for good and the six frames before the current
one; object pointers reach further back. A policy makes that choice; adding one is adding one small class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from ..errors import InputError
from ..frames import Region
from ..masks import unpack
from ..prompts import SlicePrompt


@dataclass(eq=False)
class SliceMemory:
    """What is known of one segment on one slice.

    Attributes:
        slice_index: the slice.
        region: the part of the frame that the network saw.
        low_logits: (1, 1, S/4, S/4) float32, the mask decoder's output for the region.
        pointer: (1, C), SAM 2's object pointer.
        object_score: (1, 1), logit that the segment is on the slice at all.
        score: predicted IoU × sigmoid(object score), 0 to 1.
        prompted: whether the slice carries prompts; its memory is then made from the mask, not its soft logits.
        mask: the thresholded mask over the whole frame, packed (see `masks`).
        features: (1, M, S/16, S/16) bfloat16, the encoded memory; None until it is needed.
        features_region: the region that `features` were encoded for.
        told: what the result answers; None where it was found in a sweep.
        lasting: `features` are of another image and cannot be made again; they serve for any region.
    """

    slice_index: int
    region: Region
    low_logits: torch.Tensor
    pointer: torch.Tensor
    object_score: torch.Tensor
    score: float
    prompted: bool
    mask: NDArray[np.uint8]
    features: torch.Tensor | None = None
    features_region: Region | None = None
    told: SlicePrompt | None = None
    lasting: bool = False

    def release(self) -> None:
        """Release the encoded memory; it can be made again from the logits."""
        self.features = None
        self.features_region = None

    def unpacked(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """The mask, bool (rows, columns).

        Args:
            rows: of the slice.
            columns: of the slice.
        """
        return unpack(self.mask, (rows, columns))


@dataclass(eq=False)
class MemoryBank:
    """All that a session remembers of one segment.

    Attributes:
        conditioning: results of prompted slices, in the order in which they were first prompted.
        propagated: results of the other slices that a propagation visited.
        visited: for each slice that a sweep has passed, whether it passed backward (towards lower indices).
        interpolated: those of them on which the network did not run; nothing is remembered of them.
    """

    conditioning: dict[int, SliceMemory]
    propagated: dict[int, SliceMemory]
    visited: dict[int, bool]
    interpolated: frozenset[int] = frozenset()

    @classmethod
    def empty(cls) -> MemoryBank:
        """A bank that remembers nothing."""
        return cls({}, {}, {})

    def copy(self) -> MemoryBank:
        """A bank of the same memories, which are shared."""
        return MemoryBank(dict(self.conditioning), dict(self.propagated), dict(self.visited), self.interpolated)

    def forget(self, slices: Iterable[int]) -> dict[int, SliceMemory]:
        """Forget propagated results; those that were forgotten."""
        return {s: self.propagated.pop(s) for s in slices if s in self.propagated}

    def result(self, slice_index: int) -> SliceMemory | None:
        """The segment's result on a slice, if there is one."""
        return self.conditioning.get(slice_index) or self.propagated.get(slice_index)

    def results(self) -> Iterator[SliceMemory]:
        """Every result."""
        yield from self.conditioning.values()
        yield from self.propagated.values()


@dataclass(frozen=True)
class Reach:
    """How far a network's memory goes; read from the network.

    Attributes:
        memories: number of memory slots (num_maskmem), counting the one that conditioning slices share.
        pointers: largest number of object pointers (max_obj_ptrs_in_encoder).
        conditioning: largest number of conditioning slices attended to, -1 for all.
        past_pointers_only: conditioning pointers from ahead of the sweep are left out.
        signed_pointers: a conditioning pointer's distance keeps its sign.
        stride: every how many slices a propagated memory is taken.
    """

    memories: int
    pointers: int
    conditioning: int
    past_pointers_only: bool
    signed_pointers: bool
    stride: int


@dataclass(frozen=True)
class Step:
    """One slice about to be segmented in a sweep.

    Attributes:
        slice_index: the slice.
        backward: whether the sweep runs towards lower indices.
        count: number of slices of the volume.
        reach: how far the network's memory goes.
    """

    slice_index: int
    backward: bool
    count: int
    reach: Reach

    def passed(self, propagated: dict[int, SliceMemory]) -> list[int]:
        """Propagated slices that lie behind the sweep, nearest first."""
        here = self.slice_index
        behind = [s for s in propagated if (s > here if self.backward else s < here)]
        return sorted(behind, key=lambda s: abs(s - here))


Positioned: TypeAlias = tuple[int, SliceMemory]
Encode: TypeAlias = Callable[[SliceMemory], torch.Tensor]


@dataclass(frozen=True)
class Recall:
    """What one slice is compared with.

    Attributes:
        memories: (temporal position, memory): 0 for conditioning slices, then 1 (oldest) to num_maskmem - 1 (latest).
        pointers: (distance in slices, memory): whose object pointers are seen, signed along the sweep.
        pointer_span: distance by which the pointers' temporal encoding is scaled.
    """

    memories: tuple[Positioned, ...]
    pointers: tuple[Positioned, ...]
    pointer_span: int


class MemoryPolicy(ABC):
    """Chooses what a slice is compared with: conditioning slices always, propagated slices as `select` says."""

    def recall(self, bank: MemoryBank, step: Step, encode: Encode) -> Recall:
        """The memories for a slice.

        Args:
            bank: the segment's memories; it has a conditioning slice.
            step: where the sweep is.
            encode: gives the encoded memory, (1, M, S/16, S/16), of any slice in the bank.
        """
        near, far = _split_conditioning(bank.conditioning, step)
        memories = [(0, memory) for memory in near.values()]
        memories += self.select(bank, far, step, encode)
        pointers, span = self._pointers(bank, near, far, step)
        return Recall(tuple(memories), tuple(pointers), span)

    @abstractmethod
    def select(self, bank: MemoryBank, far: dict[int, SliceMemory], step: Step, encode: Encode) -> list[Positioned]:
        """Propagated slices to attend to, with temporal positions 1 (oldest) to ``reach.memories - 1`` (latest).

        Args:
            bank: the segment's memories.
            far: conditioning slices beyond the network's limit, which count as propagated ones.
            step: where the sweep is.
            encode: gives the encoded memory of a slice.
        """

    def recall_first(self, step: Step) -> Recall | None:
        """The memories for the first prompt of a segment, which SAM 2 sees alone; None for none."""
        return None

    def offer(self, memory: SliceMemory, step: Step, encode: Encode) -> None:  # noqa: B027 - most have no use for it
        """A prompted slice's result, for policies that remember beyond a segment.

        Args:
            memory: the result.
            step: where it is.
            encode: gives the encoded memory, (1, M, S/16, S/16), of any slice.
        """

    def remembers(self, memory: SliceMemory) -> bool:
        """Whether a propagated slice's object pointer may be seen."""
        return True

    def span(self, reach: Reach) -> int | None:
        """How many slices behind a sweep encoded memories may be attended to; None for any number."""
        return None

    def _pointers(
        self, bank: MemoryBank, near: dict[int, SliceMemory], far: dict[int, SliceMemory], step: Step
    ) -> tuple[list[Positioned], int]:
        here, reach = step.slice_index, step.reach
        limit = min(step.count, reach.pointers)
        sign = -1 if step.backward else 1
        pointers: list[Positioned] = []
        for s, memory in near.items():
            distance = (here - s) * sign
            if distance >= 0 or not reach.past_pointers_only:
                pointers.append((distance if reach.signed_pointers else abs(distance), memory))
        for distance in range(1, limit):
            s = here - sign * distance
            if not 0 <= s < step.count:
                break
            passed = bank.propagated.get(s) or far.get(s)
            if passed is not None and self.remembers(passed):
                pointers.append((distance, passed))
        return pointers, limit - 1


class Sam2Policy(MemoryPolicy):
    """SAM 2's own: the slices that the sweep has just passed, whatever their quality. Exact."""

    def span(self, reach: Reach) -> int | None:
        """See `MemoryPolicy.span`."""
        return 1 + reach.stride * max(0, reach.memories - 2)

    def select(self, bank: MemoryBank, far: dict[int, SliceMemory], step: Step, encode: Encode) -> list[Positioned]:
        """See `MemoryPolicy.select`."""
        chosen: list[Positioned] = []
        for back in range(step.reach.memories - 1, 0, -1):
            s = _behind(step, back)
            memory = bank.propagated.get(s) or far.get(s)
            if memory is not None:
                chosen.append((step.reach.memories - back, memory))
        return chosen


class PathPolicy(Sam2Policy):
    """SAM 2's, without what lies beyond the sweep's start: only slices that this sweep has passed. Approximate.

    A sweep begins at the earliest conditioning slice. SAM 2 also shows it the slices behind that start, results of an
    earlier propagation or of the sweep in the other direction: often slices without the target, from before the user
    corrected anything. A few of them make a network declare the target absent next to the true mask.
    """

    def recall(self, bank: MemoryBank, step: Step, encode: Encode) -> Recall:
        """See `MemoryPolicy.recall`."""
        start, here = min(bank.conditioning), step.slice_index
        between = range(min(start, here), max(start, here) + 1)
        passed = replace(bank, propagated={s: m for s, m in bank.propagated.items() if s in between})
        return super().recall(passed, step, encode)


class NearestPolicy(PathPolicy):
    """`PathPolicy` that knows only the prompted slice passed last, and what was passed since. Approximate.

    SAM 2 compares every slice with all prompted ones, however far away. Where a user has prompted, corrected or drawn
    several slices, each is the best guide to its own neighbours.
    """

    def recall(self, bank: MemoryBank, step: Step, encode: Encode) -> Recall:
        """See `MemoryPolicy.recall`."""
        here = step.slice_index
        behind = [s for s in bank.conditioning if (s > here if step.backward else s < here)]
        last = min(behind or bank.conditioning, key=lambda s: abs(s - here))
        return super().recall(replace(bank, conditioning={last: bank.conditioning[last]}), step, encode)


class QualityGatePolicy(MemoryPolicy):
    """Weak slices are not remembered: the nearest passed slices that score at least `threshold`. Approximate.

    Args:
        threshold: least score (predicted IoU × probability of presence) of a slice to remember, 0 to 1.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def remembers(self, memory: SliceMemory) -> bool:
        """See `MemoryPolicy.remembers`."""
        return memory.score >= self.threshold

    def select(self, bank: MemoryBank, far: dict[int, SliceMemory], step: Step, encode: Encode) -> list[Positioned]:
        """See `MemoryPolicy.select`."""
        good = {s: m for s, m in bank.propagated.items() if self.remembers(m)}
        return _by_distance([good[s] for s in step.passed(good)], step)


class DissimilarityPolicy(MemoryPolicy):
    """Confident, mutually dissimilar slices are remembered, as in BioSAM-2's reference implementation. Approximate.

    Slices enter in the order in which the sweep passed them. Once the bank is full, a new slice is compared (cosine
    similarity of encoded memories) with the stored ones; of the stored slice least like it, the closest companion
    is dropped in its favour when the new slice is less like that slice than the companion is and scores at most
    `slack` below the companion (github.com/ZhilingYan/Biomedical-SAM-2, func/function.py).

    Entries beyond the temporal positions that the network has take the oldest one's; the reference gives them none.

    Args:
        slack: how much lower than the dropped slice's score the new one's may be, 0 to 1.
        capacity: how many slices are remembered beside the conditioning ones; None for as many as the network has
            slots for. The reference has 16.
        scope: ``segment``: each segment of a session remembers its own slices. ``images``: what was remembered goes on
            to the next segment, volume or image of whatever session has this policy, prompted slices among it, and a
            first prompt is compared with it, as in the reference. One policy is then one run over images in order;
            results depend on that order.

    Raises:
        InputError: `capacity` is below 1, or there is no such scope.
    """

    def __init__(
        self, slack: float = 0.1, capacity: int | None = None, scope: Literal["segment", "images"] = "segment"
    ) -> None:
        if capacity is not None and capacity < 1:
            raise InputError(f"a memory bank holds one slice or more, not {capacity}")
        if scope not in ("segment", "images"):
            raise InputError(f"the scope of a memory bank is segment or images, not {scope!r}")
        self.slack, self.capacity, self.scope = slack, capacity, scope
        # What goes on to the next image: entries whose features stay as they are.
        self._latest: list[SliceMemory] = []
        # Per bank: what it began with, what has been offered so far (to notice another sweep), and what was kept.
        self._kept: WeakKeyDictionary[MemoryBank, tuple[list[SliceMemory], list[SliceMemory], list[SliceMemory]]] = (
            WeakKeyDictionary()
        )

    def select(self, bank: MemoryBank, far: dict[int, SliceMemory], step: Step, encode: Encode) -> list[Positioned]:
        """See `MemoryPolicy.select`."""
        arrived = [bank.propagated[s] for s in reversed(step.passed(bank.propagated))]
        begun, offered, kept = self._kept.get(bank) or (self._latest, [], self._latest)
        if len(offered) > len(arrived) or any(a is not b for a, b in zip(offered, arrived, strict=False)):
            offered, kept = [], begun
        for memory in arrived[len(offered) :]:
            kept = self._admit(kept, memory, self._room(step), encode)
        self._kept[bank] = (begun, arrived, kept)
        if self.scope == "images":
            self._latest = [_lasting(memory, encode) for memory in kept]
        here = [memory for memory in kept if not memory.lasting]
        nearest_first = sorted(here, key=lambda m: abs(m.slice_index - step.slice_index))
        # Of another image no distance is known: its entries are the oldest.
        return _by_distance([*nearest_first, *(memory for memory in reversed(kept) if memory.lasting)], step, len(kept))

    def recall_first(self, step: Step) -> Recall | None:
        """See `MemoryPolicy.recall_first`."""
        if not self._latest:
            return None
        return Recall(tuple(_by_distance(self._latest[::-1], step, len(self._latest))), (), 1)

    def offer(self, memory: SliceMemory, step: Step, encode: Encode) -> None:
        """See `MemoryPolicy.offer`.

        Args:
            memory: the result.
            step: where it is.
            encode: gives encoded memories.
        """
        if self.scope == "images":
            self._latest = self._admit(self._latest, _lasting(memory, encode), self._room(step), encode)

    def _room(self, step: Step) -> int:
        return step.reach.memories - 1 if self.capacity is None else self.capacity

    def _admit(self, kept: list[SliceMemory], new: SliceMemory, capacity: int, encode: Encode) -> list[SliceMemory]:
        if len(kept) < capacity:
            return [*kept, new]
        vectors = normalize(torch.stack([encode(m).float().flatten() for m in kept]), dim=1)
        to_new = vectors @ normalize(encode(new).float().flatten(), dim=0)
        among = vectors @ vectors.T
        among.fill_diagonal_(-torch.inf)
        least_alike = int(to_new.argmin())
        companion = int(among[least_alike].argmax())
        if to_new[least_alike] < among[least_alike, companion] and new.score > kept[companion].score - self.slack:
            return [*kept[:companion], *kept[companion + 1 :], new]
        return kept


POLICIES: dict[str, type[MemoryPolicy]] = {
    "sam2": Sam2Policy,
    "path": PathPolicy,
    "nearest": NearestPolicy,
    "quality": QualityGatePolicy,
    "dissimilar": DissimilarityPolicy,
}


def make_policy(policy: str | MemoryPolicy | None, capacity: int | None = None) -> MemoryPolicy:
    """A policy by name, SAM 2's own by default.

    Args:
        policy: its name, or itself.
        capacity: of ``dissimilar``, by its name.

    Raises:
        InputError: no policy has that name.
    """
    if isinstance(policy, MemoryPolicy):
        return policy
    if policy is not None and policy not in POLICIES:
        raise InputError(f"there is no memory policy {policy!r}; use one of {', '.join(POLICIES)}")
    return DissimilarityPolicy(capacity=capacity) if policy == "dissimilar" else POLICIES[policy or "sam2"]()


def _by_distance(nearest_first: list[SliceMemory], step: Step, count: int | None = None) -> list[Positioned]:
    """Temporal positions by order of distance, oldest first, of `count` memories; by default as many as there are."""
    latest = step.reach.memories - 1
    chosen = nearest_first[: latest if count is None else count]
    return [(max(1, latest - n), memory) for n, memory in enumerate(chosen)][::-1]


def _lasting(memory: SliceMemory, encode: Encode) -> SliceMemory:
    """A memory that outlives the image that it is of."""
    return memory if memory.lasting else replace(memory, features=encode(memory), lasting=True)


def _split_conditioning(
    conditioning: dict[int, SliceMemory], step: Step
) -> tuple[dict[int, SliceMemory], dict[int, SliceMemory]]:
    """Conditioning slices within the network's limit (the nearest on each side first) and beyond it."""
    here, limit = step.slice_index, step.reach.conditioning
    if limit == -1 or len(conditioning) <= limit:
        return conditioning, {}
    before = max((s for s in conditioning if s < here), default=None)
    after = min((s for s in conditioning if s >= here), default=None)
    order = [s for s in (before, after) if s is not None]
    order += sorted((s for s in conditioning if s not in order), key=lambda s: abs(s - here))
    near = {s: conditioning[s] for s in order[:limit]}
    return near, {s: m for s, m in conditioning.items() if s not in near}


def _behind(step: Step, back: int) -> int:
    """The slice `back` memory slots behind the sweep; with a stride r, the adjacent one and then every r-th."""
    here, stride = step.slice_index, step.reach.stride
    sign = 1 if step.backward else -1
    if back == 1:
        return here + sign
    if step.backward:
        return -(-(here + 2) // stride) * stride + (back - 2) * stride
    return (here - 2) // stride * stride - (back - 2) * stride
