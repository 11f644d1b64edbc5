"""A session: prompts in, masks out, undo. The one conversation between a user and the network about a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import journal as log
from .cropping import choose_region, follow
from .errors import InputError, PromptError
from .features import FeatureCache
from .frames import Frames, Region
from .journal import Entry
from .masks import dice, pack, unpack
from .memory import MemoryBank, MemoryPolicy, SliceMemory, make_policy
from .ownership import own_mask, own_slices, whole_mask
from .placement import SlicePrompt, bounds, check_prompt, reduce_prompts, slice_of
from .prompts import Mask, Prompt
from .speed import Speed
from .tracker import Tracker
from .update import Update
from .volume import Volume

if TYPE_CHECKING:
    import torch

    from .models import Model

Direction = Literal["both", "forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("both", "forward", "backward")
# A mask that reaches the crop's border is looked at again in a larger one, at most this often on a slice.
_REGROWTHS = 3
# Masks agree from this Dice on; a sweep from a correction ends after so many slices in a row that agree.
_AGREEMENT = 0.99
_AGREEING = 2


@dataclass(frozen=True, eq=False)
class _Segment:
    """All state of one segment; replaced, never changed, so that undo can go back to it (the bank: copied on write)."""

    prompts: tuple[Prompt, ...] = ()
    # Slices whose prompts changed since the last propagation, in the order of their first change.
    pending: tuple[int, ...] = ()
    bank: MemoryBank = field(default_factory=MemoryBank.empty)
    # Packed masks of slices that the user locked.
    locked: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    # Packed mask that the segment started from, all slices, or None.
    start: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class _Change:
    """What one journal entry changed: segments before and after it; None where a segment did not exist."""

    before: Mapping[str, _Segment | None]
    after: Mapping[str, _Segment]


@dataclass
class _Sweep:
    """One segment's part in a running propagation."""

    name: str
    bank: MemoryBank
    forward: range
    backward: range
    region: Region
    # For a sweep that only follows corrections: the corrected slices, and what the segment was before.
    fresh: frozenset[int] = frozenset()
    before: MemoryBank = field(default_factory=MemoryBank.empty)
    # As it was when the propagation began: slices that were the user's own, and whether there was a mask to start from.
    # What the user does meanwhile must not change which slices are finished, or the journal could not be replayed.
    own: frozenset[int] = frozenset()
    started: bool = False
    # Whether it is changing anything at the moment; whether the segment has ended; and how many slices in a row
    # showed what they had shown before, and showed nothing.
    active: bool = True
    over: bool = False
    agreeing: int = 0
    absent: int = 0

    def begin(self, backward: bool) -> range:
        """Start in a direction; the slices to pass, in their order."""
        slices = self.backward if backward else self.forward
        self.region = self.bank.conditioning[min(self.bank.conditioning)].region
        # A correction that lies behind the range takes effect from its first slice on.
        behind = any((s > slices.start if backward else s < slices.start) for s in self.fresh)
        self.active = not self.fresh or behind
        self.over = False
        self.agreeing = self.absent = 0
        return slices


