"""Requests of a `Conversation`, from the call to the answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import BioSAM2Error
from ..session.executor import Found
from ..session.state import SessionState
from . import messages as m
from .errors import ProtocolError


class Keeper(Protocol):
    """What a ticket needs of its conversation."""

    def _drop(self, ticket: Ticket) -> None: ...

    def _grant(self, run: RunTicket, credit: int) -> None: ...

    def _cancel(self, run: RunTicket) -> None: ...


class Ticket:
    """A request of a `Conversation`, until it is answered.

    Attributes:
        done: whether it is answered, refused or dropped.
        error: why it was refused; None where it was not.
        on_change: called after something has happened to it: a result of a propagation, or its end. Not called once it
            is dropped.
    """

    def __init__(self, conversation: Keeper, on_change: Callable[[Any], None] | None = None) -> None:
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


class Question(Ticket):
    """A request about a state that has one answer.

    Args:
        make: the request, from its identifier and its head.
        read: the result, from the answer.
        slot: of requests in one slot only the newest is wanted.
    """

    def __init__(
        self,
        conversation: Keeper,
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


class RunTicket(Question):
    """A propagation; see `Conversation.propagate`.

    Attributes:
        entry_id: of the entry that asks for it.
        count: updates that have arrived.
        complete: whether it ran to its end.
    """

    def __init__(
        self,
        conversation: Keeper,
        state: SessionState,
        entry_id: int,
        ahead: int,
        on_change: Callable[[Any], None] | None,
    ) -> None:
        super().__init__(conversation, state, self._ask, no_answer, None, on_change)
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
        how = {"gone": reply.gone, "interpolated": reply.interpolated}
        self._found.append(Found(reply.segment, reply.slice_index, mask, reply.score, **how))
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


def no_answer(answer: m.Answer) -> None:
    """The result of what is only done.

    Raises:
        ProtocolError: the answer is of another kind.
    """
    if not isinstance(answer, m.Done):
        raise _odd(answer)


def mask_of(answer: m.Answer) -> Any:
    """A slice's mask, bool (rows, columns).

    Raises:
        ProtocolError: the answer is of another kind.
    """
    if not isinstance(answer, m.MaskAnswer):
        raise _odd(answer)
    return m.as_mask(answer.mask)


def logits_of(answer: m.Answer) -> Any:
    """A slice's logits, float32 (rows, columns).

    Raises:
        ProtocolError: the answer is of another kind.
    """
    if not isinstance(answer, m.LogitsAnswer):
        raise _odd(answer)
    return answer.logits


def _odd(answer: m.Answer) -> ProtocolError:
    return ProtocolError(f"the host gave an answer of another kind: {type(answer).__name__}")
