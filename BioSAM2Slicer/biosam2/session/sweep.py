"""One segment's part in a propagation: which slices it passes, and where it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..engine.memory import MemoryBank, SliceMemory
from ..frames import Frames, Region
from ..masks import dice, unpack
from ..speed import Speed
from .state import SessionState

# Masks agree from this Dice on; a sweep from a correction ends after so many slices in a row that agree.
_AGREEMENT = 0.99
_AGREEING = 2


@dataclass
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

    def begin(self, backward: bool) -> range:
        """Start in a direction; the slices to pass, in their order."""
        slices = self.backward if backward else self.forward
        self.region = self.bank.conditioning[min(self.bank.conditioning)].region
        # A correction that lies behind the range takes effect from its first slice on.
        behind = any((s > slices.start if backward else s < slices.start) for s in self.corrected)
        self.active = not self.corrected or behind
        self.over = False
        self.agreeing = self.absent = 0
        return slices

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

    def note_end(self, result: SliceMemory, backward: bool, speed: Speed, frames: Frames) -> None:
        """Notice, from a slice's result, that there is nothing left to do in this direction. Approximate."""
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
        self.absent = 0 if present else self.absent + 1
        if self.absent >= speed.stop:
            self.over = not any(c < s if backward else c > s for c in self.bank.conditioning)


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
    sweep.own, sweep.started = frozenset(state.user_slices(name)), segment.start is not None
    if state.follows_corrections(name):
        sweep.corrected, sweep.before = frozenset(segment.pending), before
    return sweep
