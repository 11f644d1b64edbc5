"""What can be done in a session, as data, what can be seen of it afterwards, and a machine that compares.

A party is a session wherever it runs: in this process, in a worker, on a server, in 3D Slicer's panel. The machine
gives all parties the same random operations and compares what they answer and show. Operations and observations are
plain data, so that a party may be in another process: nothing here imports torch or Slicer's libraries.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
from biosam2 import Volume
from biosam2.errors import BioSAM2Error
from biosam2.prompts import KINDS, Box, Lasso, Line, Mask, Point, Prompt, PromptKind, Scribble
from biosam2.update import Update
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

# The volumes' shape (K, J, I), along axis k.
SLICES, ROWS, COLUMNS = 6, 24, 20

# -- operations --------------------------------------------------------------------------------------------------------


class _Operation(msgspec.Struct, frozen=True, eq=False, tag=True):
    """Common to all."""


class AddPrompt(_Operation, frozen=True, eq=False):
    """`Session.add_prompt`."""

    segment: str
    prompt: Prompt


class RemovePrompt(_Operation, frozen=True, eq=False):
    """`Session.remove_prompt`."""

    segment: str
    position: int


class StartFrom(_Operation, frozen=True, eq=False):
    """`Session.start_from`, with a mask of the slices from `first` to `last`."""

    segment: str
    first: int
    last: int


class Lock(_Operation, frozen=True, eq=False):
    """`Session.lock`."""

    segment: str
    slice_index: int
    locked: bool


class Clear(_Operation, frozen=True, eq=False):
    """`Session.clear`."""

    segment: str


class Predict(_Operation, frozen=True, eq=False):
    """`Session.predict`."""

    segment: str
    slice_index: int


class Logits(_Operation, frozen=True, eq=False):
    """`Session.logits`."""

    segment: str
    slice_index: int


class Propagate(_Operation, frozen=True, eq=False):
    """`Session.propagate`, left after `few` slices."""

    segments: tuple[str, ...] | None
    direction: str
    first: int | None
    last: int | None
    few: int


class GoOn(_Operation, frozen=True, eq=False):
    """Take `few` slices more of the propagation that was left."""

    few: int


class Cancel(_Operation, frozen=True, eq=False):
    """`Session.cancel`, and what still comes."""


class Undo(_Operation, frozen=True, eq=False):
    """`Session.undo`."""


class Redo(_Operation, frozen=True, eq=False):
    """`Session.redo`."""


class Lose(_Operation, frozen=True, eq=False):
    """The host forgets the session, or ends (`hard`); nothing may be seen of that."""

    hard: bool


class Renew(_Operation, frozen=True, eq=False):
    """The same entries on other voxels, those of a seed."""

    seed: int


Operation: TypeAlias = (
    AddPrompt
    | RemovePrompt
    | StartFrom
    | Lock
    | Clear
    | Predict
    | Logits
    | Propagate
    | GoOn
    | Cancel
    | Undo
    | Redo
    | Lose
    | Renew
)


class Party(Protocol):
    """A session, wherever it runs."""

    def do(self, operation: Operation) -> Any:
        """Do it; what it answers, as plain data."""

    def seen(self) -> dict[str, Any]:
        """What the session shows, as plain data."""

    def close(self) -> None:
        """Release it."""


def start_mask(first: int, last: int) -> np.ndarray:
    """The mask of `StartFrom`, bool (K, J, I)."""
    mask = np.zeros((SLICES, ROWS, COLUMNS), dtype=bool)
    mask[first : last + 1, 3:9, 4:8] = True
    return mask


def plain(value: Any) -> Any:
    """An answer as data that compares by value."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Update):
        return value.segment, value.slice_index, value.score, plain(value.mask)
    if isinstance(value, BioSAM2Error):
        return type(value).__name__, str(value)
    return value


