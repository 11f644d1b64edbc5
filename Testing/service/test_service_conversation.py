"""The client's side of the protocol, message by message: no process, no socket, nothing waits."""

from __future__ import annotations

from collections import deque

import biosam2
import msgspec
import numpy as np
import pytest
from biosam2 import Mask, Point, Scribble
from biosam2.frames import Frames
from biosam2.service import messages as m
from biosam2.service.conversation import Conversation, RunTicket, Ticket
from biosam2.service.errors import ConnectionLostError, ProtocolError, ServiceError
from biosam2.service.framing import Decoder, Refused, encode
from biosam2.service.host import Host
from biosam2.session.entries import Prompted, Propagated, Started
from biosam2.session.executor import Found
from biosam2.session.results import ResultStore
from biosam2.session.settings import ModelFacts, SessionSettings
from biosam2.session.state import SessionState
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_helpers import ModelEngine, same_updates

VOLUME = biosam2.Volume(np.arange(6 * 24 * 20, dtype=np.int16).reshape(6, 24, 20))
SLICE = np.eye(24, 20, dtype=bool)
SWEEP = Propagated(("a",), "both", None, None)
HELLO = m.Hello(id=0, protocol=m.PROTOCOL, client="test")
OPEN = m.OpenVolume(id=0, path="x", spacing=(1, 1, 1), origin=(0, 0, 0), direction=((1, 0, 0), (0, 1, 0), (0, 0, 1)))
FACTS = ModelFacts(name="small", sha256="00", device="cpu", device_reason="", image_size=64)


def state_of(*entries, volume: biosam2.Volume = VOLUME, **chosen) -> SessionState:
    resolved = SessionSettings.resolve(volume, **chosen)
    state = SessionState(resolved, Frames(volume, resolved.axis, resolved.window, 64))
    for number, entry in enumerate(entries, start=1):
        state = state.with_entry(number, entry)
    return state


def point(i: int = 11, k: int = 3, segment: str = "a") -> Prompted:
    return Prompted(segment, Point((i, 10, k)))


def kinds(messages) -> list[str]:
    return [type(message).__name__ for message in messages]


def one(messages, kind: type):
    (found,) = [message for message in messages if isinstance(message, kind)]
    return found


def update(request: m.Propagate, number: int, s: int = 3, **more) -> m.Update:
    return m.Update(id=request.id, number=number, segment="a", slice_index=s, mask=SLICE, score=0.5, **more)


@pytest.fixture
def told() -> list[Ticket]:
    """Tickets that have changed, in order."""
    return []


@pytest.fixture
def talk() -> Conversation:
    """With a host that has a session without entries."""
    conversation = Conversation()
    conversation.open(settings=state_of().settings, facts=FACTS)
    return conversation


# -- one answer --------------------------------------------------------------------------------------------------------


def test_a_request_brings_the_entries_that_the_host_lacks_and_no_others(talk: Conversation, told) -> None:
    state = state_of(point(), point(12))
    ticket = talk.predict(state, "a", 3, told.append)
    sync, asked = talk.to_send()
    assert [(sent.id, sent.parent) for sent in sync.entries] == [(1, 0), (2, 1)]
    assert (asked.segment, asked.slice_index, asked.head) == ("a", 3, m.Head(id=2))
    talk.receive(m.Done(id=sync.id))
    assert ticket.waits_for == asked.id
    assert told == []
    talk.receive(m.MaskAnswer(id=asked.id, mask=SLICE))
    assert told == [ticket]
    assert np.array_equal(ticket.result(), SLICE)
    later = state.with_entry(3, point(13))
    talk.logits(later, "a", 3)
    sync, asked = talk.to_send()
    assert [(sent.id, sent.parent) for sent in sync.entries] == [(3, 2)]
    # An undo needs no entries.
    talk.logits(state, "a", 3)
    assert kinds(talk.to_send()) == ["Logits"]


