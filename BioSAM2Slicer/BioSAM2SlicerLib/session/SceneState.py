"""The state of the open session, the markups of its prompts, what was reviewed, and all of it as text for the scene."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from biosam2 import Volume
from biosam2.errors import BioSAM2Error
from biosam2.frames import Frames
from biosam2.masks import dice, unpack
from biosam2.prompts import Prompt
from biosam2.session import SessionSettings, SessionState
from biosam2.session.doubt import doubts
from biosam2.session.entries import Entry, Propagated, plain, to_text
from biosam2.session.executor import Found
from biosam2.session.results import ResultStore
from biosam2.session.state import SegmentState, read_record
from numpy.typing import NDArray

_NOTHING = SegmentState()


@dataclass(frozen=True)
class Reviewed:
    """A slice with a result, as it is reviewed.

    Attributes:
        sureness: how sure the model is of its mask, 0 to 1; None in scenes that did not say.
        change: how much the mask differs from the one of an earlier propagation, 1 − Dice; None where there was none.
        seen: whether the user has looked at it since.
    """

    sureness: float | None
    change: float | None
    seen: bool


class Numbers(dict[tuple[str, int], float]):
    """Numbers by segment and slice, each made JSON once: the scene is told of all at every slice that arrives."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[tuple[str, int], str] = {}

    def __setitem__(self, key: tuple[str, int], number: float) -> None:
        super().__setitem__(key, number)
        self._texts[key] = json.dumps([*key, round(number, 4)])

    def toText(self) -> str:
        """As JSON, [segment, slice, number] each; empty where there is none."""
        return f"[{', '.join(self._texts.values())}]" if self else ""

    @classmethod
    def of(cls, data: Iterable[Sequence[Any]]) -> Numbers:
        """What `toText` told, as JSON data."""
        numbers = cls()
        for name, index, number in data:
            numbers[str(name), int(index)] = float(number)
        return numbers


@dataclass(eq=False)
class Note:
    """What the panel knows of an entry beside the entry itself.

    Attributes:
        markup: of a prompt: identifier of its markup, empty where it has none.
        scores, changes: of a propagation, see `Reviewed`.
        seen: of a propagation: slices that the user has looked at since.
        text, entryText: this note, and the entry that it is about, as JSON, once they were asked for.
    """

    markup: str = ""
    scores: Numbers = field(default_factory=Numbers)
    changes: Numbers = field(default_factory=Numbers)
    seen: set[tuple[str, int]] = field(default_factory=set)
    text: str = field(default="", repr=False)
    entryText: tuple[Entry, str] | None = field(default=None, repr=False)

    def toText(self) -> str:
        """As JSON; what is empty is left out."""
        if not self.text:
            parts = {
                "markup": json.dumps(self.markup) if self.markup else "",
                "scores": self.scores.toText(),
                "changes": self.changes.toText(),
                "seen": json.dumps(sorted(self.seen)) if self.seen else "",
            }
            self.text = "{" + ", ".join(f'"{name}": {text}' for name, text in parts.items() if text) + "}"
        return self.text

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Note:
        """What `toText` told, as JSON data."""
        return cls(
            str(data.get("markup", "")),
            Numbers.of(data.get("scores", ())),
            Numbers.of(data.get("changes", ())),
            {(str(name), int(index)) for name, index in data.get("seen", ())},
        )