class SessionParty:
    """A `biosam2.Session`, or whatever has its interface.

    Args:
        make: a new session on a volume.
        volume: the first one.
        renewed: other voxels, by a seed.
        lose: has the host of a session forget it, or end.
    """

    def __init__(
        self,
        make: Callable[[Volume], Any],
        volume: Volume,
        renewed: Callable[[int], Volume],
        lose: Callable[[Any, bool], None] = lambda session, hard: None,
    ) -> None:
        self._make, self._renewed, self._lose = make, renewed, lose
        self.session = make(volume)
        self._running: Iterator[Update] | None = None

    def do(self, operation: Operation) -> Any:
        """See `Party.do`."""
        try:
            return plain(self._done(operation))
        except BioSAM2Error as error:
            return plain(error)

    def _done(self, operation: Operation) -> Any:
        session = self.session
        match operation:
            case AddPrompt(segment, prompt):
                return session.add_prompt(segment, prompt)
            case RemovePrompt(segment, position):
                return session.remove_prompt(segment, position)
            case StartFrom(segment, first, last):
                return session.start_from(segment, start_mask(first, last))
            case Lock(segment, slice_index, locked):
                return session.lock(segment, slice_index, locked)
            case Clear(segment):
                return session.clear(segment)
            case Predict(segment, slice_index):
                return session.predict(segment, slice_index)
            case Logits(segment, slice_index):
                return session.logits(segment, slice_index)
            case Propagate(segments, direction, first, last, few):
                self._running = session.propagate(segments, direction, first, last)
                return self._some(few)
            case GoOn(few):
                return self._some(few)
            case Cancel():
                session.cancel()
                return self._some(SLICES)
            case Undo():
                return session.undo()
            case Redo():
                return session.redo()
            case Lose(hard):
                return self._lose(session, hard)
            case Renew(seed):
                return self._renew(self._renewed(seed))
        raise TypeError(operation)

    def _some(self, few: int) -> list[Any]:
        return [plain(update) for update in itertools.islice(self._running or (), few)]

    def _renew(self, volume: Volume) -> None:
        entries = self.session.journal
        self.close()
        self.session = self._make(volume)
        for entry in entries:
            self.session.replay(entry)

    def seen(self) -> dict[str, Any]:
        """See `Party.seen`."""
        session = self.session
        names = session.segments
        return {
            "segments": names,
            "prompts": {name: session.prompts(name) for name in names},
            "finished": {name: session.finished_slices(name) for name in names},
            "owner": {name: sorted(session.state.user_slices(name)) for name in names},
            "masks": {name: plain(session.mask(name)) for name in names},
            "scores": {name: [_score(session, name, s) for s in session.finished_slices(name)] for name in names},
            "record": session.to_record(),
        }

    def close(self) -> None:
        """See `Party.close`."""
        self._running = None
        if hasattr(self.session, "close"):
            self.session.close()


def _score(session: Any, name: str, slice_index: int) -> Any:
    try:
        return session.score(name, slice_index)
    except BioSAM2Error as error:
        return plain(error)


# -- the machine -------------------------------------------------------------------------------------------------------

_SEGMENT = st.sampled_from(["a", "b"])
_SLICE = st.integers(0, SLICES - 1)
_FEW = st.integers(0, SLICES + 1)


def _drawn(top: int) -> np.ndarray:
    mask = np.zeros((ROWS, COLUMNS), dtype=bool)
    mask[top : top + 9, 4:14] = True
    return mask


# Prompts of every kind.
PROMPTS: dict[type[PromptKind], st.SearchStrategy[Any]] = {
    Point: st.builds(lambda i, k, p: Point((i, 10, k), p), st.integers(0, COLUMNS - 1), _SLICE, st.booleans()),
    Box: st.builds(lambda a, b: Box((6, 6, min(a, b)), (15, 16, max(a, b))), _SLICE, _SLICE),
    Scribble: st.builds(
        lambda k, c, p: Scribble(k, ((6, 8), (10.5, c), (14, 12)), p), _SLICE, st.integers(2, 17), st.booleans()
    ),
    Lasso: st.builds(
        lambda k, r, p: Lasso(k, ((r, 5), (r, 15), (r + 9, 9)), p), _SLICE, st.integers(0, 14), st.booleans()
    ),
    Line: st.builds(lambda k, c: Line(k, ((5, c), (15, 10))), _SLICE, st.integers(4, 16)),
    Mask: st.builds(lambda k, top: Mask(k, _drawn(top)), _SLICE, st.integers(0, 20)),
}
assert PROMPTS.keys() == set(KINDS), "a kind of prompt that the contract does not know"