def test_requests_wait_for_a_host_and_for_its_opening(told) -> None:
    talk = Conversation()
    ticket = talk.predict(state_of(point()), "a", 3, told.append)
    assert talk.to_send() == []
    opening = talk.open(HELLO, m.LoadModel(id=0, name="small"), OPEN, on_change=told.append)
    hello, load, volume = talk.to_send()
    assert len({hello.id, load.id, volume.id} - {0}) == 3
    talk.receive(m.Welcome(id=hello.id, protocol=m.PROTOCOL, biosam2="1"))
    talk.receive(m.ModelLoaded(id=load.id, model=FACTS))
    assert (talk.to_send(), told) == ([], [])
    talk.receive(m.Done(id=volume.id))
    assert told == [opening]
    assert opening.result() == talk.facts == FACTS
    assert kinds(talk.to_send()) == ["Create", "Sync", "Predict"]
    assert not ticket.done


def test_a_host_that_refuses_its_opening_refuses_every_request_until_it_is_opened_again(told) -> None:
    talk = Conversation()
    before = talk.predict(state_of(point()), "a", 3)
    opening = talk.open(m.LoadModel(id=0, name="none"), OPEN)
    load, volume = talk.to_send()
    talk.receive(m.Failure(id=load.id, kind="ModelError", text="there is no model 'none'"))
    talk.receive(m.Done(id=volume.id))
    after = talk.predict(state_of(point()), "a", 3)
    talk.open_volume(OPEN)
    talk.receive(m.Done(id=one(talk.to_send(), m.OpenVolume).id))
    later = talk.check(state_of(point()), Mask(3, SLICE))
    for ticket in (opening, before, after, later):
        with pytest.raises(biosam2.errors.ModelError, match="no model 'none'"):
            ticket.result()
    talk.open(settings=state_of().settings)
    talk.predict(state_of(point()), "a", 3)
    assert kinds(talk.to_send()) == ["Sync", "Predict"]


def test_a_session_with_other_settings_is_created_anew(talk: Conversation) -> None:
    first = talk.predict(state_of(point()), "a", 3)
    talk.to_send()
    other = state_of(point(), axis="j")
    talk.predict(other, "a", 10)
    create, sync, asked = talk.to_send()
    assert create.settings == other.settings
    assert len(sync.entries) == 1
    talk.receive(m.Failure(id=create.id, kind="InputError", text="no"))
    talk.receive(m.Failure(id=asked.id, kind="ProtocolError", text="there is no session yet; send create first"))
    # The host answers what came before.
    assert (first.done, talk.waiting) == (False, 1)
    talk.predict(other, "a", 10)
    assert kinds(talk.to_send()) == ["Create", "Sync", "Predict"]


def test_of_many_requests_about_a_slice_the_first_and_the_newest_are_answered(talk: Conversation, told) -> None:
    state = state_of(point())
    tickets = [talk.predict(state.with_entry(n, point(n)), "a", 3, told.append) for n in range(2, 7)]
    other = talk.predict(state, "a", 4, told.append)
    sent = talk.to_send()
    first = next(message for message in sent if isinstance(message, m.Predict))
    assert [message.slice_index for message in sent if isinstance(message, m.Predict)] == [3, 4]
    talk.receive(m.MaskAnswer(id=first.id, mask=SLICE))
    assert told == []
    newest = one(talk.to_send(), m.Predict)
    assert newest.head == m.Head(id=6)
    talk.receive(m.MaskAnswer(id=newest.id, mask=SLICE))
    assert told == [tickets[-1]]
    assert (other.done, talk.waiting) == (False, 1)


def test_a_host_that_has_forgotten_is_sent_everything_and_given_up_after_a_while(talk: Conversation) -> None:
    state = state_of(point(), point(12))
    ticket = talk.predict(state, "a", 3)
    for _ in range(2):
        sync, asked = talk.to_send()
        assert [sent.id for sent in sync.entries] == [1, 2]
        talk.receive(m.Stale(id=sync.id))
        talk.receive(m.Stale(id=asked.id))
    sync, asked = talk.to_send()
    talk.receive(m.Done(id=sync.id))
    talk.receive(m.Stale(id=asked.id))
    assert talk.to_send() == []
    with pytest.raises(ServiceError, match="could not be restored"):
        ticket.result()


