"""A session: prompts in, masks out, undo. The one conversation between a user and the network about a volume."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PromptError
from ..frames import Frames
from ..prompts import KINDS, Lasso, Mask, Prompt
from ..speed import Speed
from ..update import Update
from ..volume import Volume
from .entries import Cleared, Entry, Locked, Prompted, Propagated, Removed, Started
from .executor import Executor, Found, Run
from .results import ResultStore
from .settings import SessionSettings
from .state import Direction, SessionState, read_record

if TYPE_CHECKING:
    import torch

    from ..engine.features import FeatureCache
    from ..engine.memory import MemoryPolicy
    from ..models import Model


class BaseSession:
    """A session on an executor: what `Session` is, wherever the network runs. Not thread-safe.

    Args:
        executor: runs the network.
        frames: the volume's slices along the session's axis.
        settings: resolved for the volume.
    """

    def __init__(self, executor: Executor, frames: Frames, settings: SessionSettings) -> None:
        self.volume: Volume = frames.volume
        self.frames = frames
        self._executor = executor
        self._state = SessionState(settings, self.frames)
        self._results = ResultStore()
        self._ids = itertools.count(1)
        self._running: _Propagation | None = None
        self._cancelled = False

    # -- properties -----------------------------------------------------------------------------

    @property
    def settings(self) -> SessionSettings:
        """What the session is set to."""
        return self._state.settings

    @property
    def state(self) -> SessionState:
        """Settings, entries and head: all but the network's output."""
        if self._running is not None:
            self._state = self._running.noted(self._state)
        return self._state

    @property
    def executor(self) -> Executor:
        """What runs the network."""
        return self._executor

    @property
    def crop(self) -> str | None:
        """See `SessionSettings`."""
        return self.settings.crop

    @property
    def speed(self) -> Speed:
        """See `SessionSettings`."""
        return self.settings.speed

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
        return self._state.segments

    @property
    def journal(self) -> tuple[Entry, ...]:
        """The entries in force, in order."""
        return tuple(each.entry for each in self.state.in_force)

    def prompts(self, segment: str) -> tuple[Prompt, ...]:
        """The segment's prompts, in the order in which they were given.

        Args:
            segment: name of the segment.

        Raises:
            InputError: there is no such segment.
        """
        return self._state.prompts(segment)

    def finished_slices(self, segment: str) -> tuple[int, ...]:
        """Slices on which the segment has a result or the user's own mask, in ascending order.

        Args:
            segment: name of the segment.

        Raises:
            InputError: there is no such segment.
        """
        return self.state.finished_slices(segment)

    def interpolated_slices(self, segment: str) -> tuple[int, ...]:
        """Slices whose mask was interpolated between its neighbours' (see `Speed`, `stride`), in ascending order.

        Args:
            segment: name of the segment.

        Raises:
            InputError: there is no such segment.
        """
        return self.state.interpolated_slices(segment)

    def frame_tensor(self, slice_index: int) -> torch.Tensor:
        """What the image encoder is given for a whole slice: float32 (3, S, S).

        Args:
            slice_index: counted along the session's axis, from 0.

        Raises:
            InputError: there is no such slice.
        """
        return self.frames.tensor(slice_index, self.frames.whole)

    # -- prompts ---------------------------------------------------------------------------------

    def add_prompt(self, segment: str, prompt: Prompt) -> None:
        """Tell the session something about a segment, which is created if it is new.

        A box over several slices prompts its middle slice and bounds the propagation. A mask replaces the points
        and boxes of its slice; later points refine it.

        Args:
            segment: name of the segment.
            prompt: in voxel indices (i, j, k); a mask is (rows, columns) of its slice.

        Raises:
            PromptError: the prompt lies outside the volume, belongs to another axis, has the wrong shape, or
                vanishes at the network's resolution.
        """
        if isinstance(prompt, KINDS):  # what is none, the check refuses
            s = prompt.slice_of(self.frames)
            prompt = prompt.completed(lambda: self._shown(self.state, segment, s), lambda: self._beneath(segment, s))
        entry = Prompted(segment, prompt)
        self.state.check(entry)
        told = self.state.told_with(segment, prompt)
        # The network is shown the slice's mask, of which a prompt that adds to it draws a part.
        self._executor.check(self.state, prompt if told.mask is None else Mask(told.slice_index, told.mask))
        self._add(entry)

    def remove_prompt(self, segment: str, prompt: Prompt | int) -> None:
        """Take back one prompt, wherever it stands in the order; results of propagations stay.

        Args:
            segment: the segment.
            prompt: the prompt itself, or its position in `prompts`.

        Raises:
            InputError: there is no such segment or prompt.
        """
        position = self._state.position_of(segment, prompt)
        self._finish_running()
        self._add(Removed(segment, position))

    def start_from(self, segment: str, mask: NDArray[Any]) -> None:
        """Let a segment start from an existing mask, which stands wherever nothing newer does.

        Args:
            segment: the segment, created if it is new.
            mask: (K, J, I); non-zero voxels belong to the segment.

        Raises:
            InputError: the mask has another shape, or is empty.
        """
        self._add(Started(segment, np.asarray(mask) != 0))

    def lock(self, segment: str, slice_index: int, locked: bool = True, mask: NDArray[Any] | None = None) -> None:
        """Keep a slice of a segment as it is now, whatever is propagated later; or release it again.

        Args:
            segment: the segment.
            slice_index: the slice.
            locked: whether it is locked or released.
            mask: (rows, columns), what is kept; by default what the slice shows now.

        Raises:
            InputError: there is no such segment or slice, or the mask has another shape.
        """
        self._state.segment(segment)
        self.frames.check_index(slice_index)
        kept = None
        if locked:
            kept = self.state.mask_on(segment, slice_index, self._results) if mask is None else np.asarray(mask) != 0
        self._add(Locked(segment, slice_index, bool(locked), kept))

    def clear(self, segment: str) -> None:
        """Drop all prompts and masks of a segment; the segment itself stays.

        Args:
            segment: name of the segment.

        Raises:
            InputError: there is no such segment.
        """
        self._state.segment(segment)
        self._finish_running()
        self._add(Cleared(segment))

    # -- masks -----------------------------------------------------------------------------------

    def predict(self, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """The prompted slice alone: bool (rows, columns), as the next propagation will begin with it.

        It is seen without memory. On a slice that a propagation has passed, its result is refined by what was said
        since, in the light of the memories around it, as SAM 2 does; where nothing was said since, it stands. Leaves
        no trace in the session.

        Args:
            segment: name of the segment.
            slice_index: a prompted slice, counted along the session's axis, from 0.

        Raises:
            PromptError: the slice carries no prompt of this segment.
            InputError: there is no such segment or slice.
            DeviceError: out of memory.
        """
        state = self.state
        state.segment(segment)
        self.frames.check_index(slice_index)
        if state.user_mask(segment, slice_index) is None and state.prompt_on(segment, slice_index) is None:
            raise PromptError(f"segment {segment!r} has no prompt on slice {slice_index}")
        return self._shown(state, segment, slice_index)

    def encode_ahead(self, busy: Callable[[], bool]) -> bool:
        """In idle time: encode one more slice around the one prompted last, as a propagation will ask for it.

        Leaves no trace but in the cache of encoded slices.

        Args:
            busy: whether somebody waits; then the slice is given up in the middle.

        Returns:
            Whether there is more to do.
        """
        return self._executor.encode_ahead(busy)

    def propagate(
        self,
        segments: Iterable[str] | None = None,
        direction: Direction = "both",
        first: int | None = None,
        last: int | None = None,
    ) -> Iterator[Update]:
        """Carry segments through the volume, slice by slice, from their earliest prompted slice.

        Forward first, then backward, which attends to the forward memories, as SAM 2 does. Slices prompted outside the
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
        names = self._state.to_propagate(segments, direction, first, last)
        self._finish_running()
        self._cancelled = False
        return self._propagating(Propagated(names, direction, first, last))

    def count_steps(
        self,
        segments: Iterable[str] | None = None,
        direction: Direction = "both",
        first: int | None = None,
        last: int | None = None,
    ) -> int:
        """How many updates `propagate` would yield with these arguments.

        Where approximate optimisations may end a sweep early, it is the largest number.

        Args:
            segments: as for `propagate`.
            direction: as for `propagate`.
            first: as for `propagate`.
            last: as for `propagate`.

        Raises:
            PromptError, InputError: as `propagate`.
        """
        return self._state.count_steps(segments, direction, first, last)

    def cancel(self) -> None:
        """Stop a running propagation after the slice that it is at; finished slices stay."""
        self._cancelled = True

    def mask(self, segment: str) -> NDArray[np.bool_]:
        """The segment, bool (K, J, I): results of propagations, and the user's own pixels on slices that the user owns.

        Args:
            segment: name of the segment.

        Raises:
            InputError: there is no such segment.
        """
        return self.state.mask(segment, self._results)

    def labelmap(self) -> NDArray[np.unsignedinteger]:
        """All segments as labels 1, 2, … in order of creation: uint8 or uint16 (K, J, I).

        Voxels of several segments get the later one's label.
        """
        return self.state.labelmap(self._results)

    def logits(self, segment: str, slice_index: int) -> NDArray[np.float32]:
        """What the network said before thresholding, in the last propagation: float32 (rows, columns).

        On an interpolated slice it is asked now; the mask there is not made of it.

        Args:
            segment: name of the segment.
            slice_index: counted along the session's axis, from 0.

        Raises:
            InputError: there is no such segment or slice, or it has no result there.
        """
        self.state.result_of(segment, slice_index)
        return self._executor.logits(self.state, segment, slice_index)

    def score(self, segment: str, slice_index: int) -> float:
        """Predicted quality of the last propagation's mask, 0 to 1.

        Args:
            segment: name of the segment.
            slice_index: counted along the session's axis, from 0.

        Raises:
            InputError: there is no such segment or slice, or it has no result there.
        """
        return self._results.get(self.state.result_of(segment, slice_index), segment, slice_index).score

    # -- undo ------------------------------------------------------------------------------------

    def undo(self) -> bool:
        """Take back the last change, prompts together with their masks; False when there is none."""
        self._finish_running()
        return self._move(self._state.undone())

    def redo(self) -> bool:
        """Put back in force what was undone last; False when there is nothing."""
        self._finish_running()
        return self._move(self._state.redone())

    # -- the record ------------------------------------------------------------------------------

    def to_record(self) -> dict[str, Any]:
        """The session as JSON data: its settings and the changes in force; `from_record` gives the same masks.

        Raises:
            InputError: the memory policy is an object of its own, which a record cannot name.
        """
        return self.state.to_record(self._executor.precision)

    def replay(self, entry: Entry, on_update: Callable[[Update], object] | None = None) -> None:
        """Do again what an entry says, propagations no further than they went.

        Args:
            entry: of another session's journal.
            on_update: called with each slice that is done again.

        Raises:
            InputError, PromptError: the entry does not fit this session.
        """
        match entry:
            case Prompted():
                self.add_prompt(entry.segment, entry.prompt)
            case Removed():
                self.remove_prompt(entry.segment, entry.position)
            case Started():
                self.start_from(entry.segment, entry.mask)
            case Locked():
                self.lock(entry.segment, entry.slice_index, entry.locked, entry.mask)
            case Cleared():
                self.clear(entry.segment)
            case Propagated():
                self._propagate_again(entry, on_update)

    def _propagate_again(self, entry: Propagated, on_update: Callable[[Update], object] | None) -> None:
        updates = self.propagate(entry.segments, entry.direction, entry.first, entry.last)  # type: ignore[arg-type]
        for finished in (*entry.finished, None) if entry.complete else entry.finished:
            update = next(updates, None)
            done = update and (update.segment, update.slice_index)
            if done != finished:
                raise InputError(f"the journal's propagation finished {finished} where this one did {done}")
            if update and on_update:
                on_update(update)
        self._finish_running()

    # -- inside ----------------------------------------------------------------------------------

    def _beneath(self, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """What a slice would show without what was drawn on it and nothing refined since."""
        drawn = self.state.first_drawn(segment, slice_index)
        if drawn is None:
            return self._shown(self.state, segment, slice_index)
        entry_id, prompt = drawn
        if isinstance(prompt, Lasso) and prompt.shown is not None:
            return prompt.shown
        return self._shown(self.state.before(entry_id), segment, slice_index)

    def _shown(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """What a slice shows of a segment, which may be new; of a prompted one, what is predicted there."""
        self.frames.check_index(slice_index)
        if segment not in state.segments:
            return np.zeros((self.frames.rows, self.frames.columns), bool)
        if state.is_to_predict(segment, slice_index):
            return self._executor.predict(state, segment, slice_index)
        return state.mask_on(segment, slice_index, self._results)

    def _add(self, entry: Entry) -> int:
        """Put one more entry in force; returns its identifier."""
        entry_id = next(self._ids)
        before = self.state
        self._state = before.with_entry(entry_id, entry)
        self._results.drop(each.id for each in before.undone_entries)
        return entry_id

    def _move(self, state: SessionState | None) -> bool:
        if state is None:
            return False
        self._state = state
        self._executor.settle(state)
        return True

    def _propagating(self, entry: Propagated) -> Iterator[Update]:
        propagation = self._running = _Propagation(self, entry)
        try:
            for found in propagation:
                state = self.state
                own = state.user_mask(found.segment, found.slice_index)
                if own is None:
                    own = state.mask_on(found.segment, found.slice_index, self._results) if found.gone else found.mask
                yield Update(found.segment, found.slice_index, own, found.score, found.interpolated)
                if self._cancelled:
                    return
        finally:
            self._end(propagation)

    def _end(self, propagation: _Propagation) -> None:
        """Stop a propagation, if it is not over; its finished slices stay."""
        if self._running is propagation:
            propagation.stop()
            self._state = propagation.noted(self._state)
            self._running = None
            self._executor.settle(self._state)

    def _finish_running(self) -> None:
        """End a propagation that was left in the middle."""
        if self._running is not None:
            self._end(self._running)


class Session(BaseSession):
    """Prompts in, masks out, on one volume along one axis. Not thread-safe.

    Args:
        model: the network.
        volume: the voxels; a 2D image is a volume of one slice, a cine a volume of its frames.
        axis: ``"i"``, ``"j"``, ``"k"``, or ``"axial"``, ``"coronal"``, ``"sagittal"``.
        window: (centre, width) in the voxels' unit, the name of a CT preset, or None for robust percentiles.
        crop: None (exact): the network runs on whole slices; ``"auto"`` (approximate): on a crop around a target
            that fills less than a quarter of the slice, following it as it grows.
        policy: the memory policy: ``"sam2"`` (exact), ``"path"``, ``"nearest"``, ``"quality"`` or ``"dissimilar"``
            (approximate), or an instance of `MemoryPolicy`.
        features: where encoded slices are kept; by default a cache of its own.
        options: ``capacity``, ``merge``, ``precision`` and ``speed``, see `SessionSettings`.

    Raises:
        InputError: an unknown axis, window, crop, policy or precision.

    Example:
        >>> session = Session(load_model("nano"), read_volume("image.nrrd"))
        >>> session.add_prompt("lesion", Point(ijk=(120, 98, 12)))
        >>> for update in session.propagate(["lesion"]):
        ...     print(update.slice_index, update.score)
        >>> mask = session.mask("lesion")
    """

    _executor: Any

    def __init__(
        self,
        model: Model,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        crop: str | None = None,
        policy: str | MemoryPolicy | None = None,
        *,
        features: FeatureCache | None = None,
        **options: Any,
    ) -> None:
        from .local import LocalExecutor

        settings = SessionSettings.resolve(volume, axis=axis, window=window, crop=crop, policy=policy, **options)
        own = None if isinstance(policy, str) else policy
        executor = LocalExecutor(model, volume, settings, own, features)
        super().__init__(executor, executor.frames, settings)

    @property
    def model(self) -> Model:
        """The network; a copy of the one that was given after that one's device ran out of memory."""
        return self._executor.model

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
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
        settings, entries = read_record(record)
        session = cls(model, volume, **settings)
        for entry in entries:
            session.replay(entry, on_update)
        return session


class _Propagation:
    """A propagation under way, and how far its entry is.

    In force before its first slice, so that prompts given meanwhile come after it.
    """

    def __init__(self, session: BaseSession, entry: Propagated) -> None:
        self._session = session
        self._entry = entry
        self._id = 0
        self._run: Run | None = None
        self._finished: list[tuple[str, int]] = []
        self._gone: list[tuple[str, int]] = []
        self._interpolated: list[tuple[str, int]] = []
        self._complete = False
        self._changed = False

    def __iter__(self) -> Iterator[Found]:
        session = self._session
        before, entry_id = session._state, next(session._ids)
        session._state = before.with_entry(entry_id, self._entry)
        try:
            self._run = session._executor.propagate(session._state, entry_id)
            # The first result, or none, comes after the prompts were taken in: what is refused is refused now.
            first = next(self._run, None)
        except BaseException:
            session._state = before
            raise
        session._results.drop(each.id for each in before.undone_entries)
        self._id = entry_id
        if first is not None:
            for found in itertools.chain([first], self._run):
                self._take(found)
                if found.update:
                    yield found
        self._complete = self._changed = True

    def stop(self) -> None:
        """End it, and take what was found meanwhile."""
        if self._run is not None and not self._complete:
            for found in self._run.stop():
                self._take(found)
        self._run = None

    def noted(self, state: SessionState) -> SessionState:
        """The state with how far the propagation is."""
        if not self._changed or not self._id:
            return state
        self._changed = False
        entry = msgspec.structs.replace(
            self._entry,
            finished=tuple(self._finished),
            complete=self._complete,
            gone=tuple(self._gone),
            interpolated=tuple(self._interpolated),
        )
        return state.with_progress(self._id, entry)

    def _take(self, found: Found) -> None:
        place = (found.segment, found.slice_index)
        if not found.gone:
            self._session._results.put(self._id, found.segment, found.slice_index, found.mask, found.score)
        if found.update:
            self._finished.append(place)
            self._gone += [place] if found.gone else []
            self._interpolated += [place] if found.interpolated else []
            self._changed = True
