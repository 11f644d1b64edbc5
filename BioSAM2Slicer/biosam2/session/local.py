"""A session's network in this process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..devices import precision_of
from ..engine.features import FeatureCache
from ..engine.memory import MemoryBank, MemoryPolicy, SliceMemory, make_policy
from ..engine.regions import choose_region, follow
from ..engine.tracker import Tracker
from ..errors import InputError
from ..frames import Frames, Region
from ..interpolation import between
from ..masks import unpack
from ..prompts import Prompt, SlicePrompt
from ..volume import Volume
from .entries import Cleared, Propagated, Removed
from .executor import Found
from .settings import ModelFacts, SessionSettings
from .state import SessionState
from .sweep import Sweep, sweep_of

if TYPE_CHECKING:
    from ..models import Model

# Propagations whose memories are kept; what lies deeper in the past is run again when it is needed.
_KEPT = 100
# A mask that reaches the crop's border is segmented again in a larger one, at most this often on a slice.
_REGROWTHS = 3


class LocalExecutor:
    """Runs the network in this process; see `Executor`. Memory banks are kept by the propagation that left them.

    Args:
        model: the network.
        volume: the voxels.
        settings: of the session.
        policy: the memory policy, where it is an object of the caller's own.
        features: where encoded slices are kept; by default a cache of its own.
    """

    def __init__(
        self,
        model: Model,
        volume: Volume,
        settings: SessionSettings,
        policy: MemoryPolicy | None = None,
        features: FeatureCache | None = None,
    ) -> None:
        self.settings = settings
        self.frames = Frames(volume, settings.axis, settings.window, model.image_size)
        chosen = make_policy(policy or settings.policy, settings.capacity)
        self.tracker = Tracker(model, self.frames, chosen, features, settings.precision, settings.speed)
        # By propagation, the memories of the segments that took part, after it; of one under way, as they are now.
        self._banks: OrderedDict[int, dict[str, MemoryBank]] = OrderedDict()
        # Memories that the last state gave, whose encodings may be kept.
        self._live: list[MemoryBank] = []

    @property
    def model(self) -> Model:
        """The network; another one after the first one's device ran out of memory."""
        return self.tracker.model

    @property
    def facts(self) -> ModelFacts:
        """See `Executor.facts`."""
        return facts_of(self.model)

    @property
    def precision(self) -> str:
        """See `Executor.precision`."""
        return precision_of(self.model.device, self.settings.precision)

    def check(self, state: SessionState, prompt: Prompt) -> None:
        """See `Executor.check`."""
        told = prompt.alone(self.frames)
        if told.mask is not None:
            self.tracker.network_mask(told.mask, self._region(told, None))

    def predict(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """See `Executor.predict`."""
        prompt = state.prompt_on(segment, slice_index)
        assert prompt is not None
        bank = self._bank(state, segment)
        result = bank.result(slice_index)
        if result is None or slice_index in state.segment(segment).pending:
            result = self._prompted(prompt, bank)
        return self._unpacked(result)

    def logits(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.float32]:
        """See `Executor.logits`."""
        bank = self._bank(state, segment)
        result = bank.result(slice_index) or self._seen(bank, slice_index)
        assert result is not None
        return self.tracker.full_logits(result)

    def propagate(self, state: SessionState, entry_id: int) -> LocalRun:
        """See `Executor.propagate`."""
        return LocalRun(self._propagating(state, entry_id))

    def encode_ahead(self, busy: Callable[[], bool]) -> bool:
        """See `Executor.encode_ahead`."""
        return self.settings.speed.ahead and self.tracker.encode_ahead(busy)

    def close(self) -> None:
        """See `Executor.close`; nothing is held elsewhere."""

    def forget(self, entry_id: int) -> None:
        """See `Executor.forget`."""
        for known in [known for known in self._banks if known >= entry_id]:
            del self._banks[known]

    def settle(self, state: SessionState) -> None:
        """Release encoded memories that the state does not show: only undo or redo can reach them."""
        now = [self._known(state, name) for name in state.segments]
        kept = [bank for bank in now if bank is not None]
        live = {id(memory) for bank in kept for memory in bank.results()}
        for bank in self._live:
            for memory in bank.results():
                if id(memory) not in live:
                    memory.release()
        self._live = kept

    # -- memories --------------------------------------------------------------------------------

    def _bank(self, state: SessionState, name: str) -> MemoryBank:
        """What is remembered of a segment; propagations whose memories are not here any more are run again."""
        for _ in self.restore(state, [name]):
            pass
        bank = self._known(state, name)
        assert bank is not None
        return bank

    def _known(self, state: SessionState, name: str) -> MemoryBank | None:
        """What is remembered of a segment, None where its last propagation's memories are not here."""
        emptied: list[int] = []
        for each in reversed(state.in_force):
            entry = each.entry
            if isinstance(entry, Propagated) and name in entry.segments:
                return _without(self._banks[each.id][name], emptied) if each.id in self._banks else None
            if getattr(entry, "segment", None) != name:
                continue
            if isinstance(entry, Cleared):
                break
            if isinstance(entry, Removed):
                slices = [prompt.slice_of(self.frames) for prompt in state.before(each.id).prompts(name)]
                s = slices.pop(entry.position)
                emptied += [] if s in slices else [s]
        return MemoryBank.empty()

    def restore(self, state: SessionState, names: Iterable[str]) -> Iterator[float]:
        """Run again the propagations of which memories are needed and not here, each as far as its entry went.

        Args:
            state: whose memories are needed.
            names: segments whose memories are needed.

        Yields:
            The share that is done, after each slice.

        Raises:
            InputError: a propagation gives other slices than its entry says.
        """
        missing = self._missing(state, names)
        total = sum(len(entry.finished) for _, entry in missing)
        done = 0
        for entry_id, entry in missing:
            run = self._running(self._begin(state, entry_id, entry))
            updates = (found for found in run if found.update)
            try:
                for finished in (*entry.finished, None) if entry.complete else entry.finished:
                    found = next(updates, None)
                    if (found and (found.segment, found.slice_index)) != finished:
                        raise InputError("a propagation gives other slices than it gave; the model or volume differ")
                    if finished is not None:
                        done += 1
                        yield done / total
            except BaseException:
                self._banks.pop(entry_id, None)
                raise
            finally:
                run.close()  # type: ignore[attr-defined]

    def _missing(self, state: SessionState, names: Iterable[str]) -> list[tuple[int, Propagated]]:
        """Propagations in force whose memories the segments' need and that are not here, in order."""
        wanted = set(names)
        missing = []
        for each in reversed(state.in_force):
            entry = each.entry
            if isinstance(entry, Cleared):
                wanted.discard(entry.segment)
            elif isinstance(entry, Propagated) and not wanted.isdisjoint(entry.segments):
                if each.id in self._banks:
                    wanted.difference_update(entry.segments)
                else:
                    missing.append((each.id, entry))
                    wanted.update(entry.segments)
        return missing[::-1]

    def _forget_old(self, state: SessionState) -> None:
        """Keep the memories that the state needs, and of the others those of the latest propagations."""
        needed: set[int] = set()
        seen: set[str] = set()
        for each in reversed(state.in_force):
            if isinstance(each.entry, Propagated) and not seen.issuperset(each.entry.segments):
                seen.update(each.entry.segments)
                needed.add(each.id)
        for entry_id in [i for i in self._banks if i not in needed][: max(0, len(self._banks) - _KEPT)]:
            del self._banks[entry_id]

    # -- propagation -----------------------------------------------------------------------------

    def _propagating(self, state: SessionState, entry_id: int) -> Iterator[Found]:
        entry = next(each.entry for each in state.in_force if each.id == entry_id)
        assert isinstance(entry, Propagated)
        sweeps = self._begin(state, entry_id, entry)
        for sweep in sweeps:
            for s in state.before(entry_id).segment(sweep.name).pending:
                memory = sweep.bank.conditioning[s]
                yield Found(sweep.name, s, self._unpacked(memory), memory.score, update=False)
        yield from self._running(sweeps)

    def _begin(self, state: SessionState, entry_id: int, entry: Propagated) -> list[Sweep]:
        """Prepare a propagation and keep its memories, which will grow."""
        before = state.before(entry_id)
        asked = (entry.direction, entry.first, entry.last)
        sweeps = [self._prepared(before, name, asked) for name in entry.segments]
        self._banks[entry_id] = {sweep.name: sweep.bank for sweep in sweeps}
        self._forget_old(state)
        return sweeps

    def _running(self, sweeps: Sequence[Sweep]) -> Iterator[Found]:
        seen: set[tuple[str, int]] = set()
        try:
            for backward in (False, True):
                yield from self._sweeping(sweeps, backward, seen)
        finally:
            self.tracker.rest()

    def _prepared(self, before: SessionState, name: str, asked: tuple[str, int | None, int | None]) -> Sweep:
        """Run the network on slices whose prompts changed, and put the results into a new bank."""
        old = self._bank(before, name)
        bank = old.copy()
        fresh = {}
        for s in before.segment(name).pending:
            prompt = before.prompt_on(name, s)
            assert prompt is not None
            fresh[s] = self._prompted(prompt, bank)
        for s, memory in fresh.items():
            bank.conditioning[s] = memory
            bank.propagated.pop(s, None)
            bank.interpolated -= {s}
        return sweep_of(before, name, asked, bank, old)

    def _sweeping(self, sweeps: Sequence[Sweep], backward: bool, seen: set[tuple[str, int]]) -> Iterator[Found]:
        earlier = frozenset(seen)
        speed = self.settings.speed
        for sweep in sweeps:
            sweep.begin(backward)
        while True:
            ahead = [(sweep, s) for sweep in sweeps if (s := sweep.next_slice(speed)) is not None]
            if not ahead:
                return
            s = (max if backward else min)(s for _, s in ahead)
            here = [sweep for sweep, its in ahead if its == s]
            over = [sweep for sweep in here if sweep.over]
            running = [sweep for sweep in here if not sweep.over and sweep.goes_on(s, (sweep.name, s) in earlier)]
            for sweep in here:
                if sweep not in running:
                    sweep.passed += 1
            regions = [sweep.region for sweep in running]
            for sweep, result, region in zip(running, self._stepped(running, s, backward), regions, strict=True):
                between = sweep.left_out(s)
                if between and not sweep.can_interpolate(result, between, self.frames):
                    sweep.region = region
                    continue
                yield from self._interpolated(sweep, between, result, backward, seen)
                sweep.passed += 1
                sweep.bank.visited[s] = backward
                if result.prompted:
                    sweep.region = result.region
                else:
                    sweep.bank.propagated[s] = result
                    sweep.bank.interpolated -= {s}
                self._leave_behind(sweep, s, backward)
                sweep.note_end(result, len(between), backward, speed, self.frames)
                if (sweep.name, s) in earlier:
                    continue
                seen.add((sweep.name, s))
                yield Found(sweep.name, s, self._unpacked(result), result.score)
            for sweep in over:
                old = sweep.bank.propagated.pop(s, None)
                shown = s in sweep.bank.interpolated or (old is not None and old.mask.any())
                sweep.bank.interpolated -= {s}
                if not shown or s in sweep.own:
                    continue
                # What an earlier propagation found beyond the segment's end is taken back.
                seen.add((sweep.name, s))
                nothing = np.zeros((self.frames.rows, self.frames.columns), dtype=bool)
                yield Found(sweep.name, s, nothing, 0.0, gone=True)

    def _stepped(self, sweeps: Sequence[Sweep], s: int, backward: bool) -> list[SliceMemory]:
        """The results of a slice that sweeps have come to; none is kept."""
        moving = [sweep for sweep in sweeps if s not in sweep.bank.conditioning]
        found = {}
        # What an earlier propagation found on slices that are left out is not remembered.
        earlier = {sweep.name: sweep.bank.forget(sweep.left_out(s)) for sweep in moving}
        try:
            if moving:
                regions = [sweep.region for sweep in moving]
                results = self.tracker.sweep_step([m.bank for m in moving], regions, s, backward)
                for sweep, result in zip(moving, results, strict=True):
                    found[sweep.name] = self._followed(sweep, result, backward)
        finally:
            for sweep in moving:
                sweep.bank.propagated.update(earlier[sweep.name])
        return [found.get(sweep.name) or sweep.bank.conditioning[s] for sweep in sweeps]

    def _interpolated(
        self, sweep: Sweep, slices: range, after: SliceMemory, backward: bool, seen: set[tuple[str, int]]
    ) -> Iterator[Found]:
        """The slices between the last one that a sweep passed and the next one."""
        before = sweep.bank.result(sweep.slices[sweep.passed - 1]) if slices else None
        if before is None:
            return
        score = min(before.score, after.score)
        masks = between(self._unpacked(before), self._unpacked(after), len(slices), self.frames.pixel_size)
        for s, mask in zip(slices, masks, strict=True):
            sweep.passed += 1
            sweep.bank.interpolated |= {s}
            sweep.bank.propagated.pop(s, None)
            sweep.bank.visited[s] = backward
            self._leave_behind(sweep, s, backward)
            seen.add((sweep.name, s))
            yield Found(sweep.name, s, mask, score, interpolated=True)

    def _leave_behind(self, sweep: Sweep, here: int, backward: bool) -> None:
        """Release the encoded memory that the policy cannot reach any more."""
        span = self.tracker.policy.span(self.tracker.reach)
        if not self.settings.speed.release or span is None:
            return
        left = here + span + 1 if backward else here - span - 1
        memory = sweep.bank.propagated.get(left)
        # The backward sweep, and the next propagation, begin where this one began, and look at what lies around.
        if memory is not None and abs(left - min(sweep.bank.conditioning)) > span:
            memory.release()

    def _followed(self, sweep: Sweep, result: SliceMemory, backward: bool) -> SliceMemory:
        """The result, from a larger or moved crop where the target reached the border of its own."""
        if self.settings.crop is None:
            return result
        for _ in range(_REGROWTHS):
            region = follow(sweep.region, self._unpacked(result), self.frames)
            if region == sweep.region:
                break
            sweep.region = region
            result = self.tracker.sweep_step([sweep.bank], [region], result.slice_index, backward)[0]
        return result

    # -- prompts ---------------------------------------------------------------------------------

    def _prompted(self, prompt: SlicePrompt, bank: MemoryBank) -> SliceMemory:
        """What a slice shows after a prompt; one that a sweep has passed, in the light of the memories around it."""
        previous = bank.result(prompt.slice_index)
        if previous is None and prompt.drawn is None:  # what is drawn does not ask what was found
            previous = self._seen(bank, prompt.slice_index)
        memories = bank if prompt.slice_index in bank.visited and bank.conditioning else None

        def answer(prompt: SlicePrompt, earlier: SliceMemory | None) -> SliceMemory:
            return self.tracker.prompt(prompt, self._region(prompt, earlier), previous, memories)

        if self.settings.merge is None:
            return answer(prompt, previous)
        known = None if previous is None else _answered(prompt, previous)
        clicks = prompt.points[known or 0 :]
        # Clicks that mark a target from nothing say together what it is.
        corrects = known is not None or prompt.box is not None or prompt.start is not None
        if not clicks or not corrects:
            return answer(prompt, previous)
        before = previous if previous is not None and known is not None else answer(_mark(prompt), previous)
        return self.tracker.merged(before, answer(prompt, before), clicks)

    def _seen(self, bank: MemoryBank, slice_index: int) -> SliceMemory | None:
        """What the network finds on an interpolated slice, as when its sweep had not left it out; not kept."""
        if slice_index not in bank.interpolated:
            return None
        backward = bank.visited[slice_index]
        nearest = min(bank.results(), key=lambda memory: (abs(memory.slice_index - slice_index), memory.slice_index))
        return self.tracker.sweep_step([bank], [nearest.region], slice_index, backward)[0]

    def _region(self, prompt: SlicePrompt, previous: SliceMemory | None) -> Region:
        if self.settings.crop is None:
            return self.frames.whole
        return choose_region(self.tracker, prompt, previous.region if previous is not None else None)

    def _unpacked(self, memory: SliceMemory) -> NDArray[np.bool_]:
        return unpack(memory.mask, (self.frames.rows, self.frames.columns))


class LocalRun:
    """A propagation in this process; see `Run`. Works on a slice when it is asked for one."""

    def __init__(self, found: Iterator[Found]) -> None:
        self._found = found

    def __iter__(self) -> Iterator[Found]:
        return self

    def __next__(self) -> Found:
        return next(self._found)

    def stop(self) -> list[Found]:
        """See `Run.stop`; nothing is found that was not asked for."""
        self._found.close()  # type: ignore[attr-defined]
        return []


def facts_of(model: Model) -> ModelFacts:
    """The facts of a network that runs in this process."""
    return ModelFacts(
        name=model.name,
        sha256=model.sha256,
        device=str(model.device),
        device_reason=model.device_reason,
        image_size=model.image_size,
    )


def _answered(prompt: SlicePrompt, result: SliceMemory) -> int | None:
    """How many of a prompt's clicks a slice's result answers; None where it answers another prompt."""
    told = result.told
    if told is None:
        # Found in a sweep: clicks correct it, anything else is drawn anew.
        return 0 if prompt.box is None and prompt.start is None else None
    mark, marked = _mark(prompt), _mark(told)
    goes_on = mark.box == marked.box and _same(mark.mask, marked.mask)
    return len(told.points) if goes_on and told.points == prompt.points[: len(told.points)] else None


def _mark(prompt: SlicePrompt) -> SlicePrompt:
    """A prompt without the clicks: a box, or a mask drawn before them."""
    drawn = prompt.drawn
    return replace(prompt, points=(), box=prompt.box if drawn is None else None, mask=drawn, start=None)


def _same(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _without(bank: MemoryBank, emptied: Sequence[int]) -> MemoryBank:
    """Memories after the last prompts of slices were removed: what these showed is remembered like other slices."""
    if not emptied:
        return bank
    bank = bank.copy()
    for s in emptied:
        result = bank.conditioning.pop(s, None)
        if result is not None:
            bank.propagated[s] = result
            bank.visited.pop(s, None)
    return bank
