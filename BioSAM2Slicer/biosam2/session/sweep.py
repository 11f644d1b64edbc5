"""One segment's part in a propagation: which slices it passes, and where it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..engine.memory import MemoryBank, SliceMemory
from ..frames import Frames, Region
from ..masks import dice, unpack
from ..speed import Speed
from .state import SessionState

# Masks agree from this Dice on; a sweep from a correction ends after so many slices in a row that agree.
_AGREEMENT = 0.99
_AGREEING = 2
# Neighbouring masks of a sweep with a stride that agree less than this (Dice) have slices between them that are not
# interpolated.
_ALIKE = 0.9
# A stride that is chosen spans at most this share of the target's diameter, and so many slices.
_SHARE = 0.2
_FARTHEST = 4


@dataclass(eq=False)
class Sweep:
    """A segment in a running propagation, which passes its slices forward and then backward.

    Attributes:
        name: of the segment.
        bank: its memories, which grow.
        forward, backward: slices in the order in which they are passed.
        region: the crop that the network runs on at present.
        own: slices that were the user's own when the propagation began; what the user does meanwhile must not change
            which slices are finished, or the entry could not be run again.
        started: whether the segment had a mask to start from then.
        corrected: for a sweep that only follows corrections: the corrected slices.
        before: for such a sweep: the segment's memories before it.
        active: whether it is changing anything at the moment.
        over: whether the segment has ended in this direction.
        agreeing: how many slices in a row showed what they had shown before.
        absent: how many slices in a row showed nothing.
        stride: the network runs on every n-th slice, see `Speed`.
        slices: those of this direction, in the order in which they are passed.
        passed: how many of them have been passed.
        one_by_one: up to how many of them none is left out.
    """

    name: str
    bank: MemoryBank
    forward: range
    backward: range
    region: Region
    own: frozenset[int] = frozenset()
    started: bool = False
    corrected: frozenset[int] = frozenset()
    before: MemoryBank = field(default_factory=MemoryBank.empty)
    active: bool = True
    over: bool = False
    agreeing: int = 0
    absent: int = 0
    stride: int = 1
    slices: range = range(0)
    passed: int = 0
    one_by_one: int = 0

    def begin(self, backward: bool) -> None:
        """Start in a direction."""
        slices = self.slices = self.backward if backward else self.forward
        self.passed = self.one_by_one = 0
        self.region = self.bank.conditioning[min(self.bank.conditioning)].region
        # A correction that lies behind the range takes effect from its first slice on.
        behind = any((s > slices.start if backward else s < slices.start) for s in self.corrected)
        self.active = not self.corrected or behind
        self.over = False
        self.agreeing = self.absent = 0

    def next_slice(self, speed: Speed) -> int | None:
        """The slice to run the network on next; None at the end of the direction."""
        if self.passed == len(self.slices):
            return None
        place = self.passed
        if self.passed > 0 and self.passed >= self.one_by_one and not self.over and not self.corrected:
            step = self.stride
            if speed.stop is not None and 0 < self.absent < speed.stop:
                step = min(step, speed.stop - self.absent)
            place = min(self.passed + step, len(self.slices)) - 1
            prompted = [n for n in range(self.passed, place) if self.slices[n] in self.bank.conditioning]
            place = min([place, *prompted])
        return self.slices[place]

    def left_out(self, slice_index: int) -> range:
        """The slices between the last one passed and the next one."""
        return self.slices[self.passed : self.slices.index(slice_index)]

    def can_interpolate(self, result: SliceMemory, left_out: range, frames: Frames) -> bool:
        """Whether the slices between the last one passed and this one are like them; else they are run as well.

        Args:
            result: of the slice that comes after them.
            left_out: the slices between.
            frames: of the volume.
        """
        shape = (frames.rows, frames.columns)
        before = self.bank.result(self.slices[self.passed - 1])
        assert before is not None
        if dice(unpack(before.mask, shape), unpack(result.mask, shape)) >= _ALIKE:
            return True
        self.one_by_one = self.passed + len(left_out) + 1
        return False

    def goes_on(self, slice_index: int, done: bool) -> bool:
        """Whether there is work on a slice; a sweep that follows corrections has it near them only.

        Args:
            slice_index: the slice.
            done: whether this propagation's other sweep has passed it.
        """
        if not self.corrected:
            return True
        if slice_index in self.corrected:
            self.active, self.agreeing = True, 0
            return True
        if done:
            return False
        if slice_index in self.bank.conditioning:
            self.active = False
        elif self.bank.result(slice_index) is None:
            self.active = True
        return self.active

    def note_end(self, result: SliceMemory, left_out: int, backward: bool, speed: Speed, frames: Frames) -> None:
        """Notice, from a slice's result, that there is nothing left to do in this direction. Approximate.

        Args:
            result: of the slice.
            left_out: how many slices before it were interpolated.
            backward: the direction.
            speed: of the session.
            frames: of the volume.
        """
        s = result.slice_index
        if s in self.bank.conditioning:
            self.absent = self.agreeing = 0
            return
        shape = (frames.rows, frames.columns)
        if self.corrected:
            old = self.before.result(s)
            agrees = old is not None and dice(unpack(old.mask, shape), unpack(result.mask, shape)) >= _AGREEMENT
            self.agreeing = self.agreeing + 1 if agrees else 0
            self.active = self.agreeing < _AGREEING
        # A mask that the segment started from stands wherever no result does: it would come back.
        if speed.stop is None or self.started:
            return
        present = float(result.object_score) > 0 and result.mask.any()
        self.absent = 0 if present else self.absent + 1 + left_out
        if self.absent >= speed.stop:
            self.over = not any(c < s if backward else c > s for c in self.bank.conditioning)


def stride_of(speed: Speed, bank: MemoryBank, frames: Frames) -> int:
    """The n of a sweep whose network runs on every n-th slice: what was asked for, or what suits the target.

    Args:
        speed: what was asked for.
        bank: the segment's memories; its largest conditioning slice says how large the target is.
        frames: of the volume.
    """
    if speed.stride != "auto":
        return speed.stride
    shape, (height, width) = (frames.rows, frames.columns), frames.pixel_size
    largest = max(int(unpack(memory.mask, shape).sum()) for memory in bank.conditioning.values())
    # The diameter of a disc of the same area, mm.
    diameter = 2 * math.sqrt(largest * height * width / math.pi)
    return max(1, min(_FARTHEST, int(_SHARE * diameter / frames.slice_distance)))


def sweep_of(
    state: SessionState, name: str, asked: tuple[str, int | None, int | None], bank: MemoryBank, before: MemoryBank
) -> Sweep:
    """A segment's part in a propagation.

    Args:
        state: before the propagation.
        name: of the segment.
        asked: direction, first and last slice.
        bank: its memories, those of pending slices made.
        before: its memories before these.
    """
    forward, backward = state.ranges(name, *asked)
    segment = state.segment(name)
    sweep = Sweep(name, bank, forward, backward, bank.conditioning[min(bank.conditioning)].region)
    sweep.stride = stride_of(state.settings.speed, bank, state.frames)
    sweep.own, sweep.started = frozenset(state.user_slices(name)), segment.start is not None
    if state.follows_corrections(name):
        sweep.corrected, sweep.before = frozenset(segment.pending), before
    return sweep