def test_two_requests_on_their_way_to_a_host_that_has_forgotten_are_both_asked_again(talk: Conversation) -> None:
    state = state_of(point())
    first = talk.predict(state, "a", 3)
    second = talk.predict(state.with_entry(2, point(k=4)), "a", 4)
    for message in talk.to_send():
        talk.receive(m.Stale(id=message.id))
    again = talk.to_send()
    assert kinds(again) == ["Sync", "Predict", "Sync", "Predict"]
    assert [sent.id for message in again if isinstance(message, m.Sync) for sent in message.entries] == [1, 2]
    for message in again:
        talk.receive(m.Done(id=message.id) if isinstance(message, m.Sync) else m.MaskAnswer(id=message.id, mask=SLICE))
    assert (first.done, second.done) == (True, True)


def test_many_entries_and_large_masks_go_in_several_messages(talk: Conversation) -> None:
    state = state_of(*(point(n % 20) for n in range(450)))
    talk.predict(state, "a", 3)
    messages = talk.to_send()
    assert [len(message.entries) for message in messages[:-1]] == [200, 200, 50]
    big = np.ones((90, 400, 400), bool)
    volume = biosam2.Volume(np.zeros(big.shape, np.int16))
    large = state_of(*(Started("a", big) for _ in range(5)), volume=volume)
    talk.logits(large, "a", 3)
    syncs = [message for message in talk.to_send() if isinstance(message, m.Sync)]
    assert [len(message.entries) for message in syncs] == [2, 2, 1]
    assert all(len(encode(message)) < 32 << 20 for message in syncs)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_strokes_and_drawn_masks_are_sent_in_messages_that_a_host_takes(talk: Conversation, count: int) -> None:
    """After a host's death all of a session goes at once: each message within the limits, none of them lost."""
    line = tuple((4 + 3 * (n % 2) + n * 1e-4, 5 + n * 1e-3) for n in range(3000))
    strokes = [Prompted("a", Scribble(3, line)) for _ in range(count)]
    masks = [Prompted("b", Mask(3, np.ones((1200, 1000), bool))) for _ in range(count)]
    state = state_of(*strokes, *masks, point(), volume=biosam2.Volume(np.zeros((4, 1200, 1000), np.uint8)))
    talk.predict(state, "a", 3)
    decoder: Decoder[m.Asked] = Decoder(m.Asked)
    arrived = [message for asked in talk.to_send() for message in decoder.feed(encode(asked))]
    assert [type(message) for message in arrived if isinstance(message, Refused)] == []
    sent = [each.id for message in arrived if isinstance(message, m.Sync) for each in message.entries]
    assert sent == [each.id for each in state.in_force]


def test_errors_travel_and_answers_of_another_kind_are_refused(talk: Conversation) -> None:
    state = state_of(point())
    refused, odd, unread = talk.check(state, Mask(3, SLICE)), talk.logits(state, "a", 3), talk.predict(state, "a", 3)
    _sync, check, logits, _predict = talk.to_send()
    talk.receive(m.Failure(id=check.id, kind="PromptError", text="it vanishes"))
    talk.receive(m.Done(id=logits.id))
    talk.receive(m.Failure(id=0, kind="ProtocolError", text="these bytes are no message"))
    for ticket, kind in ((refused, biosam2.errors.PromptError), (odd, ProtocolError), (unread, ProtocolError)):
        with pytest.raises(kind):
            ticket.result()
    assert talk.waiting == 0


def test_only_masks_are_checked_by_the_host(talk: Conversation, told) -> None:
    ticket = talk.check(state_of(), Point((1, 1, 1)), told.append)
    assert (told, talk.to_send()) == ([ticket], [])