class SceneState:
    """Holds the immutable `SessionState` that is valid now. Segments go by their identifiers.

    Attributes:
        state: None before a session has begun; then nothing is prompted.

    Example:
        >>> scene = SceneState()
        >>> scene.begin(settings, (24, 512, 512))
        >>> entryId = scene.add(Prompted("Segment_1", Point((3, 4, 5))), "p1")
        >>> scene.moveTo(0)  # undone
    """

    def __init__(self) -> None:
        self.state: SessionState | None = None
        self._results = ResultStore()
        self._notes: dict[int, Note] = {}
        # Never used again, also not by the next session: the worker tells entries apart by them.
        self._ids = itertools.count(1)

    # -- entries ---------------------------------------------------------------------------------

    @property
    def head(self) -> int:
        """Identifier of the last entry in force, 0 where there is none."""
        return self.state.head if self.state is not None else 0

    def begin(self, settings: SessionSettings, shape: tuple[int, int, int]) -> None:
        """Begin a session without entries.

        Args:
            settings: of the session.
            shape: the volume's (K, J, I).
        """
        self.close()
        self.state = _empty(settings, shape)

    def close(self) -> None:
        """End the session."""
        self.state = None
        self._results = ResultStore()
        self._notes = {}

    def add(self, entry: Entry, markup: str = "") -> int:
        """Put one more entry in force; what was undone is gone.

        Args:
            entry: what happened.
            markup: of a prompt: identifier of its markup.

        Returns:
            The entry's identifier.

        Raises:
            InputError, PromptError: it does not fit the session.
        """
        assert self.state is not None
        entryId = next(self._ids)
        gone = [each.id for each in self.state.undone_entries]
        self.state = self.state.with_entry(entryId, entry)
        self._forget(gone)
        self._notes[entryId] = Note(markup)
        return entryId

    def moveTo(self, entryId: int) -> None:
        """Undo or redo entries up to this one; 0: all are undone."""
        if self.state is not None:
            self.state = self.state.moved_to(entryId)

    def refuse(self, entryId: int) -> None:
        """Take out an entry that the network refused."""
        if self.state is not None and self.isInForce(entryId):
            known = {each.id for each in (*self.state.in_force, *self.state.undone_entries)}
            self.state = self.state.without(entryId)
            self._forget(known - {each.id for each in self.state.in_force})

    def isInForce(self, entryId: int) -> bool:
        """Whether an entry is in force."""
        return self.state is not None and any(each.id == entryId for each in self.state.in_force)

    def take(self, entryId: int, found: Found, earlier: int) -> None:
        """Take a result of a propagation in force.

        Args:
            entryId: of the propagation.
            found: the result.
            earlier: the propagation, this one or an earlier one of the same step, whose masks are not compared with.
        """
        assert self.state is not None
        key, note = (found.segment, found.slice_index), self._notes[entryId]
        note.text = ""
        if not found.gone:
            before = self.resultMask(*key, self.state.before(earlier))
            if before is not None and found.update:
                note.changes[key] = 1 - dice(found.mask, before)
            self._results.put(entryId, *key, found.mask, found.score)
            note.scores[key] = found.score if found.mask.any() else 1 - found.score
        if found.update:
            entry = self.propagation(entryId)
            gone = (*entry.gone, key) if found.gone else entry.gone
            interpolated = (*entry.interpolated, key) if found.interpolated else entry.interpolated
            entry = msgspec.structs.replace(
                entry, finished=(*entry.finished, key), gone=gone, interpolated=interpolated
            )
            self.state = self.state.with_progress(entryId, entry)

    def complete(self, entryId: int) -> None:
        """A propagation in force ran to its end."""
        assert self.state is not None
        entry = msgspec.structs.replace(self.propagation(entryId), complete=True)
        self.state = self.state.with_progress(entryId, entry)

    def propagation(self, entryId: int) -> Propagated:
        """The entry of a propagation in force."""
        assert self.state is not None
        entry = next(each.entry for each in self.state.in_force if each.id == entryId)
        assert isinstance(entry, Propagated)
        return entry

    # -- what follows from them ------------------------------------------------------------------

    @property
    def axis(self) -> str:
        """The session's axis; empty before it has begun."""
        return self.state.settings.axis if self.state is not None else ""

    @property
    def prompted(self) -> tuple[str, ...]:
        """Segments that carry prompts, in order of creation."""
        return self.state.prompted if self.state is not None else ()

    @property
    def segments(self) -> tuple[str, ...]:
        """Segments that the session knows, in order of creation."""
        return self.state.segments if self.state is not None else ()

    def segment(self, segmentId: str) -> SegmentState:
        """What is known of a segment; nothing of one that the session does not know."""
        return self.state.segment(segmentId) if segmentId in self.segments else _NOTHING  # type: ignore[union-attr]

    def markups(self, segmentId: str) -> list[tuple[str, Prompt]]:
        """The segment's prompts in the session's own order, with the identifiers of their markups."""
        segment = self.segment(segmentId)
        return [(self._notes[i].markup, prompt) for i, prompt in zip(segment.given, segment.prompts, strict=True)]

    def markupOf(self, entryId: int) -> str:
        """Identifier of an entry's markup; empty where it has none, or is gone."""
        return self._notes[entryId].markup if entryId in self._notes else ""

    def sliceOf(self, prompt: Prompt) -> int:
        """The slice that a prompt is for."""
        assert self.state is not None
        return prompt.slice_of(self.state.frames)

    def userSlices(self, segmentId: str) -> set[int]:
        """Slices that are the user's own, see `SessionState.user_slices`."""
        return self.state.user_slices(segmentId) if segmentId in self.segments else set()  # type: ignore[union-attr]

    def shownMask(self, segmentId: str, index: int) -> NDArray[np.bool_] | None:
        """What a slice shows by the session, bool (rows, columns); None where its result is not known any more."""
        assert self.state is not None
        try:
            return self.state.mask_on(segmentId, index, self._results)
        except KeyError:
            return None

    def resultMask(self, segmentId: str, index: int, state: SessionState) -> NDArray[np.bool_] | None:
        """The result that a slice has in a state; None where there is none, or it is not known any more."""
        if segmentId not in state.segments:
            return None
        madeBy = state.segment(segmentId).results.get(index)
        try:
            packed = self._results.get(madeBy, segmentId, index).mask if madeBy is not None else None
        except KeyError:
            return None
        return None if packed is None else unpack(packed, (state.frames.rows, state.frames.columns))

    def reviewed(self, segmentId: str) -> dict[int, Reviewed]:
        """Slices with a result."""
        found = {}
        for index, madeBy in self.segment(segmentId).results.items():
            note, key = self._notes[madeBy], (segmentId, index)
            found[index] = Reviewed(note.scores.get(key), note.changes.get(key), key in note.seen)
        return found

    def doubts(self, segmentId: str, extent: tuple[float, float], changed: Iterable[int]) -> dict[int, float]:
        """How much slices need a look, see `biosam2.session.doubt.doubts`; a slice that was looked at needs none."""
        if self.state is None or segmentId not in self.segments:
            return {}
        results = self.reviewed(segmentId)
        scores = {index: result.sureness for index, result in results.items() if result.sureness is not None}
        known = {*changed, *(index for index, result in results.items() if result.seen)}
        return doubts(self.state, segmentId, scores, extent, known)

    def see(self, segmentId: str, index: int) -> bool:
        """Note that the user has looked at a slice; False where there was nothing new to see."""
        madeBy = self.segment(segmentId).results.get(index)
        if madeBy is None or (segmentId, index) in self._notes[madeBy].seen:
            return False
        self._notes[madeBy].seen.add((segmentId, index))
        self._notes[madeBy].text = ""
        return True

    # -- the scene -------------------------------------------------------------------------------

    def toText(self) -> str:
        """As JSON, for the parameter node: a run record's session, and notes; empty where nothing was done."""
        if self.state is None or not self.state.in_force:
            return ""
        settings = json.dumps(plain(self.state.settings))
        entries = ", ".join(self._text(each.id, each.entry) for each in self.state.in_force)
        notes = ", ".join(self._notes[each.id].toText() for each in self.state.in_force)
        return f'{settings[:-1]}, "journal": [{entries}], "notes": [{notes}]}}'

    def load(self, text: str, shape: tuple[int, int, int]) -> None:
        """Hold what `toText` wrote, and nothing else.

        Args:
            text: empty for no session.
            shape: the volume's (K, J, I).

        Raises:
            ValueError: it is damaged; then there is no session.
        """
        self.close()
        if not text:
            return
        try:
            data = json.loads(text)
            settings, entries = read_record(data)
            state, notes = _empty(SessionSettings(**settings), shape), {}
            for entry, note in zip(entries, data["notes"], strict=True):
                entryId = next(self._ids)
                state = state.with_entry(entryId, entry)
                notes[entryId] = Note.of(note)
            self.state, self._notes = state, notes
        except (BioSAM2Error, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            self.close()
            raise ValueError(f"the session in the scene is damaged: {error}") from error

    # -- inside ----------------------------------------------------------------------------------

    def _forget(self, entries: Iterable[int]) -> None:
        """Entries are gone and will not come back."""
        entries = list(entries)
        self._results.drop(entries)
        for entryId in entries:
            self._notes.pop(entryId, None)

    def _text(self, entryId: int, entry: Entry) -> str:
        """An entry as JSON; it may hold a mask, and is packed once."""
        note = self._notes[entryId]
        if note.entryText is None or note.entryText[0] is not entry:
            note.entryText = (entry, to_text(entry))
        return note.entryText[1]


def _empty(settings: SessionSettings, shape: tuple[int, int, int]) -> SessionState:
    # What a state says of slices depends on the grid alone; the voxels stay with Slicer.
    grid = Volume(np.broadcast_to(np.uint8(0), shape))
    return SessionState(settings, Frames(grid, settings.axis, settings.window, 0))
