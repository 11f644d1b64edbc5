"""A session's network at the other end of a link, and recovery when that end dies or forgets."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...errors import BioSAM2Error
from ...prompts import Prompt
from ...session.entries import Propagated
from ...session.executor import Found
from ...session.settings import SessionSettings
from ...session.state import Identified, SessionState
from .. import messages as m
from ..errors import ConnectionLostError, ServiceError, error_of
from .link import Connector, Link, Notice, Progress, RemoteModel

# A request that ends the other end this often is not tried again; one more than bad luck needs.
_TRIES = 3
# Entries in a message, and bytes of their masks.
_ENTRIES, _MASK_BYTES = 200, 32 << 20
_OUT_OF_STEP = "the session could not be restored as it was; close it and open a new one"


_Sending: TypeAlias = tuple[list[m.SentEntry], Iterator[m.Reply]]


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
        self.ahead = max(1, ahead)
        self._on_notice = on_notice or _warn
        self._on_progress = on_progress or _ignore
        self._ids = itertools.count(1)
        self._link: Link | None = None
        # Entries that the host has, and how far it ran those that are propagations.
        self._there: dict[int, tuple[int, bool]] = {}
        self._run: RemoteRun | None = None
        self._closed = False
        self.model: RemoteModel
        self.surely(lambda link: None)

    @property
    def facts(self) -> Any:
        """See `Executor.facts`."""
        return self.model

    @property
    def precision(self) -> str:
        """See `Executor.precision`; as asked for."""
        return self._settings.precision

    @property
    def link(self) -> Link | None:
        """The way to the host, while there is one."""
        return self._link

    def check(self, state: SessionState, prompt: Prompt) -> None:
        """See `Executor.check`. Only masks can vanish at the network's resolution."""
        if prompt.alone(state.frames).mask is not None:
            self._ask(state, lambda head: m.CheckPrompt(id=self.id(), head=head, prompt=prompt))

    def predict(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """See `Executor.predict`."""
        answer = self._ask(
            state, lambda head: m.Predict(id=self.id(), segment=segment, slice_index=slice_index, head=head)
        )
        assert isinstance(answer, m.MaskAnswer)
        return answer.mask

    def logits(self, state: SessionState, segment: str, slice_index: int) -> NDArray[np.float32]:
        """See `Executor.logits`."""
        answer = self._ask(
            state, lambda head: m.Logits(id=self.id(), segment=segment, slice_index=slice_index, head=head)
        )
        assert isinstance(answer, m.LogitsAnswer)
        return answer.logits

    def propagate(self, state: SessionState, entry_id: int) -> RemoteRun:
        """See `Executor.propagate`."""
        self._run = RemoteRun(self, state, entry_id)
        return self._run

    def forget(self, entry_id: int) -> None:
        """See `Executor.forget`."""
        self._there = {known: how for known, how in self._there.items() if known < entry_id}

    def settle(self, state: SessionState) -> None:
        """See `Executor.settle`; the host settles by itself."""

    def encode_ahead(self, busy: Callable[[], bool]) -> bool:
        """See `Executor.encode_ahead`; the host encodes ahead by itself."""
        return False

    def cancel(self) -> None:
        """Have a running propagation end early; may be called from another thread."""
        run, link = self._run, self._link
        if run is not None and not run.over and link is not None:
            try:
                link.tell(m.Cancel(id=self.id()))
            except ConnectionLostError:
                return  # whoever waits for the next slice notices it too

    def close(self) -> None:
        """See `Executor.close`."""
        self._closed = True
        self.drop()
        self._connector.close()

    # -- asking ----------------------------------------------------------------------------------

    def id(self) -> int:
        """A new request's identifier."""
        return next(self._ids)

    def surely(self, do: Callable[[Link], Any]) -> Any:
        """The outcome of something that needs the host, whatever happens to the connection meanwhile."""
        for tries in itertools.count(1):
            try:
                return do(self.linked())
            except ConnectionLostError as error:  # noqa: PERF203
                self.lost(error, tries)
            except Exception:
                raise
            except BaseException:
                # Interrupted: nobody knows what the host has done.
                self.drop()
                raise
        raise AssertionError("never here")

    def _ask(self, state: SessionState, make: Callable[[m.Head], m.Request]) -> m.Reply:
        """The final answer to a request about a state."""

        def ask(link: Link) -> m.Reply:
            for _ in range(_TRIES):
                # Said in one breath: a host that is idle in between begins something else.
                sending = self._send(link, state.in_force)
                replies = link.ask(make(self.head(state)))
                if self._sent(sending):
                    answer = self._last(replies)
                    if not isinstance(answer, m.Stale):
                        return answer
                self._there.clear()
            raise ServiceError(_OUT_OF_STEP)

        return self.surely(ask)

    def _last(self, replies: Iterator[m.Reply]) -> m.Reply:
        """The final answer to a request.

        Raises:
            BioSAM2Error: the one that the host reports.
        """
        for reply in replies:
            if isinstance(reply, m.Progress):
                self.on_progress(reply)
            elif isinstance(reply, m.Failure):
                raise error_of(reply.kind, reply.text)
            elif isinstance(reply, m.Answer):
                return reply
        raise ConnectionLostError("the answer did not come")

    def on_progress(self, reply: m.Progress) -> None:
        """Tell how far the host is."""
        self._on_progress(reply.stage, reply.fraction)

    # -- entries ---------------------------------------------------------------------------------

    def sync(self, link: Link, entries: tuple[Identified, ...]) -> None:
        """Send what the host lacks, as far as is known here, or everything where that is not enough."""
        if not self._sent(self._send(link, entries)):
            self._there.clear()
            if not self._sent(self._send(link, entries)):
                raise ServiceError(_OUT_OF_STEP)

    def _send(self, link: Link, entries: tuple[Identified, ...]) -> list[_Sending]:
        """Begin to send what the host lacks, in messages of a bounded size."""
        sending: list[_Sending] = []
        lacking: list[m.SentEntry] = []
        size = 0
        parent = 0
        for each in entries:
            how = self._how_far(each)
            if how is not None and self._there.get(each.id) != how:
                lacking.append(_as_sent(each, parent, how))
                size += getattr(getattr(each.entry, "mask", None), "nbytes", 0)
            parent = each.id
            if lacking and (len(lacking) >= _ENTRIES or size > _MASK_BYTES or each is entries[-1]):
                sending.append((lacking, link.ask(m.Sync(id=self.id(), entries=lacking))))
                lacking, size = [], 0
        return sending

    def _sent(self, sending: list[_Sending]) -> bool:
        """Whether the host took everything that was sent."""
        taken = True
        for lacking, replies in sending:
            taken = not isinstance(self._last(replies), m.Stale) and taken
            if taken:
                self._there.update((sent.id, (sent.finished, sent.complete)) for sent in lacking)
        return taken

    def _how_far(self, each: Identified) -> tuple[int, bool] | None:
        """How far the host is to have an entry; None for a propagation under way there, which it knows better."""
        if not isinstance(each.entry, Propagated):
            return 0, True
        if self._run is not None and self._run.entry_id == each.id and not self._run.over:
            return None if each.id in self._there else (0, False)
        return len(each.entry.finished), each.entry.complete

    def head(self, state: SessionState) -> m.Head:
        """What a request about a state names."""
        last = next((each for each in reversed(state.in_force) if isinstance(each.entry, Propagated)), None)
        if last is None:
            return m.Head(id=state.head)
        if self._run is not None and self._run.entry_id == last.id and not self._run.over:
            return m.Head(id=state.head, finished=None)
        assert isinstance(last.entry, Propagated)
        return m.Head(id=state.head, finished=len(last.entry.finished), complete=last.entry.complete)

    def ran(self, entry_id: int, count: int, complete: bool) -> None:
        """The host has run a propagation so far."""
        self._there[entry_id] = (count, complete)

    # -- the link --------------------------------------------------------------------------------

    def linked(self) -> Link:
        """The link; a new one where there is none."""
        if self._closed:
            raise ServiceError("the session was closed; open a new one")
        if self._link is None:
            settings = self._settings
            asked = m.Create(
                id=self.id(),
                axis=settings.axis,
                window=settings.window,
                crop=settings.crop,
                policy=settings.policy,
                precision=settings.precision,
                speed=settings.speed.to_json(),
            )
            self._there.clear()
            self._link, self.model = self._connector.open(asked, self._on_progress, self._on_notice)
        return self._link

    def lost(self, error: ConnectionLostError, tries: int) -> None:
        """Take note that the host is gone.

        Raises:
            ServiceError: it goes every time that this is asked of it.
        """
        self.drop()
        if tries >= _TRIES:
            raise ServiceError(f"it was tried {tries} times: {error}") from error
        self._on_notice(f"{error}. It is started again with the same prompts; finished masks are kept.")

    def drop(self) -> None:
        """Release the link."""
        link, self._link = self._link, None
        self._there.clear()
        if self._run is not None:
            self._run.replies = None
        if link is not None:
            link.close()


class RemoteRun:
    """A propagation on a host; see `Run`. After the host's death it goes on where it was.

    Args:
        executor: reaches the host.
        state: with the propagation's entry in force.
        entry_id: its identifier.
    """

    def __init__(self, executor: RemoteExecutor, state: SessionState, entry_id: int) -> None:
        self._executor = executor
        self._entries = state.up_to(entry_id).in_force  # type: ignore[union-attr]
        self.entry_id = entry_id
        self.replies: Iterator[m.Reply] | None = None
        self.over = False
        self._request = 0
        self._count = 0
        # Updates taken since the last grant.
        self._taken = 0
        self._found: list[Found] = []

    def __iter__(self) -> Iterator[Found]:
        return self

    def __next__(self) -> Found:
        tries = 0
        while not self._found:
            if self.over:
                raise StopIteration
            try:
                reply = self._next_reply()
            except ConnectionLostError as error:
                tries += 1
                self._executor.lost(error, tries)
                continue
            except BioSAM2Error:
                raise
            except BaseException:
                self._executor.drop()
                raise
            if isinstance(reply, m.Failure) and reply.kind == ConnectionLostError.__name__:
                tries += 1
                self._executor.lost(ConnectionLostError(reply.text), tries)
            elif isinstance(reply, m.Stale):
                tries += 1
                if tries >= _TRIES:
                    raise ServiceError(_OUT_OF_STEP)
                self._executor.forget(0)
                self.replies = None
            else:
                self._take(reply)
        return self._found.pop(0)

    def stop(self) -> list[Found]:
        """See `Run.stop`."""
        executor, link = self._executor, self._executor.link
        try:
            if link is not None and self.replies is not None and not self.over:
                link.tell(m.Cancel(id=executor.id()))
                for reply in self.replies:
                    if not isinstance(reply, m.Failure):
                        self._take(reply)
        except ConnectionLostError:
            # What had arrived stands; the rest was not wanted any more.
            executor.drop()
        except BaseException:
            executor.drop()
            raise
        finally:
            self.over = True
        found, self._found = self._found, []
        return found

    def _next_reply(self) -> m.Reply:
        executor = self._executor
        link = executor.linked()
        if self.replies is None:
            executor.sync(link, self._entries)
            self._request, self._taken = executor.id(), 0
            head = m.Head(id=self.entry_id, finished=0)
            self.replies = link.ask(m.Propagate(id=self._request, head=head, skip=self._count, credit=executor.ahead))
        if self._taken >= max(1, executor.ahead // 2):
            link.tell(m.Grant(id=executor.id(), of=self._request, credit=self._taken, received=self._count))
            self._taken = 0
        return next(self.replies)

    def _take(self, reply: m.Reply) -> None:
        """Take a reply.

        Raises:
            BioSAM2Error: the one that the host reports; what was found stands.
        """
        if isinstance(reply, m.Progress):
            self._executor.on_progress(reply)
        elif isinstance(reply, m.Failure):
            self.over = True
            self._executor.ran(self.entry_id, self._count, False)
            raise error_of(reply.kind, reply.text)
        elif isinstance(reply, (m.Update, m.Propagated)):
            self._found += [Found(p.segment, p.slice_index, p.mask, p.score, update=False) for p in reply.prepared]
            if isinstance(reply, m.Update):
                self._count += 1
                self._taken += 1
                self._found.append(Found(reply.segment, reply.slice_index, reply.mask, reply.score, gone=reply.gone))
            else:
                self.over = True
                self._executor.ran(self.entry_id, reply.count, reply.complete)


def _as_sent(each: Identified, parent: int, how: tuple[int, bool]) -> m.SentEntry:
    """An entry on its way; a propagation without what it finished, which the host finds again."""
    entry = each.entry
    if not isinstance(entry, Propagated):
        return m.SentEntry(id=each.id, parent=parent, entry=entry, finished=how[0], complete=how[1])
    bare = msgspec.structs.replace(entry, finished=(), complete=False, gone=())
    return m.SentEntry(id=each.id, parent=parent, entry=bare, finished=how[0], complete=how[1])


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _ignore(stage: str, fraction: float | None) -> None:
    return