def test_what_was_dropped_is_not_told_and_what_nobody_waits_for_is_ignored(talk: Conversation, told) -> None:
    ticket = talk.predict(state_of(point()), "a", 3, told.append)
    sync, asked = talk.to_send()
    ticket.drop()
    for message in (sync, asked):
        talk.receive(m.Stale(id=message.id))
    talk.receive(m.Done(id=10**6))
    talk.receive(m.Progress(id=10**6, stage="x"))
    assert (told, talk.to_send(), ticket.done) == ([], [], True)


def test_notices_and_progress_are_passed_on() -> None:
    notices: list[str] = []
    progress: list[m.Progress] = []
    output: list[int] = []
    talk = Conversation(
        on_notice=notices.append,
        on_progress=progress.append,
        on_output=lambda: output.append(len(talk.to_send())),  # type: ignore[attr-defined]  # not the fixture
    )
    talk.open(HELLO)
    talk.receive(m.Notice(text="low priority"))
    talk.receive(m.Progress(id=1, stage="loading", fraction=0.5))
    talk.receive(m.Welcome(id=1, protocol=m.PROTOCOL, biosam2="1"))
    assert (notices, [p.fraction for p in progress], output) == (["low priority"], [0.5], [1])


# -- the host's death --------------------------------------------------------------------------------------------------


def test_after_a_death_what_is_open_is_asked_again(talk: Conversation) -> None:
    state = state_of(point())
    ticket = talk.predict(state, "a", 3)
    old = talk.to_send()
    assert talk.lost("it was killed") is None
    assert talk.to_send() == []
    talk.open(HELLO)
    talk.receive(m.Welcome(id=one(talk.to_send(), m.Hello).id, protocol=m.PROTOCOL, biosam2="1"))
    create, sync, asked = talk.to_send()
    talk.receive(m.MaskAnswer(id=old[-1].id, mask=SLICE))
    assert not ticket.done
    for message in (create, sync):
        talk.receive(m.Done(id=message.id))
    talk.receive(m.MaskAnswer(id=asked.id, mask=SLICE))
    assert ticket.result().any()


def test_a_request_that_ends_every_host_is_given_up_and_one_result_makes_up_for_deaths(talk: Conversation) -> None:
    state = state_of(point())
    settings_ = state.settings
    for _ in range(2):
        ticket = talk.predict(state, "a", 3)
        for _ in range(2):
            assert talk.lost("gone") is None
            talk.open(settings=settings_)
        talk.receive(m.MaskAnswer(id=talk.to_send()[-1].id, mask=SLICE))
        ticket.result()
    ticket = talk.predict(state, "a", 3)
    errors = [talk.lost("gone") for _ in range(3)]
    assert errors[:2] == [None, None]
    with pytest.raises(ServiceError, match="tried 3 times: gone"):
        ticket.result()
    assert talk.lost("gone") is None


def test_a_death_while_it_opens_ends_the_opening(talk: Conversation, told) -> None:
    opening = talk.open(HELLO, OPEN, on_change=told.append)
    talk.lost("gone")
    assert told == [opening]
    with pytest.raises(ConnectionLostError):
        opening.result()


def test_a_host_that_says_that_it_lost_the_session_is_as_good_as_dead(talk: Conversation) -> None:
    ticket = talk.predict(state_of(point()), "a", 3)
    asked = talk.to_send()[-1]
    with pytest.raises(ConnectionLostError, match="ended"):
        talk.receive(m.Failure(id=asked.id, kind="ConnectionLostError", text="the server ended the session"))
    talk.lost("the server ended the session")
    talk.open()
    assert kinds(talk.to_send()) == ["Create", "Sync", "Predict"]
    assert not ticket.done


