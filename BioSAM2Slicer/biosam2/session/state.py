"""A session as data: settings, entries and a head. Everything that is not the network's output is derived from them.

Immutable and without torch: a session in this process, a worker, a server, a client and Slicer's panel hold the same.
The network's output is a cache beside it (see `results` and `executor`), keyed by the entry that made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PromptError
from ..frames import Frames
from ..io.segmented import labelmap_of
from ..masks import pack, unpack
from ..prompts import KINDS, Prompt, SlicePrompt
from .entries import Cleared, Entry, Locked, Prompted, Propagated, Removed, Started, from_json, plain, to_json
from .results import ResultStore
from .settings import SessionSettings

# Settings that every record has.
_OLDEST = ("axis", "window", "crop", "policy", "precision")

Direction: TypeAlias = Literal["both", "forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("both", "forward", "backward")


@dataclass(frozen=True)
class Identified:
    """An entry and its identifier, which is unique in its session and never used again."""

    id: int
    entry: Entry


@dataclass(frozen=True, eq=False)
class SegmentState:
    """All that is known of one segment without the network.

    Attributes:
        prompts: in the order in which they were given.
        given: identifiers of the entries that gave them.
        pending: slices whose prompts changed since the last propagation, in the order of their first change.
        results: slice → identifier of the propagation whose result stands there.
        locked: slice → packed mask that the user locked.
        start: packed mask that the segment started from, all slices, or None.
        conditioning: slices that carried prompts at the last propagation and still do.
        interpolated: slices whose result was interpolated between its neighbours'.
    """

    prompts: tuple[Prompt, ...] = ()
    given: tuple[int, ...] = ()
    pending: tuple[int, ...] = ()
    results: Mapping[int, int] = field(default_factory=dict)
    locked: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    start: NDArray[np.uint8] | None = None
    conditioning: frozenset[int] = frozenset()
    interpolated: frozenset[int] = frozenset()


Segments: TypeAlias = Mapping[str, SegmentState]


class SessionState:
    """The entries of a session and how many of them are in force.

    Args:
        settings: of the session.
        frames: the volume's slices along the session's axis.

    Example:
        >>> state = SessionState(settings, frames).with_entry(1, Prompted("lesion", Point((3, 4, 5))))
        >>> state.prompts("lesion")
        >>> state.undone().segments
    """

    def __init__(
        self,
        settings: SessionSettings,
        frames: Frames,
        entries: tuple[Identified, ...] = (),
        head: int = 0,
        folds: tuple[Segments, ...] = ({},),
    ) -> None:
        self.settings = settings
        self.frames = frames
        # All entries, those that were undone last; how many are in force; the segments after 0, 1, 2, … of them.
        self._entries = entries
        self._head = head
        self._folds = folds

    # -- entries ---------------------------------------------------------------------------------

    @property
    def in_force(self) -> tuple[Identified, ...]:
        """The entries in force, in order."""
        return self._entries[: self._head]

    @property
    def undone_entries(self) -> tuple[Identified, ...]:
        """The entries that were undone, the next one to be redone first."""
        return self._entries[self._head :]

    @property
    def head(self) -> int:
        """Identifier of the last entry in force, 0 where there is none."""
        return self._entries[self._head - 1].id if self._head else 0

    def with_entry(self, entry_id: int, entry: Entry) -> SessionState:
        """The state after one more entry; entries that were undone are gone.

        Args:
            entry_id: larger than any identifier that the session has used.
            entry: what happened.

        Raises:
            InputError, PromptError: the entry does not fit the session, see `check`.
        """
        self.check(entry)
        entries = (*self.in_force, Identified(entry_id, entry))
        folds = (*self._folds[: self._head + 1], _applied(self._segments, entry_id, entry, self.frames))
        return SessionState(self.settings, self.frames, entries, len(entries), folds)

    def with_progress(self, entry_id: int, entry: Propagated) -> SessionState:
        """The state with another version of a propagation in force, which goes on while others follow it.

        Args:
            entry_id: of the propagation, which is in force.
            entry: the propagation with what it has finished since.
        """
        place = next(n for n in range(self._head - 1, -1, -1) if self._entries[n].id == entry_id)
        later = self._entries[place + 1 :]
        entries = (*self._entries[:place], Identified(entry_id, entry), *later)
        folds = list(self._folds[: place + 1])
        for each in entries[place:]:
            folds.append(_applied(folds[-1], each.id, each.entry, self.frames))
        return SessionState(self.settings, self.frames, entries, self._head, tuple(folds))

    def before(self, entry_id: int) -> SessionState:
        """The state before an entry in force, and nothing undone."""
        return self._until(next(n for n, each in enumerate(self.in_force) if each.id == entry_id))

    def up_to(self, entry_id: int) -> SessionState | None:
        """The state whose head an entry in force is (0: before all), and nothing undone; None if it is not in force."""
        if entry_id == 0:
            return self._until(0)
        return next((self._until(n) for n, each in enumerate(self.in_force, start=1) if each.id == entry_id), None)

    def _until(self, head: int) -> SessionState:
        return SessionState(self.settings, self.frames, self._entries[:head], head, self._folds[: head + 1])

    def undone(self) -> SessionState | None:
        """The state with its last entry taken back; None where there is none."""
        return self._moved(self._head - 1) if self._head else None

    def redone(self) -> SessionState | None:
        """The state with the entry undone last in force again; None where there is none."""
        return self._moved(self._head + 1) if self._head < len(self._entries) else None

    def moved_to(self, entry_id: int) -> SessionState:
        """The state with the head on the last known entry up to an identifier, in force or undone; 0: before all."""
        return self._moved(sum(each.id <= entry_id for each in self._entries))

    def without(self, entry_id: int) -> SessionState:
        """The state without an entry in force that the network refused, and nothing undone.

        Later entries keep their identifiers; those that do not fit without it are left out too.
        """
        state = self.before(entry_id)
        refused, *later = (each for each in self.in_force if each.id >= entry_id)
        segment = refused.entry.segment if isinstance(refused.entry, Prompted) else None
        # Where the refused prompt stands among its segment's.
        place = len(state._segments.get(segment, SegmentState()).prompts) if segment is not None else -1
        for each in later:
            entry = each.entry
            if place >= 0 and isinstance(entry, Cleared) and entry.segment == segment:
                place = -1
            elif place >= 0 and isinstance(entry, Removed) and entry.segment == segment:
                if entry.position == place:
                    place = -1
                    continue
                if entry.position > place:
                    entry = Removed(entry.segment, entry.position - 1)
                else:
                    place -= 1
            try:
                state = state.with_entry(each.id, entry)
            except InputError:
                continue
        return state

    def _moved(self, head: int) -> SessionState:
        return SessionState(self.settings, self.frames, self._entries, head, self._folds)

    def check(self, entry: Entry) -> None:
        """Refuse an entry that does not fit: a segment or slice that is not there, a mask of another shape, a range.

        Raises:
            InputError: it does not fit the session.
            PromptError: a prompt lies outside the volume, belongs to another axis, or has the wrong shape.
        """
        match entry:
            case Prompted():
                _check_name(entry.segment)
                if not isinstance(entry.prompt, KINDS):
                    *most, last = (f"a {kind.__name__}" for kind in KINDS)
                    raise PromptError(f"a prompt is {', '.join(most)} or {last}, not {type(entry.prompt).__name__}")
                entry.prompt.check(self.frames)
                known = self._segments.get(entry.segment)
                drawn = entry.prompt.alone(self.frames).mask
                if drawn is not None and not drawn.any() and (known is None or not known.prompts):
                    raise PromptError("an empty mask cannot start a segment; mark the target with a point, box or mask")
            case Removed():
                self.position_of(entry.segment, entry.position)
            case Started():
                _check_name(entry.segment)
                if entry.mask.shape != self.frames.volume.shape:
                    raise InputError(
                        f"the mask's shape {entry.mask.shape} is not the volume's {self.frames.volume.shape}"
                    )
                if not entry.mask.any():
                    raise InputError(f"the mask that segment {entry.segment!r} is to start from is empty")
            case Locked():
                self.segment(entry.segment)
                self.frames.check_index(entry.slice_index)
                shape = (self.frames.rows, self.frames.columns)
                if entry.locked and (entry.mask is None or entry.mask.shape != shape):
                    given = None if entry.mask is None else entry.mask.shape
                    raise InputError(f"the mask's shape {given} is not the slice's {shape}")
            case Cleared():
                self.segment(entry.segment)
            case Propagated():
                self.to_propagate(entry.segments, entry.direction, entry.first, entry.last)

    # -- segments --------------------------------------------------------------------------------

    @property
    def segments(self) -> tuple[str, ...]:
        """Names, in order of creation."""
        return tuple(self._segments)

    @property
    def prompted(self) -> tuple[str, ...]:
        """Names of segments with prompts, in order of creation."""
        return tuple(name for name, state in self._segments.items() if state.prompts)

    @property
    def _segments(self) -> Segments:
        return self._folds[self._head]

    def segment(self, name: str) -> SegmentState:
        """What is known of a segment.

        Raises:
            InputError: there is no such segment.
        """
        if name not in self._segments:
            known = ", ".join(map(repr, self._segments)) or "none"
            raise InputError(f"there is no segment {name!r}; segments are: {known}")
        return self._segments[name]

    def prompts(self, name: str) -> tuple[Prompt, ...]:
        """A segment's prompts, in the order in which they were given."""
        return self.segment(name).prompts

    def prompted_slices(self, name: str) -> set[int]:
        """Slices with a prompt of the segment: its conditioning slices, from the next propagation on."""
        return {prompt.slice_of(self.frames) for prompt in self.segment(name).prompts}

    def prompt_on(self, name: str, slice_index: int) -> SlicePrompt | None:
        """All that the segment was told about a slice, as one call of the network; None where nothing was said.

        Args:
            name: of the segment.
            slice_index: counted along the session's axis, from 0.
        """
        return _prompt_on(self.segment(name), slice_index, self.frames)

    def told_with(self, name: str, prompt: Prompt) -> SlicePrompt:
        """All that a segment would be told about a prompt's slice with that prompt too.

        Args:
            name: of the segment, which may be new.
            prompt: the prompt.
        """
        s = prompt.slice_of(self.frames)
        told = _prompt_on(self._segments.get(name, SegmentState()), s, self.frames)
        return prompt.add_to(told or SlicePrompt(s), self.frames)

    def position_of(self, name: str, prompt: Prompt | int) -> int:
        """Where a prompt stands among the segment's.

        Args:
            name: of the segment.
            prompt: one of its prompts, or the position itself; a negative one counts from the end.

        Raises:
            InputError: there is no such segment or prompt.
        """
        prompts = self.segment(name).prompts
        try:
            position = prompt if isinstance(prompt, int) else prompts.index(prompt)
            prompts[position]
        except (ValueError, IndexError):
            raise InputError(f"segment {name!r} has no prompt {prompt!r}") from None
        return position % len(prompts)

    # -- whose a slice is, and what it shows -----------------------------------------------------

    def drawn_slices(self, name: str) -> set[int]:
        """Slices that the user drew a mask on, whether or not later prompts refined it."""
        return {prompt.slice_of(self.frames) for prompt in self.segment(name).prompts if prompt.draws}

    def user_slices(self, name: str) -> set[int]:
        """Slices whose mask is the user's own: locked, or prompted by a mask that nothing refined."""
        state = self.segment(name)
        last = {prompt.slice_of(self.frames): prompt.draws for prompt in state.prompts}
        return set(state.locked) | {s for s, draws in last.items() if draws}

    def first_drawn(self, name: str, slice_index: int) -> tuple[int, Prompt] | None:
        """The first of the prompts that drew the mask which is the user's own on a slice, and its entry's identifier.

        Args:
            name: of the segment, which may be new.
            slice_index: counted along the session's axis, from 0.

        Returns:
            None where no mask was drawn, or clicks refined it.
        """
        first = None
        state = self._segments.get(name, SegmentState())
        for entry_id, prompt in zip(state.given, state.prompts, strict=True):
            if prompt.slice_of(self.frames) == slice_index:
                first = (first or (entry_id, prompt)) if prompt.draws else None
        return first

    def user_mask(self, name: str, slice_index: int) -> NDArray[np.bool_] | None:
        """The user's own pixels on a slice that the user owns, bool (rows, columns); None where it is not.

        Args:
            name: of the segment.
            slice_index: counted along the session's axis, from 0.
        """
        state = self.segment(name)
        if slice_index in state.locked:
            return self._slice(state.locked[slice_index])
        told = _prompt_on(state, slice_index, self.frames)
        return None if told is None or told.mask is None else told.mask.copy()

    def finished_slices(self, name: str) -> tuple[int, ...]:
        """Slices with a result or the user's own mask, ascending."""
        state = self.segment(name)
        return tuple(sorted({*state.results, *state.locked, *self.drawn_slices(name)}))

    def interpolated_slices(self, name: str) -> tuple[int, ...]:
        """Slices that show a result which was interpolated between its neighbours', ascending."""
        return tuple(sorted(self.segment(name).interpolated - self.user_slices(name)))

    def is_to_predict(self, name: str, slice_index: int) -> bool:
        """Whether what a slice shows has to be asked of the network: it is prompted, and no result tells it yet.

        Args:
            name: of the segment.
            slice_index: counted along the session's axis, from 0.

        Raises:
            InputError: there is no such segment or slice.
        """
        state = self.segment(name)
        self.frames.check_index(slice_index)
        if self.user_mask(name, slice_index) is not None or self.prompt_on(name, slice_index) is None:
            return False
        return slice_index not in state.results or slice_index in state.pending

    def mask_on(self, name: str, slice_index: int, results: ResultStore) -> NDArray[np.bool_]:
        """What a slice shows: the user's own pixels, else the result, else what the segment started from.

        Args:
            name: the segment.
            slice_index: the slice.
            results: where the network's masks are.

        Returns:
            bool (rows, columns).
        """
        own = self.user_mask(name, slice_index)
        if own is not None:
            return own
        state = self.segment(name)
        if slice_index in state.results:
            return self._slice(results.get(state.results[slice_index], name, slice_index).mask)
        if state.start is not None:
            return self.frames.unstack(unpack(state.start, self.frames.volume.shape))[slice_index].copy()
        return np.zeros((self.frames.rows, self.frames.columns), dtype=bool)

    def mask(self, name: str, results: ResultStore) -> NDArray[np.bool_]:
        """A segment, bool (K, J, I): what its slices show.

        Args:
            name: of the segment.
            results: the masks that the network found.
        """
        state, frames = self.segment(name), self.frames
        stack = np.zeros((frames.count, frames.rows, frames.columns), dtype=bool)
        if state.start is not None:
            stack[:] = frames.unstack(unpack(state.start, frames.volume.shape))
        for s, made_by in state.results.items():
            stack[s] = self._slice(results.get(made_by, name, s).mask)
        for s in self.user_slices(name):
            stack[s] = self.user_mask(name, s)
        return np.ascontiguousarray(frames.stack(stack))

    def labelmap(self, results: ResultStore) -> NDArray[np.unsignedinteger]:
        """All segments as labels 1, 2, … in order of creation: uint8 or uint16 (K, J, I); the later one on overlap."""
        return labelmap_of(self.frames.volume.shape, self.segments, lambda name: self.mask(name, results))

    def result_of(self, name: str, slice_index: int) -> int:
        """Identifier of the propagation whose result a slice has.

        Args:
            name: of the segment.
            slice_index: counted along the session's axis, from 0.

        Raises:
            InputError: there is no such segment or slice, or it has no result there.
        """
        results = self.segment(name).results
        if self.frames.check_index(slice_index) not in results:
            raise InputError(f"segment {name!r} has no result on slice {slice_index}; propagate first")
        return results[slice_index]

    def _slice(self, packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return unpack(packed, (self.frames.rows, self.frames.columns))

    # -- propagation -----------------------------------------------------------------------------

    def to_propagate(
        self, segments: Iterable[str] | None, direction: str, first: int | None, last: int | None
    ) -> tuple[str, ...]:
        """Names of the segments that a propagation would carry, in order of creation.

        Args:
            segments: names; None for all that have prompts.
            direction: one of `DIRECTIONS`.
            first: the first slice of the range; None for no bound.
            last: the last slice, inclusive; None for no bound.

        Raises:
            PromptError: a segment carries no prompt.
            InputError: no such segment, direction or range.
        """
        if direction not in DIRECTIONS:
            raise InputError(f"there is no direction {direction!r}; use both, forward or backward")
        for bound in (first, last):
            if bound is not None:
                self.frames.check_index(bound)
        if first is not None and last is not None and first > last:
            raise InputError(f"the range is empty: first slice {first}, last slice {last}")
        if isinstance(segments, str):
            raise InputError(f"segments are a list of names; use [{segments!r}]")
        if segments is None:
            if not self.prompted:
                raise PromptError("nothing to propagate: no segment has a prompt")
            return self.prompted
        asked = list(segments)
        for name in asked:
            if not self.segment(name).prompts:
                raise PromptError(f"segment {name!r} has no prompt; add a point, a box or a mask first")
        return tuple(name for name in self._segments if name in asked)

    def ranges(self, name: str, direction: str, first: int | None, last: int | None) -> tuple[range, range]:
        """Slices of the forward and of the backward sweep of a segment, in their order.

        Args:
            name: of the segment.
            direction: one of `DIRECTIONS`.
            first: the lowest slice; None for the lowest that the segment's boxes allow.
            last: the highest slice, inclusive; None for the highest that they allow.
        """
        state = self.segment(name)
        low, high = self.bounds(name)
        low, high = max(low, first or 0), min(high, self.frames.count - 1 if last is None else last)
        start = min(self.prompted_slices(name))
        forward = range(max(start, low), high + 1)
        backward = range(min(start, high), low - 1, -1)
        if direction == "backward":
            forward = range(0)
        # SAM 2 leaves out a backward sweep that would start at slice 0.
        if direction == "forward" or start == 0:
            backward = range(0)
        if direction != "forward" and self.follows_corrections(name):
            backward = range(min(max(state.pending), high), low - 1, -1)
        return forward, backward

    def bounds(self, name: str) -> tuple[int, int]:
        """First and last slice that a segment's prompts allow: boxes over several slices bound, others widen that."""
        prompts = self.segment(name).prompts
        spans = [span for prompt in prompts if (span := prompt.span(self.frames)) is not None]
        if not spans:
            return 0, self.frames.count - 1
        slices = [prompt.slice_of(self.frames) for prompt in prompts]
        return min(slices + [low for low, _ in spans]), max(slices + [high for _, high in spans])

    def follows_corrections(self, name: str) -> bool:
        """Whether a propagation passes only what the corrections since the last one change. Approximate."""
        state = self.segment(name)
        return self.settings.speed.local and bool(state.pending) and bool(state.results.keys() - state.conditioning)

    def count_steps(self, segments: Iterable[str] | None, direction: str, first: int | None, last: int | None) -> int:
        """How many updates a propagation would have, see `to_propagate`; at most, where it may end early.

        Args:
            segments: names; None for all that have prompts.
            direction: one of `DIRECTIONS`.
            first: the first slice of the range; None for no bound.
            last: the last slice, inclusive; None for no bound.
        """
        total = 0
        for name in self.to_propagate(segments, direction, first, last):
            forward, backward = self.ranges(name, direction, first, last)
            total += len(set(forward) | set(backward))
        return total

    # -- the record ------------------------------------------------------------------------------

    def to_record(self, precision: str) -> dict[str, Any]:
        """Settings and entries in force as JSON data.

        Args:
            precision: which the results were computed in, where the settings leave it open.

        Raises:
            InputError: the memory policy is an object of its own, which a record cannot name.
        """
        if self.settings.policy is None:
            raise InputError("a session with a memory policy of its own has no record; give a policy by its name")
        settings = msgspec.structs.replace(self.settings, precision=precision)
        return {**plain(settings), "journal": [to_json(each.entry) for each in self.in_force]}


def read_record(record: Mapping[str, Any]) -> tuple[dict[str, Any], list[Entry]]:
    """What `SessionState.to_record` told: the settings, as arguments of `Session`, and the entries.

    Raises:
        InputError: the record is damaged.
    """
    try:
        settings = {name: record[name] for name in _OLDEST}
        # Options that came later are as by default in records of before.
        settings |= {name: record[name] for name in SessionSettings.__struct_fields__ if name in record}
        resolved = SessionSettings.from_json(settings)
        return msgspec.structs.asdict(resolved), [from_json(entry) for entry in record["journal"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"the record lacks {error}; it is not one that biosam2 wrote") from error


def _prompt_on(state: SegmentState, slice_index: int, frames: Frames) -> SlicePrompt | None:
    told: SlicePrompt | None = None
    for prompt in state.prompts:
        if prompt.slice_of(frames) == slice_index:
            told = prompt.add_to(told or SlicePrompt(slice_index), frames)
    return told


# What each entry does to the segments ---------------------------------------------------------------------------------


def _applied(segments: Segments, entry_id: int, entry: Entry, frames: Frames) -> Segments:
    """The segments after an entry."""
    if isinstance(entry, Propagated):
        return {
            name: _propagated(state, entry_id, name, entry, frames) if name in entry.segments else state
            for name, state in segments.items()
        }
    state = segments.get(entry.segment, SegmentState())
    return {**segments, entry.segment: _changed(state, entry_id, entry, frames)}


def _changed(state: SegmentState, entry_id: int, entry: Entry, frames: Frames) -> SegmentState:
    match entry:
        case Prompted():
            pending = _once(state.pending, entry.prompt.slice_of(frames))
            prompts, given = (*state.prompts, entry.prompt), (*state.given, entry_id)
            return replace(state, prompts=prompts, given=given, pending=pending)
        case Removed():
            prompts = state.prompts[: entry.position] + state.prompts[entry.position + 1 :]
            given = state.given[: entry.position] + state.given[entry.position + 1 :]
            s = state.prompts[entry.position].slice_of(frames)
            if any(prompt.slice_of(frames) == s for prompt in prompts):
                return replace(state, prompts=prompts, given=given, pending=_once(state.pending, s))
            # As SAM 2 does: what the slice showed is remembered like any other slice's result.
            pending = tuple(p for p in state.pending if p != s)
            conditioning = state.conditioning - {s}
            return replace(state, prompts=prompts, given=given, pending=pending, conditioning=conditioning)
        case Started():
            return replace(state, start=pack(entry.mask))
        case Locked():
            locked = {s: mask for s, mask in state.locked.items() if s != entry.slice_index}
            if entry.locked:
                assert entry.mask is not None
                locked[entry.slice_index] = pack(entry.mask)
            return replace(state, locked=locked)
        case Cleared():
            return SegmentState()
    raise TypeError(type(entry).__name__)


def _propagated(state: SegmentState, entry_id: int, name: str, entry: Propagated, frames: Frames) -> SegmentState:
    # Results on prompted slices are there from the moment when the propagation begins, wherever its way leads.
    results = {**state.results, **dict.fromkeys(state.pending, entry_id)}
    ran = {*state.pending, *(s for segment, s in entry.finished if segment == name)}
    results.update((s, entry_id) for segment, s in entry.finished if segment == name)
    for segment, s in entry.gone:
        if segment == name:
            results.pop(s, None)
    conditioning = frozenset(prompt.slice_of(frames) for prompt in state.prompts)
    newly = {s for segment, s in entry.interpolated if segment == name}
    interpolated = frozenset((state.interpolated.difference(ran) | newly) & results.keys())
    return replace(state, pending=(), results=results, conditioning=conditioning, interpolated=interpolated)


def _check_name(segment: str) -> None:
    if not isinstance(segment, str) or not segment.strip():
        raise InputError("a segment needs a name")


def _once(slices: Sequence[int], s: int) -> tuple[int, ...]:
    return tuple(slices) if s in slices else (*slices, s)
