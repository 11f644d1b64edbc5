"""What a client knows of its session: prompts, finished masks, the journal and undo. No network, no torch.

Finished masks need not be asked for again, survive the other side's death, and can be undone with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...frames import Frames
from ...masks import pack, unpack
from ...prompts import Mask, Prompt, SlicePrompt
from ...session import entries as log
from ...session.entries import Entry


@dataclass(frozen=True)
class Result:
    """What the network said of one slice: the packed mask, and its score."""

    mask: NDArray[np.uint8]
    score: float


@dataclass(frozen=True, eq=False)
class _Segment:
    """Replaced, never changed, so that undo can go back to it; `results` grow while a propagation runs."""

    prompts: tuple[Prompt, ...] = ()
    results: dict[int, Result] = field(default_factory=dict)
    locked: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    start: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class _Undone:
    """The last change that was still in force was taken back."""


@dataclass(frozen=True)
class _Redone:
    """The change taken back last was put in force again."""


@dataclass(frozen=True)
class _Change:
    entry: Entry
    before: Mapping[str, _Segment | None]
    after: Mapping[str, _Segment]


class Mirror:
    """The client's own copy of a session's outcome. Each method is told what the other side has accepted.

    Args:
        frames: the slices.
    """

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.journal: list[Any] = []
        self._segments: dict[str, _Segment] = {}
        self._changes: list[_Change] = []
        self._undone: list[_Change] = []
        # Place of the running propagation in the journal.
        self._place: int | None = None

    # -- what there is ---------------------------------------------------------------------------

    @property
    def segments(self) -> tuple[str, ...]:
        """Names, in order of creation."""
        return tuple(self._segments)

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._changes)

    @property
    def next_redo(self) -> Entry | None:
        """The change that redo would put back in force."""
        return self._undone[-1].entry if self._undone else None

    def prompts(self, segment: str) -> tuple[Prompt, ...]:
        """The segment's prompts."""
        return self._segment(segment).prompts

    def position_of(self, segment: str, prompt: Prompt | int) -> int:
        """Where a prompt stands among the segment's."""
        prompts = self._segment(segment).prompts
        try:
            position = prompt if isinstance(prompt, int) else prompts.index(prompt)
            prompts[position]
        except (ValueError, IndexError):
            raise InputError(f"segment {segment!r} has no prompt {prompt!r}") from None
        return position % len(prompts)

    def finished_slices(self, segment: str) -> tuple[int, ...]:
        """Slices with a result or the user's own mask, ascending."""
        state = self._segment(segment)
        return tuple(sorted({*state.results, *state.locked, *_drawn(state)}))

    def score(self, segment: str, slice_index: int) -> float:
        """The last propagation's score on a slice."""
        found = self._segment(segment).results.get(self.frames.check_index(slice_index))
        if found is None:
            raise InputError(f"segment {segment!r} has no result on slice {slice_index}; propagate first")
        return found.score

    def mask(self, segment: str) -> NDArray[np.bool_]:
        """The segment, bool (K, J, I)."""
        state = self._segment(segment)
        stack = np.zeros((self.frames.count, self.frames.rows, self.frames.columns), dtype=bool)
        if state.start is not None:
            stack[:] = self.frames.unstack(unpack(state.start, self.frames.volume.shape))
        for s, result in state.results.items():
            stack[s] = self._slice(result.mask)
        for s, packed in state.locked.items():
            stack[s] = self._slice(packed)
        for s in _drawn(state) - set(state.locked):
            told: SlicePrompt | None = None
            for prompt in state.prompts:
                if prompt.slice_of(self.frames) == s:
                    told = prompt.add_to(told or SlicePrompt(s), self.frames)
            if told is not None and told.mask is not None:
                stack[s] = told.mask
        return np.ascontiguousarray(self.frames.stack(stack))

    def in_force(self, until: int | None = None) -> list[Entry]:
        """The journal without what was taken back."""
        done: list[Entry] = []
        undone: list[Entry] = []
        for entry in self.journal[:until]:
            if isinstance(entry, _Undone):
                undone.append(done.pop())
            elif isinstance(entry, _Redone):
                done.append(undone.pop())
            else:
                done.append(entry)
                undone.clear()
        return done

    # -- changes ---------------------------------------------------------------------------------

    def prompted(self, segment: str, prompt: Prompt) -> None:
        """A prompt was added."""
        known = self._segments.get(segment)
        state = known or _Segment()
        self._segments[segment] = replace(state, prompts=(*state.prompts, prompt))
        self._commit(log.Prompted(segment, prompt), {segment: known})

    def removed(self, segment: str, position: int) -> None:
        """A prompt was removed; results stay."""
        state = self._segment(segment)
        prompts = state.prompts[:position] + state.prompts[position + 1 :]
        self._segments[segment] = replace(state, prompts=prompts)
        self._commit(log.Removed(segment, position), {segment: state})

    def started(self, segment: str, mask: NDArray[np.bool_]) -> None:
        """A segment got a mask to start from."""
        known = self._segments.get(segment)
        self._segments[segment] = replace(known or _Segment(), start=pack(mask))
        self._commit(log.Started(segment, mask), {segment: known})

    def locked(self, segment: str, slice_index: int, mask: NDArray[np.bool_] | None) -> None:
        """A slice was locked as `mask`, or unlocked (None)."""
        state = self._segment(segment)
        masks = dict(state.locked)
        if mask is None:
            masks.pop(slice_index, None)
        else:
            masks[slice_index] = pack(mask)
        self._segments[segment] = replace(state, locked=masks)
        self._commit(log.Locked(segment, slice_index, mask is not None, mask), {segment: state})

    def cleared(self, segment: str) -> None:
        """A segment was emptied."""
        before = {segment: self._segment(segment)}
        self._segments[segment] = _Segment()
        self._commit(log.Cleared(segment), before)

    def undone(self) -> None:
        """The last change was taken back."""
        change = self._changes.pop()
        for name, state in change.before.items():
            if state is None:
                del self._segments[name]
            else:
                self._segments[name] = state
        self._undone.append(change)
        self.journal.append(_Undone())

    def redone(self) -> None:
        """The change taken back last is in force again."""
        change = self._undone.pop()
        self._segments.update(change.after)
        self._changes.append(change)
        self.journal.append(_Redone())

    # -- a propagation ---------------------------------------------------------------------------

    def begin(self, segments: Sequence[str], direction: str, first: int | None, last: int | None) -> None:
        """A propagation has begun."""
        before: dict[str, _Segment | None] = {name: self._segments[name] for name in segments}
        for name in segments:
            state = self._segments[name]
            self._segments[name] = replace(state, results=dict(state.results))
        self._place = len(self.journal)
        self._commit(log.Propagated(tuple(segments), direction, first, last), before)

    def result(self, segment: str, slice_index: int, mask: NDArray[np.bool_], score: float, finished: bool) -> None:
        """The running propagation has a result.

        Args:
            mask: what the network said.
            score: its quality.
            finished: whether the propagation came by; False for prompted slices off its way.
        """
        self._segments[segment].results[slice_index] = Result(pack(mask), score)
        if finished and self._place is not None:
            self._note(finished=(*self._propagated.finished, (segment, slice_index)))

    @property
    def place(self) -> int | None:
        """Where the running propagation stands in the journal."""
        return self._place

    @property
    def count(self) -> int:
        """How many updates the running propagation has had."""
        return len(self._propagated.finished) if self._place is not None else 0

    def end(self, complete: bool) -> None:
        """The propagation is over: it ran to its end, or was stopped."""
        if self._place is not None:
            self._note(complete=complete)
            self._place = None

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _propagated(self) -> log.Propagated:
        assert self._place is not None
        entry = self.journal[self._place]
        assert isinstance(entry, log.Propagated)
        return entry

    def _note(self, **changed: Any) -> None:
        assert self._place is not None
        old, new = self._propagated, msgspec.structs.replace(self._propagated, **changed)
        self.journal[self._place] = new
        self._changes = [replace(c, entry=new) if c.entry is old else c for c in self._changes]

    def _slice(self, packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return unpack(packed, (self.frames.rows, self.frames.columns))

    def _segment(self, name: str) -> _Segment:
        if name not in self._segments:
            known = ", ".join(map(repr, self._segments)) or "none"
            raise InputError(f"there is no segment {name!r}; segments are: {known}")
        return self._segments[name]

    def _commit(self, entry: Entry, before: Mapping[str, _Segment | None]) -> None:
        self.journal.append(entry)
        self._changes.append(_Change(entry, before, {name: self._segments[name] for name in before}))
        self._undone.clear()


def _drawn(state: _Segment) -> set[int]:
    """Slices that the user drew at some time."""
    return {prompt.slice_index for prompt in state.prompts if isinstance(prompt, Mask)}