def test_other_voxels_on_the_same_host_have_everything_asked_again(talk: Conversation) -> None:
    ticket = talk.predict(state_of(point()), "a", 3)
    old = talk.to_send()[-1]
    opened = talk.open_volume(OPEN)
    volume = one(talk.to_send(), m.OpenVolume)
    talk.receive(m.MaskAnswer(id=old.id, mask=SLICE))
    assert not ticket.done
    talk.receive(m.Done(id=volume.id))
    assert opened.done
    assert kinds(talk.to_send()) == ["Create", "Sync", "Predict"]


# -- propagation -------------------------------------------------------------------------------------------------------


def test_credit_is_granted_when_results_are_taken(talk: Conversation) -> None:
    run = talk.propagate(state_of(point(), SWEEP), 2, ahead=4)
    sync, asked = talk.to_send()
    assert [(sent.id, sent.finished, sent.complete) for sent in sync.entries] == [(1, 0, True), (2, 0, False)]
    assert (asked.head, asked.credit, asked.skip) == (m.Head(id=2), 4, 0)
    prepared = [m.Prepared(segment="a", slice_index=5, mask=SLICE, score=0.25)]
    talk.receive(update(asked, 1, prepared=prepared))
    found = [run.take(), run.take()]
    assert [(f.slice_index, f.update) for f in found] == [(5, False), (3, True)]
    assert run.take() is None
    assert talk.to_send() == []
    talk.receive(update(asked, 2, 4, gone=True))
    assert run.take().gone
    assert run.take() is None
    grant = one(talk.to_send(), m.Grant)
    assert (grant.of, grant.credit, grant.received) == (asked.id, 2, 2)
    talk.receive(m.Propagated(id=asked.id, count=2, complete=True))
    assert (run.done, run.count, run.complete, run.take()) == (True, 2, True, None)


def test_one_slice_at_a_time_is_worked_on_only_when_the_next_one_is_asked_for(talk: Conversation) -> None:
    run = talk.propagate(state_of(point(), SWEEP), 2)
    asked = talk.to_send()[-1]
    assert asked.credit == 1
    talk.receive(update(asked, 1))
    assert run.take() is not None
    assert talk.to_send() == []
    assert run.take() is None
    assert one(talk.to_send(), m.Grant).credit == 1


def test_what_follows_a_propagation_names_how_far_it_went_whatever_the_caller_knows(talk: Conversation) -> None:
    state = state_of(point(), SWEEP)
    talk.propagate(state, 2, ahead=4)
    asked = talk.to_send()[-1]
    talk.receive(update(asked, 1))
    later = state.with_entry(3, point(k=4))
    talk.predict(later, "a", 4)
    assert talk.to_send()[-1].head == m.Head(id=3, finished=None)
    talk.receive(update(asked, 2))
    talk.receive(update(asked, 3))
    talk.receive(m.Propagated(id=asked.id, count=3, complete=False))
    talk.predict(later, "a", 5)
    (predict,) = talk.to_send()
    assert predict.head == m.Head(id=3, finished=3, complete=False)


def test_after_a_death_a_propagation_goes_on_first_without_what_has_arrived(talk: Conversation) -> None:
    state = state_of(point(), SWEEP)
    run = talk.propagate(state, 2, ahead=4)
    asked = talk.to_send()[-1]
    later = state.with_entry(3, point(k=4))
    talk.predict(later, "a", 4)
    for n in (1, 2, 3):
        talk.receive(update(asked, n, n))
    assert talk.lost("gone") is None
    talk.open(settings=state.settings)
    sync, again, more, predict = talk.to_send()
    assert [(sent.id, sent.finished, sent.complete) for sent in sync.entries] == [(1, 0, True), (2, 0, False)]
    assert (again.head, again.skip, again.credit) == (m.Head(id=2), 3, 4)
    assert [sent.id for sent in more.entries] == [3]
    assert predict.head == m.Head(id=3, finished=None)
    talk.receive(update(again, 4, 4))
    talk.receive(m.Propagated(id=again.id, count=4, complete=True))
    assert [run.take().slice_index for _ in range(4)] == [1, 2, 3, 4]
    assert run.complete