class Session:
    """Prompts in, masks out, on one volume along one axis. Not thread-safe.

    Args:
        model: the network.
        volume: the voxels; a 2D image is a volume of one slice, a cine a volume of its frames.
        axis: ``"i"``, ``"j"``, ``"k"``, or ``"axial"``, ``"coronal"``, ``"sagittal"``.
        window: (centre, width) in the voxels' unit, the name of a CT preset, or None for robust percentiles.
        crop: None (exact): the network sees whole slices; ``"auto"`` (approximate): it sees a crop around a target
            that fills less than a quarter of the slice, following it as it grows.
        policy: the memory bank's policy: ``"sam2"`` (exact), ``"path"``, ``"quality"`` or ``"dissimilar"``
            (approximate), or an instance of `MemoryPolicy`.
        precision: ``"float32"`` (exact); ``"bfloat16"``, ``"float16"`` or ``"auto"`` (approximate).
        features: where encoded slices are kept; by default a cache of its own.
        speed: which short cuts are taken; by default the exact ones.

    Raises:
        InputError: an unknown axis, window, crop or policy.

    Example:
        >>> session = Session(load_model("nano"), read_volume("image.nrrd"))
        >>> session.add_prompt("lesion", Point(ijk=(120, 98, 12)))
        >>> for update in session.propagate(["lesion"]):
        ...     print(update.slice_index, update.score)
        >>> mask = session.mask("lesion")
    """

    def __init__(
        self,
        model: Model,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        crop: Literal["auto"] | None = None,
        policy: str | MemoryPolicy | None = None,
        precision: str = "float32",
        features: FeatureCache | None = None,
        speed: Speed | None = None,
    ) -> None:
        if crop not in (None, "auto"):
            raise InputError(f"crop must be None or 'auto', not {crop!r}")
        self.model = model
        self.volume = volume
        self.crop = crop
        self.frames = Frames(volume, axis, window, model.image_size)
        self._policy_name = "sam2" if policy is None else policy if isinstance(policy, str) else None
        self.speed = speed or Speed()
        self._tracker = Tracker(model, self.frames, make_policy(policy), features, precision, self.speed)
        self._segments: dict[str, _Segment] = {}
        self._changes: list[_Change] = []
        self._undone: list[_Change] = []
        self._journal: list[Entry] = []
        self._running: Iterator[Update] | None = None
        self._cancelled = False

    # -- what there is ---------------------------------------------------------------------------

    @property
    def axis(self) -> str:
        """Index axis along which slices are counted: ``"i"``, ``"j"`` or ``"k"``."""
        return self.frames.axis

    @property
    def number_of_slices(self) -> int:
        """Number of slices along the axis."""
        return self.frames.count

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the segments, in order of creation."""
        return tuple(self._segments)

    @property
    def journal(self) -> tuple[Entry, ...]:
        """Everything that happened, in order."""
        return tuple(self._journal)

    def prompts(self, segment: str) -> tuple[Prompt, ...]:
        """The segment's prompts, in the order in which they were given.

        Raises:
            InputError: there is no such segment.
        """
        return self._segment(segment).prompts

    def finished_slices(self, segment: str) -> tuple[int, ...]:
        """Slices on which the segment has a result or the user's own mask, in ascending order.

        Raises:
            InputError: there is no such segment.
        """
        state = self._segment(segment)
        found = {memory.slice_index for memory in state.bank.results()} | own_slices(state.prompts, state.locked)
        return tuple(sorted(found))

    def frame_tensor(self, slice_index: int) -> torch.Tensor:
        """What the image encoder is given for a whole slice: float32 (3, S, S).

        Raises:
            InputError: there is no such slice.
        """
        return self.frames.tensor(slice_index, self.frames.whole)

    # -- prompts ---------------------------------------------------------------------------------

    def add_prompt(self, segment: str, prompt: Prompt) -> None:
        """Tell the session something about a segment, which is created if it is new.

        A box over several slices prompts its middle slice and bounds the propagation. A mask replaces the points
        and boxes of its slice; later points refine it.

        Raises:
            PromptError: the prompt lies outside the volume, belongs to another axis, has the wrong shape, or
                vanishes at the network's resolution.
        """
        _check_name(segment)
        known = self._segments.get(segment)
        self._check(prompt, known)
        slice_index = slice_of(prompt, self.frames)
        before = {segment: known}
        state = known or _Segment()
        pending = state.pending if slice_index in state.pending else (*state.pending, slice_index)
        self._segments[segment] = replace(state, prompts=(*state.prompts, prompt), pending=pending)
        self._commit(log.Prompted(segment, prompt), before)

    def remove_prompt(self, segment: str, prompt: Prompt | int) -> None:
        """Take back one prompt, wherever it stands in the order; results of propagations stay.

        Args:
            segment: the segment.
            prompt: the prompt itself, or its position in `prompts`.

        Raises:
            InputError: there is no such segment or prompt.
        """
        state = self._segment(segment)
        self._finish_running()
        try:
            position = prompt if isinstance(prompt, int) else state.prompts.index(prompt)
            removed = state.prompts[position]
        except (ValueError, IndexError):
            raise InputError(f"segment {segment!r} has no prompt {prompt!r}") from None
        position %= len(state.prompts)
        slice_index = slice_of(removed, self.frames)
        prompts = state.prompts[:position] + state.prompts[position + 1 :]
        before = {segment: state}
        if any(slice_of(p, self.frames) == slice_index for p in prompts):
            pending = state.pending if slice_index in state.pending else (*state.pending, slice_index)
            self._segments[segment] = replace(state, prompts=prompts, pending=pending)
        else:
            # As SAM 2 does: what the slice showed is remembered like any other slice's result.
            bank = state.bank.copy()
            result = bank.conditioning.pop(slice_index, None)
            if result is not None:
                bank.swept[slice_index] = result
                bank.visited.pop(slice_index, None)
            pending = tuple(s for s in state.pending if s != slice_index)
            self._segments[segment] = replace(state, prompts=prompts, pending=pending, bank=bank)
        self._commit(log.Removed(segment, position), before)

    def start_from(self, segment: str, mask: NDArray) -> None:
        """Let a segment start from an existing mask, which stands wherever nothing newer does.

        Args:
            segment: the segment, created if it is new.
            mask: (K, J, I); non-zero voxels belong to the segment.

        Raises:
            InputError: the mask has another shape, or is empty.
        """
        _check_name(segment)
        mask = np.asarray(mask) != 0
        if mask.shape != self.volume.shape:
            raise InputError(f"the mask's shape {mask.shape} is not the volume's {self.volume.shape}")
        if not mask.any():
            raise InputError(f"the mask that segment {segment!r} is to start from is empty")
        known = self._segments.get(segment)
        before = {segment: known}
        self._segments[segment] = replace(known or _Segment(), start=pack(mask))
        self._commit(log.Started(segment, mask), before)

    def lock(self, segment: str, slice_index: int, locked: bool = True, mask: NDArray | None = None) -> None:
        """Keep a slice of a segment as it is now, whatever is propagated later; or let go of it again.

        Args:
            segment: the segment.
            slice_index: the slice.
            locked: whether it is locked or let go of.
            mask: (rows, columns), what is kept; by default what the slice shows now.

        Raises:
            InputError: there is no such segment or slice, or the mask has another shape.
        """
        state = self._segment(segment)
        self.frames.check_index(slice_index)
        masks = dict(state.locked)
        kept = None
        if locked:
            kept = self._mask_on(state, slice_index) if mask is None else np.asarray(mask) != 0
            if kept.shape != (self.frames.rows, self.frames.columns):
                raise InputError(
                    f"the mask's shape {kept.shape} is not the slice's {self.frames.rows, self.frames.columns}"
                )
            masks[slice_index] = pack(kept)
        else:
            masks.pop(slice_index, None)
        before = {segment: state}
        self._segments[segment] = replace(state, locked=masks)
        self._commit(log.Locked(segment, slice_index, locked, kept), before)

    def clear(self, segment: str) -> None:
        """Drop all prompts and masks of a segment; the segment itself stays.

        Raises:
            InputError: there is no such segment.
        """
        before = {segment: self._segment(segment)}
        self._finish_running()
        self._segments[segment] = _Segment()
        self._commit(log.Cleared(segment), before)

    # -- masks -----------------------------------------------------------------------------------

    def predict(self, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """The prompted slice alone: bool (rows, columns), as the next propagation will begin with it.

        It is seen without memory. On a slice that a propagation has passed, its result is refined by what was said
        since, in the light of the memories around it, as SAM 2 does; where nothing was said since, it stands. Leaves
        no trace in the session.

        Raises:
            PromptError: the slice carries no prompt of this segment.
            InputError: there is no such segment or slice.
            DeviceError: out of memory.
        """
        state = self._segment(segment)
        self.frames.check_index(slice_index)
        own = self._own_mask(state, slice_index)
        if own is not None:
            return own
        prompt = reduce_prompts(state.prompts, slice_index, self.frames)
        if prompt is None:
            raise PromptError(f"segment {segment!r} has no prompt on slice {slice_index}")
        previous = state.bank.result(slice_index)
        if previous is None or slice_index in state.pending:
            previous = self._prompted(prompt, state.bank)
        return self._unpacked(previous.mask)

    def encode_ahead(self, busy: Callable[[], bool]) -> bool:
        """In idle time: encode one more slice around the one prompted last, as a propagation will ask for it.

        Leaves no trace but in the cache of encoded slices.

        Args:
            busy: whether somebody waits; then the slice is given up in the middle.

        Returns:
            Whether there is more to do.
        """
        return self.speed.ahead and self._tracker.encode_ahead(busy)

    def propagate(
        self,
        segments: Iterable[str] | None = None,
        direction: Direction = "both",
        first: int | None = None,
        last: int | None = None,
    ) -> Iterator[Update]:
        """Carry segments through the volume, slice by slice, from their earliest prompted slice.

        Forward first, then backward, which sees the forward memories, as SAM 2 does. Slices prompted outside the
        range still take part as memories. Arguments are checked at once; work is done as the iterator is advanced,
        and what it has yielded stands when it is closed or `cancel` is called.

        Args:
            segments: names; by default all that carry prompts.
            direction: ``"both"``, ``"forward"`` (rising slice index) or ``"backward"``.
            first: lowest slice of the range; by default the lowest that the segment's boxes allow.
            last: highest slice of the range, inclusive.

        Raises:
            PromptError: a segment carries no prompt.
            InputError: no such segment, direction or range.
            DeviceError: out of memory (while iterating).
        """
        names = self._to_propagate(segments, direction, first, last)
        self._finish_running()
        self._cancelled = False
        self._running = self._propagating(names, direction, first, last)
        return self._running

    def count_steps(
        self,
        segments: Iterable[str] | None = None,
        direction: Direction = "both",
        first: int | None = None,
        last: int | None = None,
    ) -> int:
        """How many updates `propagate` would yield with these arguments; at most, where approximate short cuts may
        end a sweep early.

        Raises:
            PromptError, InputError: as `propagate`.
        """
        total = 0
        for name in self._to_propagate(segments, direction, first, last):
            state = self._segments[name]
            forward, backward = self._ranges(state, direction, first, last)
            total += len(set(forward) | set(backward))
        return total

    def cancel(self) -> None:
        """Stop a running propagation after the slice that it is at; finished slices stay."""
        self._cancelled = True

    def mask(self, segment: str) -> NDArray[np.bool_]:
        """The segment, bool (K, J, I): results of propagations, and the user's own pixels where slices are theirs.

        Raises:
            InputError: there is no such segment.
        """
        state = self._segment(segment)
        results = ((memory.slice_index, memory.mask) for memory in state.bank.results())
        return whole_mask(state.prompts, state.locked, results, state.start, self.frames)

    def labelmap(self) -> NDArray[np.unsignedinteger]:
        """All segments as labels 1, 2, … in order of creation: uint8 or uint16 (K, J, I).

        Voxels of several segments get the later one's label.
        """
        dtype = np.uint8 if len(self._segments) < 256 else np.uint16
        labels = np.zeros(self.volume.shape, dtype=dtype)
        for value, name in enumerate(self._segments, start=1):
            labels[self.mask(name)] = value
        return labels

    def logits(self, segment: str, slice_index: int) -> NDArray[np.float32]:
        """What the network said before thresholding, in the last propagation: float32 (rows, columns).

        Raises:
            InputError: there is no such segment or slice, or it has no result there.
        """
        return self._tracker.full_logits(self._result(segment, slice_index))

    def score(self, segment: str, slice_index: int) -> float:
        """Predicted quality of the last propagation's mask, 0 to 1.

        Raises:
            InputError: there is no such segment or slice, or it has no result there.
        """
        return self._result(segment, slice_index).score

    # -- undo ------------------------------------------------------------------------------------

    def undo(self) -> bool:
        """Take back the last change, prompts together with their masks; False when there is none."""
        self._finish_running()
        if not self._changes:
            return False
        change = self._changes.pop()
        for name, state in change.before.items():
            if state is None:
                del self._segments[name]
            else:
                self._segments[name] = state
        self._undone.append(change)
        self._journal.append(log.Undone())
        self._release(change.after.values())
        return True

    def redo(self) -> bool:
        """Put back in force what was undone last; False when there is nothing."""
        self._finish_running()
        if not self._undone:
            return False
        change = self._undone.pop()
        self._segments.update(change.after)
        self._changes.append(change)
        self._journal.append(log.Redone())
        self._release(state for state in change.before.values() if state is not None)
        return True

    # -- the record ------------------------------------------------------------------------------

    def to_record(self) -> dict[str, Any]:
        """The session as JSON data: its settings and the changes in force; `from_record` gives the same masks.

        Raises:
            InputError: the memory policy is an object of its own, which a record cannot name.
        """
        if self._policy_name is None:
            raise InputError("a session with a memory policy of its own has no record; give a policy by its name")
        return {
            "axis": self.axis,
            "window": list(self.frames.window),
            "crop": self.crop,
            "policy": self._policy_name,
            "precision": self._tracker.precision,
            "speed": self.speed.to_json(),
            "journal": [log.to_json(entry) for entry in log.in_force(self._journal)],
        }

    @classmethod
    def from_record(
        cls,
        record: dict[str, Any],
        model: Model,
        volume: Volume,
        on_update: Callable[[Update], object] | None = None,
    ) -> Session:
        """The session that `to_record` described, its propagations done again.

        Args:
            record: what `to_record` gave.
            model: the network that the record was made with.
            volume: the voxels that it was made with.
            on_update: called with each slice that is done again.

        Raises:
            InputError: the record is damaged, or does not fit the volume.
        """
        settings, entries = log.read_record(record)
        session = cls(model, volume, **settings)
        for entry in entries:
            session.replay(entry, on_update)
        return session

    def replay(self, entry: Entry, on_update: Callable[[Update], object] | None = None) -> None:
        """Do again what a journal entry says, propagations no further than they went.

        Args:
            entry: of another session's journal.
            on_update: called with each slice that is done again.

        Raises:
            InputError, PromptError: the entry does not fit this session.
        """
        if isinstance(entry, log.Prompted):
            self.add_prompt(entry.segment, entry.prompt)
        elif isinstance(entry, log.Removed):
            self.remove_prompt(entry.segment, entry.position)
        elif isinstance(entry, log.Started):
            self.start_from(entry.segment, entry.mask)
        elif isinstance(entry, log.Locked):
            self.lock(entry.segment, entry.slice_index, entry.locked, entry.mask)
        elif isinstance(entry, log.Cleared):
            self.clear(entry.segment)
        elif isinstance(entry, log.Undone):
            self.undo()
        elif isinstance(entry, log.Redone):
            self.redo()
        else:
            updates = self.propagate(entry.segments, entry.direction, entry.first, entry.last)  # type: ignore[arg-type]
            for finished in (*entry.finished, None) if entry.complete else entry.finished:
                update = next(updates, None)
                done = update and (update.segment, update.slice_index)
                if done != finished:
                    raise InputError(f"the journal's propagation finished {finished} where this one did {done}")
                if update and on_update:
                    on_update(update)
            self._finish_running()

    # -- inside: propagation ---------------------------------------------------------------------

    def _propagating(
        self, names: Sequence[str], direction: Direction, first: int | None, last: int | None
    ) -> Iterator[Update]:
        before: dict[str, _Segment | None] = {name: self._segments[name] for name in names}
        try:
            sweeps = [self._prepared(name, direction, first, last) for name in names]
        except BaseException:
            self._segments.update({name: state for name, state in before.items() if state is not None})
            raise
        # In the journal before its first slice, so that prompts given meanwhile come after it.
        entry = log.Propagated(tuple(names), direction, first, last)
        place = len(self._journal)
        self._commit(entry, before)
        finished: list[tuple[str, int]] = []
        try:
            for backward in (False, True):
                for update in self._sweeping(sweeps, backward, finished):
                    self._journal[place] = replace(entry, finished=tuple(finished))
                    yield update
                    if self._cancelled:
                        return
            self._journal[place] = replace(entry, finished=tuple(finished), complete=True)
        finally:
            self._running = None
            self._tracker.rest()
            self._release(state for state in before.values() if state is not None)

    def _prepared(self, name: str, direction: Direction, first: int | None, last: int | None) -> _Sweep:
        """Run the network on slices whose prompts changed, and put the results into a new bank."""
        state = self._segments[name]
        forward, backward = self._ranges(state, direction, first, last)
        bank = state.bank.copy()
        fresh = {}
        for s in state.pending:
            prompt = reduce_prompts(state.prompts, s, self.frames)
            assert prompt is not None
            fresh[s] = self._prompted(prompt, bank)
        for s, memory in fresh.items():
            bank.conditioning[s] = memory
            bank.swept.pop(s, None)
        self._segments[name] = replace(state, pending=(), bank=bank)
        own = {s for s in own_slices(state.prompts, state.locked) if self._own_mask(state, s) is not None}
        sweep = _Sweep(name, bank, forward, backward, bank.conditioning[min(bank.conditioning)].region)
        sweep.own, sweep.started = frozenset(own), state.start is not None
        if self._follows_corrections(state):
            sweep.fresh, sweep.before = frozenset(fresh), state.bank
        return sweep

    def _follows_corrections(self, state: _Segment) -> bool:
        """Whether a propagation passes only what the corrections since the last one change. Approximate."""
        return self.speed.local and bool(state.pending) and bool(state.bank.swept)

    def _sweeping(self, sweeps: Sequence[_Sweep], backward: bool, finished: list[tuple[str, int]]) -> Iterator[Update]:
        seen = set(finished)
        ranges = [sweep.begin(backward) for sweep in sweeps]
        for s in sorted({s for r in ranges for s in r}, reverse=backward):
            here = [sweep for sweep, r in zip(sweeps, ranges, strict=True) if s in r]
            over = [sweep for sweep in here if sweep.over]
            here = [sweep for sweep in here if not sweep.over and _goes_on(sweep, s, (sweep.name, s) in seen)]
            moving = [sweep for sweep in here if s not in sweep.bank.conditioning]
            if moving:
                regions = [sweep.region for sweep in moving]
                results = self._tracker.sweep_step([m.bank for m in moving], regions, s, backward)
                for sweep, result in zip(moving, results, strict=True):
                    sweep.bank.swept[s] = self._followed(sweep, result, backward)
            for sweep in here:
                sweep.bank.visited[s] = backward
                result = sweep.bank.conditioning.get(s) or sweep.bank.swept[s]
                if result.prompted:
                    sweep.region = result.region
                self._leave_behind(sweep, s, backward)
                self._note_end(sweep, result, backward)
                if (sweep.name, s) in seen:
                    continue
                finished.append((sweep.name, s))
                own = self._own_mask(self._segments[sweep.name], s)
                mask = self._unpacked(result.mask) if own is None else own
                yield Update(sweep.name, s, mask, result.score)
            for sweep in over:
                old = sweep.bank.swept.pop(s, None)
                if old is None or not old.mask.any() or s in sweep.own:
                    continue
                # What an earlier propagation found beyond the segment's end is taken back.
                finished.append((sweep.name, s))
                yield Update(sweep.name, s, self._mask_on(self._segments[sweep.name], s), 0.0)

    def _leave_behind(self, sweep: _Sweep, here: int, backward: bool) -> None:
        """Let go of the encoded memory that the policy cannot reach any more."""
        span = self._tracker.policy.span(self._tracker.reach)
        if not self.speed.release or span is None:
            return
        left = here + span + 1 if backward else here - span - 1
        memory = sweep.bank.swept.get(left)
        # The backward sweep, and the next propagation, begin where this one began, and look at what lies around.
        if memory is not None and abs(left - min(sweep.bank.conditioning)) > span:
            memory.release()

    def _note_end(self, sweep: _Sweep, result: SliceMemory, backward: bool) -> None:
        """Notice, from a slice's result, that there is nothing left to do in this direction. Approximate."""
        s = result.slice_index
        if s in sweep.bank.conditioning:
            sweep.absent = sweep.agreeing = 0
            return
        if sweep.fresh:
            old = sweep.before.result(s)
            agrees = old is not None and (dice(self._unpacked(old.mask), self._unpacked(result.mask)) >= _AGREEMENT)
            sweep.agreeing = sweep.agreeing + 1 if agrees else 0
            sweep.active = sweep.agreeing < _AGREEING
        # A mask that the segment started from stands wherever no result does: it would come back.
        if self.speed.stop is None or sweep.started:
            return
        present = float(result.object_score) > 0 and result.mask.any()
        sweep.absent = 0 if present else sweep.absent + 1
        if sweep.absent >= self.speed.stop:
            sweep.over = not any(c < s if backward else c > s for c in sweep.bank.conditioning)

    def _followed(self, sweep: _Sweep, result: SliceMemory, backward: bool) -> SliceMemory:
        """The result, from a larger or moved crop where the target reached the border of its own."""
        if self.crop is None:
            return result
        for _ in range(_REGROWTHS):
            region = follow(sweep.region, self._unpacked(result.mask), self.frames)
            if region == sweep.region:
                break
            sweep.region = region
            result = self._tracker.sweep_step([sweep.bank], [region], result.slice_index, backward)[0]
        return result

    def _to_propagate(
        self, segments: Iterable[str] | None, direction: str, first: int | None, last: int | None
    ) -> list[str]:
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
            names = [name for name, state in self._segments.items() if state.prompts]
            if not names:
                raise PromptError("nothing to propagate: no segment has a prompt")
            return names
        asked = list(segments)
        for name in asked:
            if not self._segment(name).prompts:
                raise PromptError(f"segment {name!r} has no prompt; add a point, a box or a mask first")
        return [name for name in self._segments if name in asked]

    def _ranges(
        self, state: _Segment, direction: Direction, first: int | None, last: int | None
    ) -> tuple[range, range]:
        """Slices of the forward and of the backward sweep, in their order."""
        low, high = self._limits(state, first, last)
        start = min({*state.bank.conditioning, *state.pending})
        forward = range(max(start, low), high + 1)
        backward = range(min(start, high), low - 1, -1)
        if direction == "backward":
            forward = range(0)
        # SAM 2 leaves out a backward sweep that would start at slice 0.
        if direction == "forward" or start == 0:
            backward = range(0)
        if direction != "forward" and self._follows_corrections(state):
            backward = range(min(max(state.pending), high), low - 1, -1)
        return forward, backward

    def _limits(self, state: _Segment, first: int | None, last: int | None) -> tuple[int, int]:
        """Lowest and highest slice that a propagation may change."""
        low, high = bounds(state.prompts, self.frames)
        return max(low, first or 0), min(high, self.frames.count - 1 if last is None else last)

    def _finish_running(self) -> None:
        """End a propagation that was left in the middle; its finished slices stay."""
        running, self._running = self._running, None
        if running is not None:
            running.close()  # type: ignore[attr-defined]

    # -- inside: prompts -------------------------------------------------------------------------

    def _check(self, prompt: Prompt, known: _Segment | None) -> None:
        check_prompt(prompt, self.frames)
        if isinstance(prompt, Mask):
            if not prompt.array2d.any() and (known is None or not known.prompts):
                raise PromptError("an empty mask cannot start a segment; mark the target with a point, box or mask")
            region = self._region(SlicePrompt(prompt.slice_index, mask=prompt.array2d), None)
            self._tracker.network_mask(prompt.array2d, region)

    def _prompted(self, prompt: SlicePrompt, bank: MemoryBank) -> SliceMemory:
        """What a slice shows after a prompt; one that a sweep has passed, in the light of the memories around it."""
        previous = bank.result(prompt.slice_index)
        memories = bank if prompt.slice_index in bank.visited and bank.conditioning else None
        return self._tracker.prompt(prompt, self._region(prompt, previous), previous, memories)

    def _region(self, prompt: SlicePrompt, previous: SliceMemory | None) -> Region:
        if self.crop is None:
            return self.frames.whole
        return choose_region(self._tracker, prompt, previous.region if previous is not None else None)

    # -- inside: masks and state -----------------------------------------------------------------

    def _segment(self, name: str) -> _Segment:
        if name not in self._segments:
            known = ", ".join(map(repr, self._segments)) or "none"
            raise InputError(f"there is no segment {name!r}; segments are: {known}")
        return self._segments[name]

    def _result(self, segment: str, slice_index: int) -> SliceMemory:
        result = self._segment(segment).bank.result(self.frames.check_index(slice_index))
        if result is None:
            raise InputError(f"segment {segment!r} has no result on slice {slice_index}; propagate first")
        return result

    def _own_mask(self, state: _Segment, slice_index: int) -> NDArray[np.bool_] | None:
        """The user's own pixels on a slice that is theirs: locked, or prompted by a mask that nothing refined."""
        return own_mask(state.prompts, state.locked, slice_index, self.frames)

    def _mask_on(self, state: _Segment, slice_index: int) -> NDArray[np.bool_]:
        own = self._own_mask(state, slice_index)
        if own is not None:
            return own
        result = state.bank.result(slice_index)
        if result is not None:
            return self._unpacked(result.mask)
        if state.start is not None:
            return self.frames.unstack(unpack(state.start, self.volume.shape))[slice_index]
        return np.zeros((self.frames.rows, self.frames.columns), dtype=bool)

    def _unpacked(self, packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return unpack(packed, (self.frames.rows, self.frames.columns))

    def _commit(self, entry: Entry, before: Mapping[str, _Segment | None]) -> None:
        self._journal.append(entry)
        self._changes.append(_Change(before, {name: self._segments[name] for name in before}))
        del self._changes[: -log.UNDO_STEPS]
        self._undone.clear()

    def _release(self, states: Iterable[_Segment]) -> None:
        """Let go of encoded memories that only undo can reach."""
        live = {id(memory) for state in self._segments.values() for memory in state.bank.results()}
        for state in states:
            for memory in state.bank.results():
                if id(memory) not in live:
                    memory.release()


def _goes_on(sweep: _Sweep, slice_index: int, done: bool) -> bool:
    """Whether a sweep has work on a slice; one that follows corrections has it near them only."""
    if not sweep.fresh:
        return True
    if slice_index in sweep.fresh:
        sweep.active, sweep.agreeing = True, 0
        return True
    if done:  # by this propagation's other sweep
        return False
    if slice_index in sweep.bank.conditioning:
        sweep.active = False
    elif sweep.bank.result(slice_index) is None:
        sweep.active = True
    return sweep.active


def _check_name(segment: str) -> None:
    if not isinstance(segment, str) or not segment.strip():
        raise InputError("a segment needs a name")
