"""A session's network on a host that is reached by a link: the blocking driver of a `Conversation`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BioSAM2Error
from ..prompts import Prompt
from ..session.executor import Found
from ..session.settings import ModelFacts, SessionSettings
from ..session.state import SessionState
from . import messages as m
from .conversation import Conversation, RunTicket, Ticket
from .errors import ConnectionLostError, ServiceError
from .link import Connector, Link, Notice, Progress


class RemoteExecutor:
    """Runs entries on a host; see `Executor`. A host that died or forgot is opened again and sent what it lacks.

    Args:
        connector: how the host is reached.
        settings: of the session.
        ahead: slices that a propagation may be ahead of the one that the caller has taken.
        on_notice: told what the user should read; by default a warning is issued.
        on_progress: told (stage, fraction or None) while something long is prepared.
    """

    def __init__(
        self,
        connector: Connector,
        settings: SessionSettings,
        ahead: int = 1,
        on_notice: Notice | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self._connector = connector
        self._settings = settings
        self._ahead = ahead
        self._on_notice = on_notice or _warn
        self._on_progress = on_progress or _ignore
        self._conversation = Conversation(on_progress=lambda told: self._on_progress(told.stage, told.fraction))
        self._link: Link | None = None
        # Replies to come, by the message's identifier.
        self._replies: dict[int, Iterator[m.Reply]] = {}
        self._closed = False
        self._created: m.Created
        while self._link is None:
            self._trying(self._linked)

    @property
    def facts(self) -> ModelFacts:
        """See `Executor.facts`."""
        return self._created.model

    @property
    def precision(self) -> str:
        """See `Executor.precision`."""
        return self._created.precision

    @property
    def link(self) -> Link | None:
        """The way to the host, while there is one."""
        return self._link

    def check(self, state: SessionState, prompt: Prompt) -> None:
        """See `Executor.check`."""
        self._answer(self._conversation.check(state, prompt))

    def predict(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """See `Executor.predict`."""
        return self._answer(self._conversation.predict(state, segment, slice_index))

    def logits(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.float32]:
        """See `Executor.logits`."""
        return self._answer(self._conversation.logits(state, segment, slice_index))

    def propagate(self, state: SessionState, entry_id: int) -> RemoteRun:
        """See `Executor.propagate`."""
        return RemoteRun(self, self._conversation.propagate(state, entry_id, self._ahead))

    def forget(self, entry_id: int) -> None:
        """See `Executor.forget`."""
        self._conversation.forget(entry_id)

    def settle(self, state: SessionState) -> None:
        """See `Executor.settle`; the host settles by itself."""

    def encode_ahead(self, busy: Callable[[], bool]) -> bool:
        """See `Executor.encode_ahead`; the host encodes ahead by itself."""
        return False

    def cancel(self) -> None:
        """Have a running propagation end early; may be called from another thread."""
        message, link = self._conversation.cancellation(), self._link
        if message is not None and link is not None:
            try:
                link.tell(message)
            except ConnectionLostError:
                return  # whoever waits for the next slice notices it too

    def close(self) -> None:
        """See `Executor.close`."""
        self._closed = True
        self.drop()
        self._connector.close()

    # -- the driver ------------------------------------------------------------------------------

    def advance(self, ticket: Ticket) -> None:
        """Take the next reply to a request, whatever happens to the connection meanwhile.

        Raises:
            ServiceError: the host cannot be opened again, or ends every time.
        """
        self._trying(lambda: self.exchange(ticket))

    def exchange(self, ticket: Ticket) -> None:
        """Write what is to be written, and take the next reply to a request.

        Raises:
            ConnectionLostError: the host is gone.
        """
        link = self._linked()
        for message in self._conversation.to_send():
            if isinstance(message, (m.Grant, m.Cancel)):
                link.tell(message)
            else:
                self._replies[message.id] = link.ask(message)
        number = ticket.waits_for
        if number is None:
            return
        reply = next(self._replies.get(number, iter(())), None)
        if reply is None:
            self._conversation.broken(number)
            return
        if isinstance(reply, m.Answer):
            del self._replies[number]
        self._conversation.receive(reply)

    def drop(self) -> None:
        """Release the link."""
        self._conversation.interrupted()
        self._release()

    def _answer(self, ticket: Ticket) -> Any:
        try:
            while not ticket.done:
                self.advance(ticket)
        except BaseException:
            self._conversation.fail(ticket, ServiceError("the answer was not waited for"))
            raise
        return ticket.result()

    def _trying(self, do: Callable[[], object]) -> None:
        try:
            do()
        except ConnectionLostError as error:
            given_up = self._conversation.lost(str(error))
            self._release()
            if given_up is not None:
                raise given_up from error
            self._on_notice(f"{error}. It is started again with the same prompts; finished masks are kept.")
        except BioSAM2Error:
            raise
        except BaseException:
            # Interrupted: nobody knows what the host has done.
            self.drop()
            raise

    def _linked(self) -> Link:
        """The link; a new one where there is none."""
        if self._closed:
            raise ServiceError("the session was closed; open a new one")
        if self._link is None:
            opened = self._connector.open(self._settings, self._on_progress, self._on_notice)
            self._link, self._created = opened
            self._conversation.open(settings=self._settings, facts=self._created.model)
        return self._link

    def _release(self) -> None:
        link, self._link = self._link, None
        self._replies.clear()
        if link is not None:
            link.close()


class RemoteRun:
    """A propagation on a host; see `Run`. After the host's death it goes on where it was.

    Args:
        executor: reaches the host.
        ticket: the propagation.
    """

    def __init__(self, executor: RemoteExecutor, ticket: RunTicket) -> None:
        self._executor = executor
        self._ticket = ticket

    def __iter__(self) -> Iterator[Found]:
        return self

    def __next__(self) -> Found:
        while (found := self._ticket.take()) is None:
            if self._ticket.done:
                self._ticket.result()
                raise StopIteration
            self._executor.advance(self._ticket)
        return found

    def stop(self) -> list[Found]:
        """See `Run.stop`."""
        ticket = self._ticket
        ticket.cancel()
        try:
            while not ticket.done:
                self._executor.exchange(ticket)
        except ConnectionLostError:
            # What had arrived stands; the rest was not wanted any more.
            self._executor.drop()
        except BaseException:
            self._executor.drop()
            raise
        return list(iter(ticket.take, None))


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _ignore(stage: str, fraction: float | None) -> None:
    return
