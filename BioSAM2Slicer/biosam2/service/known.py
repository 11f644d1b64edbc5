"""The entries that a host knows of its client's session. A cache: what is missing or old is sent again."""

from __future__ import annotations

import msgspec

from ..errors import InputError
from ..session.entries import Propagated
from ..session.executor import Executor
from ..session.state import SessionState
from . import messages as m
from .errors import ProtocolError
from .framing import size_of

# Entries that are kept, and their bytes; what was undone goes first.
_MOST, _MOST_BYTES = 100_000, 2 << 30


class KnownEntries:
    """A tree of entries: undo and redo are another head, and need not be told.

    Args:
        empty: the state without entries.
        executor: forgets propagations that turn out to have gone otherwise.
    """

    def __init__(self, empty: SessionState, executor: Executor) -> None:
        self._executor = executor
        self._entries: dict[int, m.SentEntry] = {}
        self._sizes: dict[int, int] = {}
        self._nbytes = 0
        # Propagations that have been run here as far as their entries say.
        self._run: set[int] = set()
        self._state = empty

    def add(self, sent: m.SentEntry) -> bool:
        """Take an entry; one that says another thing of a propagation than what is known replaces it.

        Returns:
            Whether it could be taken; not where the entry before it is not known.

        Raises:
            ProtocolError: it comes before its parent, or there are too many entries.
        """
        if sent.parent and sent.parent not in self._entries:
            return False
        if sent.id <= sent.parent:
            raise ProtocolError(f"entry {sent.id} cannot come after entry {sent.parent}")
        old = self._entries.get(sent.id)
        if old is not None:
            if (old.parent, old.finished, old.complete) == (sent.parent, sent.finished, sent.complete):
                return True
            self._forget(sent.id)
        size = sum(size_of(sent))
        if not self._room_for(size):
            self._prune(sent.parent)
            if not self._room_for(size):
                raise ProtocolError("the session's history is too large for this host; open a new session")
        self._nbytes += size - self._sizes.get(sent.id, 0)
        self._entries[sent.id], self._sizes[sent.id] = sent, size
        return True

    def has(self, head: m.Head) -> bool:
        """Whether a head is known, with its last propagation as far as the client says."""
        path = self._path(head.id)
        if path is None:
            return False
        last = next((sent for sent in path if isinstance(sent.entry, Propagated)), None)
        if last is None or head.finished is None:
            return True
        return (last.finished, last.complete) == (head.finished, head.complete)

    def state(self, entry_id: int) -> SessionState:
        """The state whose head an entry is.

        Raises:
            InputError, PromptError: an entry does not fit the session.
        """
        path = self._path(entry_id)
        assert path is not None
        lacking = []
        for sent in path:
            state = self._state.up_to(sent.id)
            if state is not None:
                break
            lacking.append(sent)
        else:
            state = self._state.up_to(0)
        assert state is not None
        for sent in reversed(lacking):
            state = state.with_entry(sent.id, sent.entry)
        self._state = state
        return state

    def to_run(self, entry_id: int, itself: bool) -> list[m.SentEntry]:
        """Propagations that have to be run before something can be said of a head, in order.

        Args:
            entry_id: the head.
            itself: whether the head is meant too, if it is a propagation.
        """
        path = self._path(entry_id) or []
        return [
            sent
            for sent in reversed(path)
            if isinstance(sent.entry, Propagated) and sent.id not in self._run and (itself or sent.id != entry_id)
        ]

    def note(self, entry_id: int, entry: Propagated) -> None:
        """A propagation has been run; how far, and what it finished."""
        sent = self._entries[entry_id]
        self._entries[entry_id] = msgspec.structs.replace(
            sent, entry=entry, finished=len(entry.finished), complete=entry.complete
        )
        self._run.add(entry_id)
        if self._state.up_to(entry_id) is not None:
            self._state = self._state.with_progress(entry_id, entry)

    def begin(self, entry_id: int) -> Propagated:
        """A propagation is going to be run, from its beginning.

        Raises:
            InputError: the entry is none.
        """
        entry = self._entries[entry_id].entry
        if not isinstance(entry, Propagated):
            raise InputError(f"entry {entry_id} is no propagation")
        self._forget(entry_id)
        return entry.anew()

    def _forget(self, entry_id: int) -> None:
        """A propagation is not what it was, nor is what came after it."""
        self._run = {known for known in self._run if known < entry_id}
        self._executor.forget(entry_id)
        if self._state.up_to(entry_id) is not None:
            self._state = self._state.before(entry_id)

    def _room_for(self, size: int) -> bool:
        return len(self._entries) < _MOST and self._nbytes + size <= _MOST_BYTES

    def _prune(self, entry_id: int) -> None:
        """Forget all entries but one and those before it."""
        kept = {sent.id for sent in self._path(entry_id) or ()}
        self._entries = {known: sent for known, sent in self._entries.items() if known in kept}
        self._sizes = {known: size for known, size in self._sizes.items() if known in kept}
        self._nbytes = sum(self._sizes.values())
        self._run &= kept

    def _path(self, entry_id: int) -> list[m.SentEntry] | None:
        """An entry and all before it, the last one first; None where one is not known."""
        path = []
        while entry_id:
            sent = self._entries.get(entry_id)
            if sent is None:
                return None
            path.append(sent)
            entry_id = sent.parent
        return path