def test_a_cancelled_propagation_ends_with_what_has_arrived(talk: Conversation) -> None:
    state = state_of(point(), SWEEP)
    run = talk.propagate(state, 2, ahead=4)
    asked = talk.to_send()[-1]
    run.cancel()
    run.cancel()
    assert kinds(talk.to_send()) == ["Cancel"]
    talk.receive(update(asked, 1))
    talk.receive(m.Propagated(id=asked.id, count=1, complete=False))
    assert (run.done, run.count, run.complete, run.take().slice_index) == (True, 1, False, 3)
    # Where the host dies meanwhile, nobody wants the rest.
    run = talk.propagate(state.with_entry(3, SWEEP), 3, ahead=4)
    run.cancel()
    talk.lost("gone")
    assert (run.done, run.error, run.count) == (True, None, 0)
    # And where it had not begun.
    run = talk.propagate(state.with_entry(3, SWEEP), 3)
    run.cancel()
    assert run.done
    talk.open(settings=state.settings)
    assert talk.to_send() == []


def test_a_second_propagation_ends_the_first_and_waits_for_that(talk: Conversation, told) -> None:
    state = state_of(point(), SWEEP)
    first = talk.propagate(state, 2, ahead=4)
    asked = talk.to_send()[-1]
    second = talk.propagate(state.with_entry(3, SWEEP), 3)
    assert kinds(talk.to_send()) == ["Cancel"]
    talk.receive(update(asked, 1))
    talk.receive(m.Propagated(id=asked.id, count=1, complete=False))
    sync, again = talk.to_send()
    assert [(sent.id, sent.finished) for sent in sync.entries] == [(3, 0)]
    assert (first.done, again.head, talk.running) == (True, m.Head(id=3), second)


def test_a_dropped_propagation_is_told_of_no_more_and_is_run_again_as_far_as_it_is_known(
    talk: Conversation, told
) -> None:
    state = state_of(point(), SWEEP)
    run = talk.propagate(state, 2, ahead=4, on_change=told.append)
    asked = talk.to_send()[-1]
    talk.receive(update(asked, 1))
    run.drop()
    assert kinds(talk.to_send()) == ["Cancel"]
    talk.receive(update(asked, 2))
    talk.receive(m.Propagated(id=asked.id, count=2, complete=False))
    assert told == [run]
    talk.predict(state, "a", 3)
    sync, predict = talk.to_send()
    assert [(sent.id, sent.finished, sent.complete) for sent in sync.entries] == [(2, 1, False)]
    assert predict.head == m.Head(id=2, finished=1)


def test_a_session_that_is_over_leaves_nothing_to_the_next_one(talk: Conversation, told) -> None:
    """Its entries have the same identifiers."""
    talk.propagate(state_of(point(), SWEEP), 2, ahead=4, on_change=told.append)
    asked = talk.to_send()[-1]
    talk.receive(update(asked, 1))
    talk.drop_all()
    assert kinds(talk.to_send()) == ["Cancel"]
    finished = Propagated(("a",), "both", None, None, finished=(("a", 3), ("a", 4)), complete=True)
    talk.predict(state_of(point(5), finished), "a", 3)
    _create, sync, predict = talk.to_send()
    assert [sent.finished for sent in sync.entries] == [0, 2]
    assert predict.head == m.Head(id=2, finished=2, complete=True)
    talk.receive(m.Propagated(id=asked.id, count=1, complete=False))
    talk.logits(state_of(point(5), finished), "a", 3)
    assert kinds(talk.to_send()) == ["Logits"]
    assert len(told) == 1


def test_a_propagation_that_fails_keeps_what_it_found(talk: Conversation) -> None:
    run = talk.propagate(state_of(point(), SWEEP), 2, ahead=4)
    asked = talk.to_send()[-1]
    talk.receive(update(asked, 1))
    talk.receive(m.Failure(id=asked.id, kind="DeviceError", text="out of memory"))
    assert run.take().slice_index == 3
    assert run.take() is None
    with pytest.raises(biosam2.errors.DeviceError):
        run.result()


