"""The entries that a host has, as far as its client knows; a host that lacks some says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..session.entries import Propagated
from ..session.state import Identified
from . import messages as m
from .framing import DEFAULT_LIMITS, size_of

# Entries in a message, and what they may take of `Limits`; one alone may take more.
_ENTRIES, _HEAD, _ARRAYS = 200, DEFAULT_LIMITS.head // 2, 32 << 20


class EntriesThere:
    """What a host has of a session, and how far propagations were run.

    Args:
        under_way: whether a propagation, by its entry, is under way; the host then knows better how far it is.
    """

    def __init__(self, under_way: Callable[[int], bool]) -> None:
        self._under_way = under_way
        self._there: dict[int, tuple[int, bool]] = {}
        # How far propagations were run that this client asked for, whichever host ran them.
        self._ran: dict[int, tuple[int, bool]] = {}
        self.round = 0

    def clear(self) -> None:
        """The host may lack any entry. What was sent in an earlier `round` says nothing about this one."""
        self._there.clear()
        self.round += 1

    def forget(self, entry_id: int) -> None:
        """Forget an entry and all after it: it is not what it was."""
        self._there = {known: how for known, how in self._there.items() if known < entry_id}
        self._ran = {known: how for known, how in self._ran.items() if known < entry_id}

    def begin(self, entry_id: int) -> None:
        """A propagation is to be run from its beginning."""
        self._ran.pop(entry_id, None)
        self._there.pop(entry_id, None)

    def end(self, entry_id: int, count: int, complete: bool, is_there: bool) -> None:
        """A propagation was run.

        Args:
            entry_id: its entry.
            count: how many updates it had.
            complete: whether it ran to its end.
            is_there: whether the host has it just so; else it is sent again before it matters.
        """
        self._ran[entry_id] = (count, complete)
        if is_there:
            self._there[entry_id] = (count, complete)
        else:
            self._there.pop(entry_id, None)

    def lacking(self, entries: tuple[Identified, ...]) -> Iterator[list[m.SentEntry]]:
        """Entries that the host lacks, in lists of a bounded size; taken to be there from now on."""
        lacking: list[m.SentEntry] = []
        head = arrays = 0
        parent = 0
        for each in entries:
            how = self._how_far(each)
            if how is not None and self._there.get(each.id) != how:
                sent = _as_sent(each, parent, how)
                more = size_of(sent)
                full = len(lacking) == _ENTRIES or head + more[0] > _HEAD or arrays + more[1] > _ARRAYS
                if lacking and full:
                    yield lacking
                    lacking, head, arrays = [], 0, 0
                lacking.append(sent)
                self._there[each.id] = how
                head, arrays = head + more[0], arrays + more[1]
            parent = each.id
        if lacking:
            yield lacking

    def head(self, entries: tuple[Identified, ...]) -> m.Head:
        """What a request names that is about the state after these entries."""
        head = entries[-1].id if entries else 0
        last = next((each for each in reversed(entries) if isinstance(each.entry, Propagated)), None)
        if last is None:
            return m.Head(id=head)
        if self._under_way(last.id):
            return m.Head(id=head, finished=None)
        how = self._how_far(last)
        assert how is not None
        return m.Head(id=head, finished=how[0], complete=how[1])

    def _how_far(self, each: Identified) -> tuple[int, bool] | None:
        """How far the host is to have an entry; None for a propagation under way there."""
        if not isinstance(each.entry, Propagated):
            return 0, True
        if self._under_way(each.id):
            return None if each.id in self._there else (0, False)
        return self._ran.get(each.id, (len(each.entry.finished), each.entry.complete))


def _as_sent(each: Identified, parent: int, how: tuple[int, bool]) -> m.SentEntry:
    """An entry on its way; a propagation without what it finished, which the host finds again."""
    entry = each.entry
    if isinstance(entry, Propagated):
        entry = entry.anew()
    return m.SentEntry(id=each.id, parent=parent, entry=entry, finished=how[0], complete=how[1])
