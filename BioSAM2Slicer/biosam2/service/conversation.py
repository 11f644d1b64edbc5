"""A client's side of the protocol without input or output (sans-IO): calls become messages, replies become results.

Credit, retry after a broken connection or a host's death, synchronisation of entries and cancellation are here and
nowhere else. Whoever has pipes, sockets or an event loop is a driver: it opens a host, writes what
`Conversation.to_send` gives and hands every reply to `Conversation.receive`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import BioSAM2Error
from ..prompts import Prompt
from ..session.settings import ModelFacts, SessionSettings
from ..session.state import SessionState
from . import messages as m
from .entries_there import EntriesThere
from .errors import ConnectionLostError, ProtocolError, ServiceError, error_of
from .tickets import Question, RunTicket, Ticket, logits_of, mask_of, no_answer

__all__ = ["Conversation", "RunTicket", "Ticket"]

# Answers of `Stale` after which a request is given up; one more than a host that forgot in between needs.
_STALE = 3
# Connections that may break one after the other, without a reply between them, before the host counts as lost.
_BREAKS = 5
_OUT_OF_STEP = "the session could not be restored as it was; close it and open a new one"


@dataclass(eq=False)
class _Sent:
    """A message that waits for its answer.

    Attributes:
        request: the message.
        ticket: what it was sent for.
        round: how often everything had been found to be missing before it was sent.
        breaks: connections that broke since its last reply.
    """

    request: m.Asked
    ticket: Ticket
    round: int
    breaks: int = 0


class Conversation:
    """Requests about a session to a host that may die, forget or be replaced, as messages.

    A host is whatever answers the protocol: a worker, a server. Calls may be made at any time. They wait until a host
    is open; what the host lacks of the session is sent before them; after a host's death they are sent to the next one,
    and a propagation goes on where it was. Not thread-safe, except for `cancellation`.

    Args:
        tries: hosts that may end one after the other, without a result between them, before open requests are given up.
        on_output: called when `to_send` has something new.
        on_progress: told how far long work is (`messages.Progress`).
        on_notice: told what the user should read.

    Attributes:
        facts: the network, once a host has told; that of the last host.
        precision: which its results are computed in, once a session was created, see `Executor.precision`.

    Example:
        An event loop, here Qt's; nothing waits:

        >>> def flush():
        ...     for message in conversation.to_send():
        ...         process.write(encode(message))
        >>> def on_output_of_process():
        ...     for reply in decoder.feed(process.readAllStandardOutput().data()):
        ...         try:
        ...             conversation.receive(reply)
        ...         except ConnectionLostError as error:
        ...             restart(str(error))
        >>> def restart(why):
        ...     given_up = conversation.lost(why)
        ...     if given_up is None:  # start the process anew, with a new decoder; then:
        ...         conversation.open(m.Hello(id=0, ...), m.LoadModel(id=0, ...), m.OpenVolume(id=0, ...))
        >>> conversation = Conversation(on_output=flush, on_notice=show)
        >>> opening = conversation.open(m.Hello(id=0, ...), m.LoadModel(id=0, ...), m.OpenVolume(id=0, ...))
        >>> opening.on_change = lambda ticket: print(conversation.facts or ticket.error)

        One slice; an earlier request about the same slice that is not answered yet is dropped by a later one:

        >>> def on_mask(ticket):
        ...     show(ticket.error or ticket.result())
        >>> conversation.predict(state, "lesion", 12, on_mask)

        A propagation, whose entry is in force in `state`:

        >>> def on_slice(run):
        ...     while (found := run.take()) is not None:  # None allows the host to go on
        ...         draw(found)
        ...     if run.done:
        ...         say(run.error or f"{run.count} slices, {run.complete}")
        >>> run = conversation.propagate(state, entry_id, ahead=4, on_change=on_slice)
        >>> run.cancel()  # or run.drop(), which wants no results any more

        Other voxels in the same process; a propagation under way should be dropped before:

        >>> conversation.open_volume(m.OpenVolume(id=0, ...))
    """

    def __init__(
        self,
        tries: int = 3,
        on_output: Callable[[], None] | None = None,
        on_progress: Callable[[m.Progress], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.on_output = on_output
        self.on_progress = on_progress
        self.on_notice = on_notice
        self.facts: ModelFacts | None = None
        self.precision: str | None = None
        self._tries = tries
        self._ids = itertools.count(1)
        self._losses = 0
        # Whether there is a host, what of its opening is not answered, and what of it was refused.
        self._host = False
        self._opening: list[Ticket] = []
        self._refused: dict[type, BioSAM2Error] = {}
        # Settings of the session that the host has, and its entries.
        self._created: SessionSettings | None = None
        self._entries = EntriesThere(self._under_way)
        self._tickets: list[Question] = []
        self._sent: dict[int, _Sent] = {}
        self._outbox: list[m.Asked] = []

    # -- the driver's side -----------------------------------------------------------------------

    def open(
        self,
        *requests: m.Asked,
        settings: SessionSettings | None = None,
        facts: ModelFacts | None = None,
        on_change: Callable[[Ticket], None] | None = None,
    ) -> Ticket:
        """A host is there that has no entries. Requests that wait are sent when it has answered the opening ones.

        Args:
            requests: what opens it: `Hello`, `LoadModel`, `OpenVolume`; their identifiers are replaced.
            settings: of a session that the driver has created there; by default it is created when it is needed.
            facts: the network, where the driver knows; by default as `ModelLoaded` says.
            on_change: see `Ticket`.

        Returns:
            Done when the host has answered all of `requests`. After one that was refused, every request is refused.
        """
        self._release_host()
        self._refused.clear()
        self._host = True
        self._created = settings
        self.facts = facts or self.facts
        return self._open(requests, on_change)

    def open_volume(self, request: m.OpenVolume, on_change: Callable[[Ticket], None] | None = None) -> Ticket:
        """Replace the voxels of the host that is there; requests that are not answered are sent again.

        Args:
            request: its identifier is replaced.
            on_change: see `Ticket`.
        """
        self._refused.pop(m.OpenVolume, None)
        self._forget_session()
        return self._open((request,), on_change)

    def to_send(self) -> list[m.Asked]:
        """Messages to write now, in order; each is given once."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def receive(self, reply: m.Reply) -> None:
        """Take a reply of the present host. Replies that nobody waits for are ignored.

        Raises:
            ConnectionLostError: the host says that it lost the session; to be treated as its death.
        """
        if isinstance(reply, m.Notice):
            if self.on_notice is not None:
                self.on_notice(reply.text)
            return
        sent = self._sent.get(reply.id)
        if isinstance(reply, m.Failure) and reply.id == 0:
            self._take_unread(error_of(reply.kind, reply.text))
        elif sent is None:
            return
        elif isinstance(reply, m.Progress):
            sent.breaks = 0
            if self.on_progress is not None:
                self.on_progress(reply)
        elif isinstance(reply, m.Update):
            self._take_update(sent, reply)
        elif self._lacks_updates(sent, reply):
            self._send_again(sent)
        else:
            if isinstance(reply, m.Failure) and reply.kind == ConnectionLostError.__name__:
                raise ConnectionLostError(reply.text)
            del self._sent[reply.id]
            if reply.id in sent.ticket._waiting:
                sent.ticket._waiting.remove(reply.id)
            self._take_answer(sent, reply)
        self._pump()

    def broken(self, number: int) -> None:
        """The connection on which a message's replies came broke off before the final one; the host may still be there.

        The message is sent again under its identifier; a propagation's says which results have arrived.

        Args:
            number: the message's identifier.

        Raises:
            ConnectionLostError: it breaks off again and again; to be treated as the host's death.
        """
        sent = self._sent.get(number)
        if sent is not None:
            self._send_again(sent)
            self._pump()

    def lost(self, why: str) -> ServiceError | None:
        """The host is gone.

        Args:
            why: in one line.

        Returns:
            None where another one is to be opened; else the error with which all requests have been given up.
        """
        self._release_host()
        self._losses += 1
        if self._losses < self._tries:
            return None
        error = ServiceError(f"it was tried {self._losses} times: {why}")
        self._losses = 0
        self._fail_all(error, self._tickets)
        return error

    def interrupted(self) -> None:
        """The driver has given up the host by itself, for example because it was told to end."""
        self._release_host()

    def fail(self, ticket: Ticket, error: BioSAM2Error) -> None:
        """A request could not be sent, or its answer could not be read, and the host may go on.

        Args:
            ticket: the request; ends with the error.
            error: what happened.
        """
        self._sent = {number: sent for number, sent in self._sent.items() if sent.ticket is not ticket}
        self._entries.clear()
        ticket._waiting.clear()
        if ticket in self._tickets:
            self._fail_all(error, [ticket])
        self._pump()

    @property
    def waiting(self) -> int:
        """How many requests are open."""
        return len(self._tickets)

    @property
    def running(self) -> RunTicket | None:
        """The propagation that is under way, or the first of those that wait."""
        return next((ticket for ticket in self._tickets if isinstance(ticket, RunTicket)), None)

    # -- calls -----------------------------------------------------------------------------------

    def check(self, state: SessionState, prompt: Prompt, on_change: Callable[[Ticket], None] | None = None) -> Ticket:
        """Ask whether the network can take a prompt, see `Executor.check`; its result is None.

        Only what is reduced to a mask can vanish at the network's resolution; for others no host is asked.
        """

        def ask(number: int, head: m.Head) -> m.Asked:
            return m.CheckPrompt(id=number, head=head, prompt=prompt)

        ticket = Question(self, state, ask, no_answer, None, on_change)
        if prompt.alone(state.frames).mask is not None:
            return self._add(ticket)
        ticket._finish()
        return ticket

    def predict(
        self,
        state: SessionState,
        segment: str,
        slice_index: int,
        on_change: Callable[[Ticket], None] | None = None,
    ) -> Ticket:
        """Ask for the network's answer to a prompted slice, see `Executor.predict`: bool (rows, columns).

        An earlier request about the same slice of the segment is dropped; while the host works on that one, this one
        waits, so that of many only the first and the newest are answered.
        """

        def ask(number: int, head: m.Head) -> m.Asked:
            return m.Predict(id=number, segment=segment, slice_index=slice_index, head=head)

        slot = (segment, slice_index)
        for ticket in [ticket for ticket in self._tickets if ticket.slot == slot]:
            ticket.drop()
        return self._add(Question(self, state, ask, mask_of, slot, on_change))

    def logits(
        self,
        state: SessionState,
        segment: str,
        slice_index: int,
        on_change: Callable[[Ticket], None] | None = None,
    ) -> Ticket:
        """Ask for the network's output before thresholding, see `Executor.logits`: float32 (rows, columns)."""

        def ask(number: int, head: m.Head) -> m.Asked:
            return m.Logits(id=number, segment=segment, slice_index=slice_index, head=head)

        return self._add(Question(self, state, ask, logits_of, None, on_change))

    def propagate(
        self,
        state: SessionState,
        entry_id: int,
        ahead: int = 1,
        on_change: Callable[[RunTicket], None] | None = None,
    ) -> RunTicket:
        """Begin the propagation that an entry in force asks for, see `RunTicket`. One under way is cancelled before.

        Args:
            state: with the entry in force.
            entry_id: its identifier.
            ahead: slices that the host may be ahead of the one that was taken.
            on_change: see `Ticket`.
        """
        until = state.up_to(entry_id)
        assert until is not None
        running = self.running
        if running is not None:
            running.cancel()
        self._entries.begin(entry_id)
        run = RunTicket(self, until, entry_id, ahead, on_change)
        self._add(run)
        return run

    def cancellation(self) -> m.Cancel | None:
        """A message that ends the propagation under way; None without one. May be called from another thread."""
        running = self.running
        return m.Cancel(id=next(self._ids)) if running is not None and running.sent else None

    def forget(self, entry_id: int) -> None:
        """Forget a propagation and all entries after it: the entry is not what it was."""
        self._entries.forget(entry_id)

    def drop_all(self) -> None:
        """The session is over: no answer is wanted any more.

        What comes next is about another session, whose entries may have the same identifiers.
        """
        for ticket in list(self._tickets):
            ticket.drop()
        self._created = None
        self._entries.clear()
        self._entries.forget(0)

    # -- requests and their answers --------------------------------------------------------------

    def _add(self, ticket: Question) -> Question:
        self._tickets.append(ticket)
        self._pump()
        return ticket

    def _pump(self) -> None:
        """Send what can be sent."""
        if self._host and not self._opening:
            if self._refused:
                self._fail_all(next(iter(self._refused.values())), self._tickets)
            for ticket in list(self._tickets):
                if ticket.sent or ticket.done:
                    continue
                if isinstance(ticket, RunTicket):
                    if any(isinstance(other, RunTicket) and other.sent for other in self._tickets):
                        # What comes after it is about a state that has it.
                        break
                elif ticket.slot is not None and self._occupied(ticket.slot):
                    continue
                self._ask(ticket)
        if self._outbox and self.on_output is not None:
            self.on_output()

    def _occupied(self, slot: Any) -> bool:
        """Whether the host works on an earlier request in the slot, which may have been dropped."""
        return any(
            isinstance(sent.request, m.Predict) and isinstance(sent.ticket, Question) and sent.ticket.slot == slot
            for sent in self._sent.values()
        )

    def _ask(self, ticket: Question) -> None:
        """Send a request, what the host lacks of its session first, in one go: an idle host begins something else."""
        ticket.sent = True
        if self._created != ticket.settings:
            self._entries.clear()
            self._created = ticket.settings
            self._write(m.Create(id=next(self._ids), settings=ticket.settings), ticket)
        for entries in self._entries.lacking(ticket.entries):
            self._write(m.Sync(id=next(self._ids), entries=entries), ticket)
        self._write(ticket.request(next(self._ids), self._entries.head(ticket.entries)), ticket)

    def _write(self, request: m.Asked, ticket: Ticket) -> None:
        self._outbox.append(request)
        self._sent[request.id] = _Sent(request, ticket, self._entries.round)
        ticket._waiting.append(request.id)

    def _send_again(self, sent: _Sent) -> None:
        sent.breaks += 1
        if sent.breaks > _BREAKS:
            raise ConnectionLostError("the connection breaks off again and again")
        if isinstance(sent.request, m.Propagate) and isinstance(sent.ticket, RunTicket):
            sent.request = msgspec.structs.replace(sent.request, skip=sent.ticket.count)
        self._outbox.append(sent.request)

    def _lacks_updates(self, sent: _Sent, reply: m.Answer) -> bool:
        """Whether it is the end of a propagation of which results were lost on a broken connection."""
        run = sent.ticket
        return (
            isinstance(reply, m.Propagated) and isinstance(run, RunTicket) and not run.done and reply.count > run.count
        )

    def _take_update(self, sent: _Sent, reply: m.Update) -> None:
        run = sent.ticket
        # What was on its way when a connection broke may come before what was lost, or come twice.
        if isinstance(run, RunTicket) and not run.done and reply.number == run.count + 1:
            self._losses = sent.breaks = 0
            try:
                run.take_update(reply)
            except ProtocolError as error:
                self._end(run, error)

    def _take_answer(self, sent: _Sent, reply: m.Answer) -> None:
        ticket = sent.ticket
        if isinstance(reply, m.Stale) and sent.round == self._entries.round:
            self._entries.clear()
        if not isinstance(ticket, Question):
            self._take_opening(sent, reply)
        elif isinstance(reply, m.Failure):
            self._losses = 0
            error = error_of(reply.kind, reply.text)
            if isinstance(sent.request, m.Create):
                self._created = None
                self._fail_all(error, [o for o in self._tickets if o.sent and o.settings == ticket.settings])
            elif not ticket.done:
                self._end(ticket, error)
        elif isinstance(reply, m.Created):
            self.facts, self.precision = reply.model, reply.precision
        elif ticket.done or isinstance(sent.request, (m.Create, m.Sync)):
            return
        elif isinstance(reply, m.Stale):
            ticket.stale += 1
            if ticket.stale < _STALE:
                self._again(ticket)
            else:
                self._end(ticket, ServiceError(_OUT_OF_STEP))
        else:
            self._losses = 0
            self._tickets.remove(ticket)
            if isinstance(ticket, RunTicket) and isinstance(reply, m.Propagated):
                self._entries.end(ticket.entry_id, reply.count, reply.complete, sent.round == self._entries.round)
            ticket.take_answer(reply)

    def _take_unread(self, error: BioSAM2Error) -> None:
        """The host could not read a message, and does not say which."""
        opening, self._opening = self._opening, []
        for ticket in opening:
            ticket._waiting.clear()
            self._refused[m.Hello] = error
            ticket._finish(error=error)
        self._fail_all(error, [ticket for ticket in self._tickets if ticket.sent])

    def _take_opening(self, sent: _Sent, reply: m.Answer) -> None:
        ticket = sent.ticket
        if isinstance(reply, m.Failure):
            self._refused[type(sent.request)] = ticket.error or error_of(reply.kind, reply.text)
            ticket.error = self._refused[type(sent.request)]
        elif isinstance(reply, m.ModelLoaded):
            self.facts = reply.model
        if not ticket._waiting and ticket in self._opening:
            self._opening.remove(ticket)
            ticket._finish(self.facts, ticket.error)

    def _end(self, ticket: Question, error: BioSAM2Error) -> None:
        """End a request with an error."""
        self._tickets.remove(ticket)
        if isinstance(ticket, RunTicket):
            self._note_unfinished(ticket)
        ticket._finish(error=error)

    def _fail_all(self, error: BioSAM2Error, tickets: list[Question]) -> None:
        for ticket in list(tickets):
            if ticket in self._tickets:
                self._end(ticket, error)

    def _again(self, ticket: Question) -> None:
        """Have a request sent once more."""
        ticket.sent = False
        ticket._waiting.clear()

    def _drop(self, ticket: Ticket) -> None:
        if isinstance(ticket, RunTicket) and not ticket.done:
            ticket.cancel()
            self._note_unfinished(ticket)
        if ticket in self._tickets:
            self._tickets.remove(ticket)
        ticket._finish()
        self._pump()

    # -- propagation -----------------------------------------------------------------------------

    def _grant(self, run: RunTicket, credit: int) -> None:
        if run.sent and run._waiting:
            self._outbox.append(m.Grant(id=next(self._ids), of=run._waiting[-1], credit=credit, received=run.count))
            self._pump()

    def _cancel(self, run: RunTicket) -> None:
        if run.done or run.cancelled:
            return
        run.cancelled = True
        if run.sent:
            self._outbox.append(m.Cancel(id=next(self._ids)))
            self._pump()
        else:
            self._end_cancelled(run)

    def _end_cancelled(self, run: RunTicket) -> None:
        """End a propagation that was cancelled, without the host: what has arrived stands."""
        if run in self._tickets:
            self._tickets.remove(run)
            self._note_unfinished(run)
            run._finish()

    def _note_unfinished(self, run: RunTicket) -> None:
        # The host may be further, and runs it again where that matters.
        self._entries.end(run.entry_id, run.count, complete=False, is_there=False)

    # -- what the host has -----------------------------------------------------------------------

    def _open(self, requests: tuple[m.Asked, ...], on_change: Callable[[Ticket], None] | None) -> Ticket:
        ticket = Ticket(self, on_change)
        for request in requests:
            self._write(msgspec.structs.replace(request, id=next(self._ids)), ticket)
        if requests:
            self._opening.append(ticket)
        else:
            ticket._finish(self.facts)
        self._pump()
        return ticket

    def _release_host(self) -> None:
        """There is no host any more."""
        self._host = False
        self._outbox.clear()
        opening, self._opening = self._opening, []
        self._forget_session()
        self._sent.clear()
        for ticket in opening:
            ticket._waiting.clear()
            ticket._finish(error=ConnectionLostError("the host ended before it was open"))

    def _forget_session(self) -> None:
        """The host has no session any more: what is open is sent again, a propagation first."""
        self._created = None
        self._entries.clear()
        opening = {number: sent for number, sent in self._sent.items() if not isinstance(sent.ticket, Question)}
        gone = self._sent.keys() - opening.keys()
        self._sent = opening
        self._outbox = [message for message in self._outbox if message.id not in gone]
        for ticket in list(self._tickets):
            self._again(ticket)
            ticket.stale = 0
            if isinstance(ticket, RunTicket) and ticket.cancelled:
                self._end_cancelled(ticket)
        # The host catches up with it before it does anything else, so that later requests find it as it was.
        self._tickets.sort(key=lambda ticket: not isinstance(ticket, RunTicket))

    def _under_way(self, entry_id: int) -> bool:
        return any(isinstance(ticket, RunTicket) and ticket.entry_id == entry_id for ticket in self._tickets)
