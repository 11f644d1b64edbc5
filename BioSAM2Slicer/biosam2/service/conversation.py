"""A client's side of the protocol without input or output (sans-IO): calls become messages, replies become results.

Credit, retry after a host's death, synchronisation of entries and cancellation are here and nowhere else. Whoever has
pipes, sockets or an event loop is a driver: it opens a host, writes what `Conversation.to_send` gives and hands every
reply to `Conversation.receive`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import BioSAM2Error
from ..prompts import Prompt
from ..session.entries import Propagated
from ..session.executor import Found
from ..session.settings import ModelFacts, SessionSettings
from ..session.state import Identified, SessionState
from . import messages as m
from .errors import ConnectionLostError, ProtocolError, ServiceError, error_of

# Answers of `Stale` after which a request is given up; one more than a host that forgot in between needs.
_STALE = 3
# Entries in a message, and bytes of their masks.
_ENTRIES, _MASK_BYTES = 200, 32 << 20
_OUT_OF_STEP = "the session could not be restored as it was; close it and open a new one"


class Ticket:
    """A request of a `Conversation`, until it is answered.

    Attributes:
        done: whether it is answered, refused or dropped.
        error: why it was refused; None where it was not.
        on_change: called after something has happened to it: a result of a propagation, or its end. Not called once it
            is dropped.
    """

    def __init__(self, conversation: Conversation, on_change: Callable[[Any], None] | None = None) -> None:
        self.done = False
        self.error: BioSAM2Error | None = None
        self.on_change = on_change
        self._conversation = conversation
        self._answer: Any = None
        # Identifiers of messages whose replies it waits for, in the order in which they were sent.
        self._waiting: list[int] = []

    @property
    def waits_for(self) -> int | None:
        """Identifier of the message whose reply comes next; None while nothing is sent."""
        return self._waiting[0] if self._waiting else None

    def result(self) -> Any:
        """The answer; None before it is there.

        Raises:
            BioSAM2Error: the request was refused, or given up.
        """
        if self.error is not None:
            raise self.error
        return self._answer

    def drop(self) -> None:
        """Want no answer any more; `on_change` is not called again."""
        self.on_change = None
        self._conversation._drop(self)

    # -- for the conversation --------------------------------------------------------------------

    def _finish(self, answer: Any = None, error: BioSAM2Error | None = None) -> None:
        if not self.done:
            self.done, self._answer, self.error = True, answer, error
            self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change(self)


class _Question(Ticket):
    """A request about a state that has one answer.

    Args:
        make: the request, from its identifier and its head.
        read: the result, from the answer.
        slot: of requests in one slot only the newest is wanted.
    """

    def __init__(
        self,
        conversation: Conversation,
        state: SessionState,
        make: Callable[[int, m.Head], m.Asked],
        read: Callable[[m.Answer], Any],
        slot: Any,
        on_change: Callable[[Any], None] | None,
    ) -> None:
        super().__init__(conversation, on_change)
        self.settings = state.settings
        self.entries = state.in_force
        self.slot = slot
        self.stale = 0
        self.sent = False
        self._make, self._read = make, read

    def request(self, number: int, head: m.Head) -> m.Asked:
        """The message."""
        return self._make(number, head)

    def take_answer(self, reply: m.Answer) -> None:
        """Take the final answer."""
        try:
            self._finish(self._read(reply))
        except ProtocolError as error:
            self._finish(error=error)


class RunTicket(_Question):
    """A propagation; see `Conversation.propagate`.

    Attributes:
        entry_id: of the entry that asks for it.
        count: updates that have arrived.
        complete: whether it ran to its end.
    """

    def __init__(
        self,
        conversation: Conversation,
        state: SessionState,
        entry_id: int,
        ahead: int,
        on_change: Callable[[Any], None] | None,
    ) -> None:
        super().__init__(conversation, state, self._ask, _no_answer, None, on_change)
        self.entry_id = entry_id
        self.ahead = max(1, ahead)
        self.count = 0
        self.complete = False
        self.cancelled = False
        self._found: deque[Found] = deque()
        # Updates that were taken since the last grant.
        self._taken = 0

    def take(self) -> Found | None:
        """The next result, in order; None where none has arrived, which allows the host to go on.

        Results of prompted slices come first (`Found.update` is False).
        """
        if self._found:
            found = self._found.popleft()
            self._taken += found.update
            return found
        if self._taken >= max(1, self.ahead // 2) and not self.done and not self.cancelled:
            taken, self._taken = self._taken, 0
            self._conversation._grant(self, taken)
        return None

    def cancel(self) -> None:
        """Have it end after the slice that it is at; results up to then arrive before it is done."""
        self._conversation._cancel(self)

    def _ask(self, number: int, head: m.Head) -> m.Asked:
        self._taken = 0
        return m.Propagate(id=number, head=m.Head(id=self.entry_id), skip=self.count, credit=self.ahead)

    def take_update(self, reply: m.Update) -> None:
        """Take the result of a slice."""
        self.count += 1
        self._take_prepared(reply.prepared)
        mask = m.as_mask(reply.mask)
        self._found.append(Found(reply.segment, reply.slice_index, mask, reply.score, gone=reply.gone))
        self._changed()

    def take_answer(self, reply: m.Answer) -> None:
        """Take the end of the propagation."""
        if not isinstance(reply, m.Propagated):
            super().take_answer(reply)
            return
        self._take_prepared(reply.prepared)
        self.count, self.complete = reply.count, reply.complete
        self._finish()

    def _take_prepared(self, prepared: list[m.Prepared]) -> None:
        for one in prepared:
            self._found.append(Found(one.segment, one.slice_index, m.as_mask(one.mask), one.score, update=False))


@dataclass(eq=False)
class _Sent:
    """A message that waits for its answer.

    Attributes:
        request: the message.
        ticket: what it was sent for.
        round: how often everything had been found to be missing before it was sent.
    """

    request: m.Asked
    ticket: Ticket
    round: int


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
        # Settings of the session that the host has, the entries that it has of it, and how far these were run.
        self._created: SessionSettings | None = None
        self._there: dict[int, tuple[int, bool]] = {}
        self._round = 0
        # How far propagations were run that were asked for here, whichever host ran them.
        self._ran: dict[int, tuple[int, bool]] = {}
        self._tickets: list[_Question] = []
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
            if self.on_progress is not None:
                self.on_progress(reply)
        elif isinstance(reply, m.Update):
            self._take_update(sent, reply)
        else:
            if isinstance(reply, m.Failure) and reply.kind == ConnectionLostError.__name__:
                raise ConnectionLostError(reply.text)
            del self._sent[reply.id]
            if reply.id in sent.ticket._waiting:
                sent.ticket._waiting.remove(reply.id)
            self._take_answer(sent, reply)
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
        self._forget_entries()
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

        ticket = _Question(self, state, ask, _no_answer, None, on_change)
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
        return self._add(_Question(self, state, ask, _mask, slot, on_change))

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

        return self._add(_Question(self, state, ask, _logits, None, on_change))

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
        self._ran.pop(entry_id, None)
        self._there.pop(entry_id, None)
        run = RunTicket(self, until, entry_id, ahead, on_change)
        self._add(run)
        return run

    def cancellation(self) -> m.Cancel | None:
        """A message that ends the propagation under way; None without one. May be called from another thread."""
        running = self.running
        return m.Cancel(id=next(self._ids)) if running is not None and running.sent else None

    def forget(self, entry_id: int) -> None:
        """Forget a propagation and all entries after it: the entry is not what it was."""
        self._there = {known: how for known, how in self._there.items() if known < entry_id}
        self._ran = {known: how for known, how in self._ran.items() if known < entry_id}

    def drop_all(self) -> None:
        """Want no answer to anything any more."""
        for ticket in list(self._tickets):
            ticket.drop()

    # -- requests and their answers --------------------------------------------------------------

    def _add(self, ticket: _Question) -> _Question:
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
            isinstance(sent.request, m.Predict) and isinstance(sent.ticket, _Question) and sent.ticket.slot == slot
            for sent in self._sent.values()
        )

    def _ask(self, ticket: _Question) -> None:
        """Send a request, what the host lacks of its session first, in one go: an idle host begins something else."""
        ticket.sent = True
        if self._created != ticket.settings:
            self._forget_entries()
            self._created = ticket.settings
            self._write(m.Create(id=next(self._ids), settings=ticket.settings), ticket)
        for entries in self._lacking(ticket.entries):
            self._there.update((sent.id, (sent.finished, sent.complete)) for sent in entries)
            self._write(m.Sync(id=next(self._ids), entries=entries), ticket)
        self._write(ticket.request(next(self._ids), self._head(ticket.entries)), ticket)

    def _write(self, request: m.Asked, ticket: Ticket) -> None:
        self._outbox.append(request)
        self._sent[request.id] = _Sent(request, ticket, self._round)
        ticket._waiting.append(request.id)

    def _take_update(self, sent: _Sent, reply: m.Update) -> None:
        run = sent.ticket
        if isinstance(run, RunTicket) and not run.done:
            self._losses = 0
            try:
                run.take_update(reply)
            except ProtocolError as error:
                self._end(run, error)

    def _take_answer(self, sent: _Sent, reply: m.Answer) -> None:
        ticket = sent.ticket
        if isinstance(reply, m.Stale) and sent.round == self._round:
            self._forget_entries()
        if not isinstance(ticket, _Question):
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
                self._ran[ticket.entry_id] = (reply.count, reply.complete)
                if sent.round == self._round:
                    self._there[ticket.entry_id] = self._ran[ticket.entry_id]
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

    def _end(self, ticket: _Question, error: BioSAM2Error) -> None:
        """End a request with an error."""
        self._tickets.remove(ticket)
        if isinstance(ticket, RunTicket):
            self._note_unfinished(ticket)
        ticket._finish(error=error)

    def _fail_all(self, error: BioSAM2Error, tickets: list[_Question]) -> None:
        for ticket in list(tickets):
            if ticket in self._tickets:
                self._end(ticket, error)

    def _again(self, ticket: _Question) -> None:
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
        self._ran[run.entry_id] = (run.count, False)
        # The host may be further, and runs it again where that matters.
        self._there.pop(run.entry_id, None)

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

    def _forget_entries(self) -> None:
        """The host may lack any entry."""
        self._there.clear()
        self._round += 1

    def _forget_session(self) -> None:
        """The host has no session any more: what is open is sent again, a propagation first."""
        self._created = None
        self._forget_entries()
        opening = {number: sent for number, sent in self._sent.items() if not isinstance(sent.ticket, _Question)}
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

    def _lacking(self, entries: tuple[Identified, ...]) -> Iterator[list[m.SentEntry]]:
        """Entries that the host lacks, as far as is known here, in lists of a bounded size."""
        lacking: list[m.SentEntry] = []
        size = 0
        parent = 0
        for each in entries:
            how = self._how_far(each)
            if how is not None and self._there.get(each.id) != how:
                lacking.append(_as_sent(each, parent, how))
                size += getattr(getattr(each.entry, "mask", None), "nbytes", 0)
            parent = each.id
            if lacking and (len(lacking) >= _ENTRIES or size > _MASK_BYTES):
                yield lacking
                lacking, size = [], 0
        if lacking:
            yield lacking

    def _how_far(self, each: Identified) -> tuple[int, bool] | None:
        """How far the host is to have an entry; None for a propagation under way there, which it knows better."""
        if not isinstance(each.entry, Propagated):
            return 0, True
        if self._under_way(each.id):
            return None if each.id in self._there else (0, False)
        return self._ran.get(each.id, (len(each.entry.finished), each.entry.complete))

    def _under_way(self, entry_id: int) -> bool:
        return any(isinstance(ticket, RunTicket) and ticket.entry_id == entry_id for ticket in self._tickets)

    def _head(self, entries: tuple[Identified, ...]) -> m.Head:
        """What a request about a state names."""
        head = entries[-1].id if entries else 0
        last = next((each for each in reversed(entries) if isinstance(each.entry, Propagated)), None)
        if last is None:
            return m.Head(id=head)
        if self._under_way(last.id):
            return m.Head(id=head, finished=None)
        how = self._how_far(last)
        assert how is not None
        return m.Head(id=head, finished=how[0], complete=how[1])


def _as_sent(each: Identified, parent: int, how: tuple[int, bool]) -> m.SentEntry:
    """An entry on its way; a propagation without what it finished, which the host finds again."""
    entry = each.entry
    if isinstance(entry, Propagated):
        entry = msgspec.structs.replace(entry, finished=(), complete=False, gone=())
    return m.SentEntry(id=each.id, parent=parent, entry=entry, finished=how[0], complete=how[1])


def _no_answer(answer: m.Answer) -> None:
    if not isinstance(answer, m.Done):
        raise _odd(answer)


def _mask(answer: m.Answer) -> Any:
    if not isinstance(answer, m.MaskAnswer):
        raise _odd(answer)
    return m.as_mask(answer.mask)


def _logits(answer: m.Answer) -> Any:
    if not isinstance(answer, m.LogitsAnswer):
        raise _odd(answer)
    return answer.logits


def _odd(answer: m.Answer) -> ProtocolError:
    return ProtocolError(f"the host gave an answer of another kind: {type(answer).__name__}")
