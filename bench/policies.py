"""Memory policies that were tried and are not offered, to be measured beside those that are; see `banks`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from biosam2.engine.memory import Encode, MemoryBank, PathPolicy, Positioned, Recall, Sam2Policy, SliceMemory, Step
from biosam2.evaluation.user import largest_piece
from biosam2.models.model import Model
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


class _Remembering(PathPolicy):
    """`PathPolicy`, and slices that are remembered for good, at the conditioning slices' temporal position."""

    def kept(self, bank: MemoryBank, step: Step) -> list[SliceMemory]:
        """Those slices.

        Args:
            bank: the segment's memories.
            step: where the sweep is.
        """
        raise NotImplementedError

    def recall(self, bank: MemoryBank, step: Step, encode: Encode) -> Recall:
        """See `MemoryPolicy.recall`."""
        kept = self.kept(bank, step)
        found = super().recall(bank, step, encode)
        # A slice is seen once.
        others = [(t, memory) for t, memory in found.memories if t == 0 or all(memory is not one for one in kept)]
        return Recall((*((0, memory) for memory in kept), *others), found.pointers, found.pointer_span)


class TwoPass(_Remembering):
    """A second sweep is conditioned on the best slices of the first one.

    Args:
        most: how many at most.
        apart: slices between them, and to the conditioning ones, at least.
        least: score, 0 to 1.
    """

    def __init__(self, most: int = 3, apart: int = 3, least: float = 0.5) -> None:
        self.most, self.apart, self.least = most, apart, least
        self.second = False
        """Whether a first sweep has passed."""
        self._best: WeakKeyDictionary[MemoryBank, list[SliceMemory]] = WeakKeyDictionary()

    def kept(self, bank: MemoryBank, step: Step) -> list[SliceMemory]:
        """See `_Remembering.kept`."""
        if not self.second:
            return []
        if bank not in self._best:
            chosen: list[SliceMemory] = []
            for memory in sorted(bank.propagated.values(), key=lambda m: -m.score):
                others = [*bank.conditioning, *(m.slice_index for m in chosen)]
                near = any(abs(memory.slice_index - s) < self.apart for s in others)
                if memory.score >= self.least and memory.mask.any() and not near and len(chosen) < self.most:
                    chosen.append(memory)
            self._best[bank] = chosen
        return [memory for memory in self._best[bank] if memory.slice_index != step.slice_index]


class Neighbours(PathPolicy):
    """`PathPolicy` that knows the prompted slice passed last, the next one ahead, and what was passed since the last.

    Between two prompted slices `NearestPolicy` knows only the one; the other may guide as well.
    """

    def recall(self, bank: MemoryBank, step: Step, encode: Encode) -> Recall:
        """See `MemoryPolicy.recall`."""
        here = step.slice_index
        behind = [s for s in bank.conditioning if (s > here if step.backward else s < here)]
        ahead = [s for s in bank.conditioning if s not in behind]
        sides = [min(side, key=lambda s: abs(s - here)) for side in (behind, ahead) if side]
        start = sides[0]
        between = range(min(start, here), max(start, here) + 1)
        passed = {s: memory for s, memory in bank.propagated.items() if s in between}
        known = replace(bank, conditioning={s: bank.conditioning[s] for s in sides}, propagated=passed)
        return Sam2Policy.recall(self, known, step, encode)


class Anchors(_Remembering):
    """Slices are kept where a rival of the chosen mask is in sight though the choice is sure.

    DAM4SAM (Videnovic et al., CVPR 2025, arXiv 2411.17576; thresholds of github.com/jovanavidenovic/DAM4SAM,
    dam4sam_tracker.py): the chosen candidate's predicted IoU is above 0.8, its size within a fifth of the median of
    the last ten, the last such slice more than five slices away, and the bounding box of the chosen mask overlaps that
    of itself with the largest other piece of a rival by an IoU of at most 0.7. Slices without the target are not
    remembered.

    Args:
        model: whose candidate masks are looked at. For one segment at a time.
    """

    def __init__(self, model: Model) -> None:
        self.found = 0
        """How many slices were kept so far."""
        self._candidates: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._kept: WeakKeyDictionary[MemoryBank, tuple[bool, list[SliceMemory], list[int]]] = WeakKeyDictionary()
        self._seen: WeakKeyDictionary[SliceMemory, None] = WeakKeyDictionary()
        self._hook = model.network.sam_mask_decoder.register_forward_hook(self._look)

    def close(self) -> None:
        """Look no more."""
        self._hook.remove()

    def _look(self, module: Any, inputs: Any, outputs: Any) -> None:
        masks, quality = outputs[:2]
        self._candidates = (masks[0].float().cpu().numpy(), quality[0].float().cpu().numpy())

    def kept(self, bank: MemoryBank, step: Step) -> list[SliceMemory]:
        """See `_Remembering.kept`."""
        backward, kept, sizes = self._kept.get(bank) or (step.backward, [], [])
        if backward != step.backward:
            kept, sizes = [], []
        behind = step.slice_index + (1 if step.backward else -1)
        latest = bank.propagated.get(behind)
        if latest is not None and latest not in self._seen and self._candidates is not None:
            self._seen[latest] = None
            if latest.mask.any():
                own = latest.low_logits[0, 0].float().cpu().numpy() > 0
                sizes = [*sizes, int(own.sum())][-10:]
                apart = all(abs(behind - memory.slice_index) > 5 for memory in kept)
                alike = 0.8 <= own.sum() / max(1.0, float(np.median(sizes))) <= 1.2
                masks, quality = self._candidates
                if apart and alike and quality.max() > 0.8 and _rivalled(own, masks > 0):
                    kept = [*kept, latest]
                    self.found += 1
        self._kept[bank] = (step.backward, kept, sizes)
        return kept

    def select(self, bank: MemoryBank, far: dict[int, SliceMemory], step: Step, encode: Encode) -> list[Positioned]:
        """See `MemoryPolicy.select`."""
        shown = {s: memory for s, memory in bank.propagated.items() if memory.mask.any()}
        nearest = [shown[s] for s in step.passed(shown)][: step.reach.memories - 1]
        return [(step.reach.memories - 1 - n, memory) for n, memory in enumerate(nearest)][::-1]


def _rivalled(chosen: Bools, candidates: Bools) -> bool:
    """Whether another candidate has a piece elsewhere that is large beside the chosen mask, (rows, columns) each."""
    for other in candidates:
        rival = other & ~chosen
        if rival.any() and _overlap(_box(chosen), _box(chosen | largest_piece(rival))) <= 0.7:
            return True
    return False


def _box(mask: Bools) -> tuple[int, int, int, int]:
    """First and last row, first and last column."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _overlap(inner: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> float:
    """Intersection over union of a box and one that holds it."""
    areas = [(box[1] - box[0] + 1) * (box[3] - box[2] + 1) for box in (inner, outer)]
    return areas[0] / areas[1]