class Sessions(RuleBasedStateMachine):
    """The same operations on all parties; the first one is what the others are compared with.

    Attributes:
        parties: make a party each, from the crop of its session.
        deaths: how often hosts may end in a run; starting them takes long.
    """

    parties: Mapping[str, Callable[[str | None], Party]]
    deaths = 1

    @initialize(crop=st.sampled_from([None, "auto"]))
    def begin(self, crop: str | None) -> None:
        """Open the sessions, with a first click."""
        self.all = {name: make(crop) for name, make in self.parties.items()}
        self.left = self.deaths
        self.every(AddPrompt("a", Point((11, 10, 3))))

    def every(self, operation: Operation) -> None:
        """Have all parties do something, and compare."""
        told = {name: party.do(operation) for name, party in self.all.items()}
        seen = {name: party.seen() for name, party in self.all.items()}
        first, *others = self.all
        for name in others:
            assert told[name] == told[first], (name, operation)
            for what in seen[first]:
                assert seen[name][what] == seen[first][what], (name, what, operation)

    @rule(segment=_SEGMENT, prompt=st.one_of(*PROMPTS.values()))
    def prompt(self, segment: str, prompt: Prompt) -> None:
        self.every(AddPrompt(segment, prompt))

    @rule(segment=_SEGMENT, position=st.integers(-2, 3))
    def remove(self, segment: str, position: int) -> None:
        self.every(RemovePrompt(segment, position))

    @rule(segment=_SEGMENT, bounds=st.tuples(_SLICE, _SLICE))
    def start(self, segment: str, bounds: tuple[int, int]) -> None:
        self.every(StartFrom(segment, min(bounds), max(bounds)))

    @rule(segment=_SEGMENT, k=_SLICE, locked=st.booleans())
    def lock(self, segment: str, k: int, locked: bool) -> None:
        self.every(Lock(segment, k, locked))

    @rule(segment=_SEGMENT)
    def clear(self, segment: str) -> None:
        self.every(Clear(segment))

    @rule(segment=_SEGMENT, k=_SLICE)
    def predict(self, segment: str, k: int) -> None:
        self.every(Predict(segment, k))

    @rule(segment=_SEGMENT, k=_SLICE)
    def logits(self, segment: str, k: int) -> None:
        self.every(Logits(segment, k))

    @rule(
        segments=st.none() | st.sampled_from([("a",), ("b",), ("b", "a")]),
        direction=st.sampled_from(["both", "forward", "backward"]),
        bounds=st.none() | st.tuples(_SLICE, _SLICE),
        few=_FEW | st.just(2 * SLICES),
    )
    def propagate(
        self, segments: tuple[str, ...] | None, direction: str, bounds: tuple[int, int] | None, few: int
    ) -> None:
        first, last = (min(bounds), max(bounds)) if bounds else (None, None)
        self.every(Propagate(segments, direction, first, last, few))

    @rule(few=_FEW)
    def go_on(self, few: int) -> None:
        self.every(GoOn(few))

    @rule()
    def cancel(self) -> None:
        self.every(Cancel())

    @rule()
    def undo(self) -> None:
        self.every(Undo())

    @rule()
    def redo(self) -> None:
        self.every(Redo())

    @rule(hard=st.booleans())
    def lose(self, hard: bool) -> None:
        hard = hard and self.left > 0
        self.left -= hard
        self.every(Lose(hard))

    @rule(seed=st.integers(0, 3))
    def renew(self, seed: int) -> None:
        self.every(Renew(seed))

    def teardown(self) -> None:
        """Close the sessions."""
        for party in getattr(self, "all", {}).values():
            party.close()