def test_a_cancellation_for_another_thread_is_there_while_a_propagation_is_under_way(talk: Conversation) -> None:
    assert talk.cancellation() is None
    talk.propagate(state_of(point(), SWEEP), 2)
    assert isinstance(talk.cancellation(), m.Cancel)
    talk.lost("gone")
    assert talk.cancellation() is None


# -- connections that break, and a host that stands --------------------------------------------------------------------


def test_after_a_broken_connection_a_message_is_sent_again_as_it_was(talk: Conversation) -> None:
    ticket = talk.predict(state_of(point()), "a", 3)
    sync, asked = talk.to_send()
    talk.broken(sync.id)
    assert [encode(message) for message in talk.to_send()] == [encode(sync)]
    talk.receive(m.Done(id=sync.id))
    talk.broken(sync.id)  # it is answered
    assert talk.to_send() == []
    talk.broken(asked.id)
    assert [encode(message) for message in talk.to_send()] == [encode(asked)]
    talk.receive(m.MaskAnswer(id=asked.id, mask=SLICE))
    assert np.array_equal(ticket.result(), SLICE)


def test_a_propagation_asks_for_what_was_lost_with_its_connection(talk: Conversation) -> None:
    run = talk.propagate(state_of(point(), SWEEP), 2, 5)
    asked = one(talk.to_send(), m.Propagate)
    talk.receive(update(asked, 1, 3))
    talk.receive(update(asked, 2, 4))
    talk.broken(asked.id)
    (again,) = talk.to_send()
    assert (again.id, again.head, again.credit, again.skip) == (asked.id, asked.head, 5, 2)
    # On its way when the connection broke: what follows on what was lost, what came already, the end.
    talk.receive(update(again, 4, 2))
    talk.receive(update(again, 2, 4))
    assert run.count == 2
    talk.receive(update(again, 3, 5))
    talk.receive(m.Propagated(id=asked.id, count=4, complete=True))
    assert not run.done
    (again,) = talk.to_send()
    assert (again.id, again.skip) == (asked.id, 3)
    talk.receive(update(again, 4, 2))
    talk.receive(m.Propagated(id=asked.id, count=4, complete=True))
    assert [found.slice_index for found in iter(run.take, None)] == [3, 4, 5, 2]
    assert (run.done, run.complete, run.count) == (True, True, 4)


def test_a_connection_that_breaks_again_and_again_is_as_good_as_a_death(talk: Conversation) -> None:
    run = talk.propagate(state_of(point(), SWEEP), 2, 2)
    asked = one(talk.to_send(), m.Propagate)
    for _ in range(5):
        talk.broken(asked.id)
    talk.receive(update(asked, 1))
    for _ in range(5):
        talk.broken(asked.id)
    talk.receive(update(asked, 1))  # once more is no progress
    with pytest.raises(ConnectionLostError, match="again and again"):
        talk.broken(asked.id)
    assert talk.lost("again and again") is None
    talk.open(settings=state_of().settings)
    assert one(talk.to_send(), m.Propagate).skip == run.count == 1


# -- a real host, and a connection that is cut anywhere ---------------------------------------------------------------


