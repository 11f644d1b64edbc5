"""The entries that a host knows: a tree, bounded, in which propagations may turn out to have gone otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2 import Mask, Point, Scribble, Volume
from biosam2.frames import Frames
from biosam2.service import known as module
from biosam2.service import messages as m
from biosam2.service.errors import ProtocolError
from biosam2.service.framing import size_of
from biosam2.service.known import KnownEntries
from biosam2.session.entries import Prompted, Propagated, Started
from biosam2.session.settings import SessionSettings
from biosam2.session.state import SessionState

VOLUME = Volume(np.arange(120, dtype=np.int16).reshape(6, 5, 4))
PROMPT = Prompted("a", Point((1, 1, 2)))
SWEEP = Propagated(("a",), "both", None, None)


class Forgetful:
    """An executor that notes what it is to forget."""

    def __init__(self) -> None:
        self.forgotten: list[int] = []

    def forget(self, entry_id: int) -> None:
        self.forgotten.append(entry_id)


@pytest.fixture
def executor() -> Forgetful:
    return Forgetful()


@pytest.fixture
def known(executor: Forgetful) -> KnownEntries:
    settings = SessionSettings.resolve(VOLUME)
    return KnownEntries(SessionState(settings, Frames(VOLUME, "k", settings.window, 0)), executor)


def sent(entry_id: int, parent: int, entry=PROMPT, **more) -> m.SentEntry:
    return m.SentEntry(id=entry_id, parent=parent, entry=entry, **more)


def test_undo_and_another_prompt_are_branches_of_one_tree(known: KnownEntries) -> None:
    assert known.add(sent(1, 0))
    assert known.add(sent(2, 1))
    assert known.add(sent(3, 1, Prompted("b", Point((0, 0, 0)))))
    for head, segments in ((2, ("a",)), (3, ("a", "b")), (1, ("a",)), (0, ()), (3, ("a", "b"))):
        assert known.has(m.Head(id=head))
        assert known.state(head).segments == segments
        assert known.state(head).head == head


def test_an_entry_without_its_parent_is_not_taken(known: KnownEntries) -> None:
    assert not known.add(sent(3, 2))
    assert not known.has(m.Head(id=3))
    with pytest.raises(ProtocolError, match="cannot come after"):
        known.add(sent(1, 0)) and known.add(sent(1, 1))


def test_a_propagation_that_went_otherwise_is_run_again_and_so_is_what_came_after(
    known: KnownEntries, executor: Forgetful
) -> None:
    for each in (sent(1, 0), sent(2, 1, SWEEP, finished=3), sent(3, 2, SWEEP, finished=1, complete=True)):
        known.add(each)
    assert [each.id for each in known.to_run(3, itself=True)] == [2, 3]
    known.note(2, Propagated(("a",), "both", None, None, (("a", 2), ("a", 3), ("a", 4))))
    known.note(3, Propagated(("a",), "both", None, None, (("a", 2),), True))
    assert known.to_run(3, itself=True) == []
    assert known.has(m.Head(id=3, finished=1, complete=True))
    assert not known.has(m.Head(id=3, finished=2, complete=True))
    assert known.has(m.Head(id=3, finished=None))
    executor.forgotten.clear()
    known.add(sent(2, 1, SWEEP, finished=2))
    assert executor.forgotten == [2]
    assert [each.id for each in known.to_run(3, itself=True)] == [2, 3]


def test_what_was_undone_goes_before_a_client_is_refused(known: KnownEntries, monkeypatch) -> None:
    mask = np.ones(VOLUME.shape, bool)
    monkeypatch.setattr(module, "_MOST_BYTES", 2 * sum(size_of(sent(1, 0, Started("a", mask)))))
    known.add(sent(1, 0, Started("a", mask)))
    known.add(sent(2, 1, Started("b", mask)))
    assert known.add(sent(3, 1, Started("c", mask)))
    assert not known.has(m.Head(id=2))
    with pytest.raises(ProtocolError, match="too large"):
        known.add(sent(4, 3, Started("d", mask)))
    assert known.state(3).segments == ("a", "c")


@pytest.mark.parametrize(
    "prompt",
    [Mask(2, np.ones((200, 150), bool)), Scribble(2, tuple((n % 5 + 0.25, n % 4 + 0.25) for n in range(1500)))],
    ids=["mask", "scribble"],
)
def test_a_prompt_counts_with_all_that_it_holds(known: KnownEntries, monkeypatch, prompt) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 40_000)
    assert known.add(sent(1, 0, Prompted("a", prompt)))
    assert known.add(sent(1, 0, Prompted("a", prompt)))  # what is known already takes no more
    with pytest.raises(ProtocolError, match="too large"):
        known.add(sent(2, 1, Prompted("a", prompt)))