class Wire:
    """A conversation and a host in this process; each message crosses as bytes, one at a time, when it is told to."""

    def __init__(self, engine: ModelEngine, cuts: int) -> None:
        self.engine = engine
        self.cuts = cuts
        self.talk = Conversation(tries=cuts + 1)
        self.open()

    def open(self) -> None:
        self.host = Host(self.engine)
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.unanswered: set[int] = set()
        self._requests, self._replies = Decoder(m.Asked), Decoder(m.Reply)
        self.talk.open(facts=FACTS)

    def step(self, side: int) -> bool:
        """Move one message, or let the host do one piece of work; False where that side has nothing to do."""
        for message in self.talk.to_send():
            self.up.append(encode(message))
            if not isinstance(message, (m.Grant, m.Cancel)):
                self.unanswered.add(message.id)
        if side == 0 and self.up:
            for request in self._requests.feed(self.up.popleft()):
                self.host.receive(request)
        elif side == 1 and (self.host.waiting or self.host.moving):
            self.down.extend(encode(reply) for reply in self.host.work())
        elif side == 2 and self.down:
            for reply in self._replies.feed(self.down.popleft()):
                self.talk.receive(reply)
                if isinstance(reply, m.Answer):
                    self.unanswered.discard(reply.id)
        else:
            return False
        return True

    def lose_replies(self, every: int) -> None:
        """Connections break, with every second or all of the replies on them; the host stands."""
        self.down = deque(reply for n, reply in enumerate(self.down) if n % every)
        for number in sorted(self.unanswered):
            self.talk.broken(number)

    def move(self, moves: list[int]) -> None:
        """Move as told; 3 is a cut, 4 and 5 lose replies, as long as there are cuts left."""
        for move in moves:
            if move < 3:
                self.step(move)
            elif self.cuts and move > 3:
                self.cuts -= 1
                self.lose_replies(move - 3)
            elif self.cuts:
                self.cuts -= 1
                assert self.talk.lost("cut") is None
                self.open()

    def settle(self) -> None:
        while any(self.step(side) for side in (0, 1, 2)):
            pass


@pytest.mark.parametrize("examples", [10, pytest.param(500, marks=pytest.mark.soak)])
def test_a_connection_that_is_cut_anywhere_gives_the_same(model, volume, examples: int) -> None:
    """Clicks and a propagation, whichever side is ahead of the other and whenever the host ends."""
    here = biosam2.Session(model, volume)
    here.add_prompt("a", Point((11, 10, 3)))
    here.add_prompt("b", Point((4, 4, 1)))
    click = here.predict("a", 3)
    expected = list(here.propagate())
    here.add_prompt("a", Point((3, 3, 4), positive=False))
    correction, logits = here.predict("a", 4), here.logits("b", 2)

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(moves=st.lists(st.integers(0, 5), max_size=60), ahead=st.integers(1, 5), cuts=st.integers(0, 3))
    def play(moves: list[int], ahead: int, cuts: int) -> None:
        wire = Wire(ModelEngine(model, volume), cuts)
        state = state_of(point(), Prompted("b", Point((4, 4, 1))), volume=volume)
        outdated, first = wire.talk.predict(state, "b", 1), wire.talk.predict(state, "a", 3)
        sweep = Propagated(("a", "b"), "both", None, None)
        found: list[Found] = []
        results = ResultStore()

        def take(run: RunTicket) -> None:
            while (one := run.take()) is not None:
                found.append(one)
                results.put(3, one.segment, one.slice_index, one.mask, one.score)

        run = wire.talk.propagate(state.with_entry(3, sweep), 3, ahead, take)
        wire.move(moves)
        wire.settle()
        assert outdated.done
        assert np.array_equal(first.result(), click)
        updates = [one for one in found if one.update]
        same_updates(updates, expected)
        assert (run.complete, run.count) == (True, len(expected))
        places = tuple((one.segment, one.slice_index) for one in updates)
        state = state.with_entry(3, msgspec.structs.replace(sweep, finished=places, complete=True))
        state = state.with_entry(4, Prompted("a", Point((3, 3, 4), positive=False)))
        tickets = wire.talk.predict(state, "a", 4), wire.talk.logits(state, "b", 2)
        wire.move(moves[::-1])
        wire.settle()
        assert np.array_equal(tickets[0].result(), correction)
        assert np.array_equal(tickets[1].result(), logits)
        assert np.array_equal(state.mask("a", results), here.mask("a"))
        assert wire.talk.waiting == 0

    play()
