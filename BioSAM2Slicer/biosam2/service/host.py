"""Serves one owner's session: messages in, messages out, one small piece of work at a time.

A host knows no pipes, sockets or threads. Whoever has them puts requests in with `receive` and calls `work` as long
as there is some; requests come before slices, so that a click is answered ahead of a running propagation, and a
cancelled one stops after the slice that it is at.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from .. import __version__
from ..errors import BioSAM2Error, InputError, PromptError
from ..session.entries import Propagated
from ..session.executor import Found, Run
from ..session.state import SessionState
from . import messages as m
from .errors import ConnectionLostError, ProtocolError, name_of
from .known import KnownEntries

if TYPE_CHECKING:
    from ..session import Session

_log = logging.getLogger(__name__)
# Answers kept for a client whose connection broke before they arrived.
_REMEMBERED = 16


class Engine(Protocol):
    """What makes sessions for a host."""

    relay: bool

    def load_model(self, asked: m.LoadModel) -> Iterator[m.Progress | m.ModelLoaded]:
        """Load a network, telling how far it is; `ModelLoaded` comes last."""

    def open_volume(self, asked: m.OpenVolume) -> None:
        """Make a file's voxels the volume."""

    def create(self, asked: m.Create) -> Session:
        """A new session on the model and the volume."""

    def encode_ahead(self, session: Session, busy: Callable[[], bool]) -> bool:
        """Do a piece of what will be asked for, until `busy`; whether there is more."""

    def close(self, session: Session) -> None:
        """Release what only this session needs."""


@dataclass
class _Running:
    """A propagation under way, or the last one."""

    asked: m.Propagate
    noted: _Noted
    updates: Iterator[Found]
    credit: int
    count: int = 0
    # Numbered updates that the client has not confirmed.
    kept: deque[tuple[int, m.Update]] = field(default_factory=deque)
    over: m.Propagated | None = None


class _Noted:
    """The updates of a propagation, and what its entry says of them by then."""

    def __init__(self, run: Run, entry: Propagated) -> None:
        self._run = run
        self._entry = entry
        self._finished: list[tuple[str, int]] = []
        self._gone: list[tuple[str, int]] = []
        self._interpolated: list[tuple[str, int]] = []
        self.complete = False
        self.prepared: list[Found] = []

    def __iter__(self) -> Iterator[Found]:
        for found in self._run:
            if not found.update:
                self.prepared.append(found)
                continue
            self._finished.append((found.segment, found.slice_index))
            self._gone += [self._finished[-1]] if found.gone else []
            self._interpolated += [self._finished[-1]] if found.interpolated else []
            yield found
        self.complete = True

    def stop(self) -> None:
        """End it."""
        if not self.complete:
            self._run.stop()

    @property
    def entry(self) -> Propagated:
        """The entry by now."""
        return msgspec.structs.replace(
            self._entry,
            finished=tuple(self._finished),
            complete=self.complete,
            gone=tuple(self._gone),
            interpolated=tuple(self._interpolated),
        )


class Host:
    """Answers one owner's requests.

    Args:
        engine: makes the session.

    Example:
        >>> host = Host(LocalEngine())
        >>> host.receive(messages.Hello(id=1, protocol=messages.PROTOCOL, client="me"))
        >>> while host.waiting or host.moving:
        ...     for reply in host.work():
        ...         send(reply)
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Session | None = None
        self._known: KnownEntries | None = None
        # A request that waits until propagations before it have been run again, and how far that is.
        self._restoring: tuple[m.AboutHead, Iterator[float]] | None = None
        self._inbox: deque[m.Asked] = deque()
        self._running: _Running | None = None
        self._answered: OrderedDict[int, m.Final] = OrderedDict()
        self._ahead = False

    @property
    def waiting(self) -> int:
        """How many requests have not been taken up."""
        return len(self._inbox)

    @property
    def moving(self) -> bool:
        """Whether a propagation can go on."""
        run = self._running
        return self._restoring is not None or (run is not None and run.over is None and run.credit != 0)

    @property
    def idle(self) -> bool:
        """Whether there is something to do before it is asked for, when there is nothing else."""
        return self._ahead and self._session is not None

    @property
    def _catching_up(self) -> bool:
        """Whether a propagation is being repeated up to where it was; what came after it must wait for that."""
        run = self._running
        return run is not None and run.over is None and run.count < run.asked.skip

    def receive(self, request: m.Asked) -> None:
        """Take a request; may be called from another thread than `work`."""
        self._inbox.append(request)

    def work(self) -> Iterator[m.Reply]:
        """Answer one request, or, when there is none, propagate by one slice. Take all that it yields."""
        self._ahead = True
        if self._restoring is not None:
            yield from self._restore(*self._restoring)
        elif self._inbox and not self._catching_up:
            request = self._inbox.popleft()
            yield from self._remembered(request.id, self._answer(request))
        elif self.moving:
            assert self._running is not None
            yield from self._advance(self._running)

    def _remembered(self, request: int, replies: Iterator[m.Reply]) -> Iterator[m.Reply]:
        for reply in self._guarded(request, replies):
            if isinstance(reply, m.Answer) and reply.id == request:
                self._answered[request] = reply
                while len(self._answered) > _REMEMBERED:
                    self._answered.popitem(last=False)
            yield reply

    def work_ahead(self, busy: Callable[[], bool]) -> None:
        """Do a piece of what will be asked for.

        Args:
            busy: whether anybody waits; then the piece is given up.
        """
        assert self._session is not None
        try:
            self._ahead = self._engine.encode_ahead(self._session, busy)
        except Exception:  # noqa: BLE001
            # Nobody has asked for it: whoever does will be told.
            self._ahead = False
            _log.exception("work ahead failed")

    def close(self) -> None:
        """End the session; its memory is free afterwards."""
        self._inbox.clear()
        self._running = self._restoring = self._known = None
        self._answered.clear()
        session, self._session = self._session, None
        if session is not None:
            self._engine.close(session)

    # -- requests --------------------------------------------------------------------------------

    def _answer(self, asked: m.Asked) -> Iterator[m.Reply]:
        run = self._running
        match asked:
            case m.Grant():
                if run is not None and run.asked.id == asked.of:
                    while run.kept and run.kept[0][0] <= asked.received:
                        run.kept.popleft()
                    # Whatever is granted: no more is kept than the propagation began with.
                    room = max(0, run.asked.credit - len(run.kept))
                    run.credit = min(run.credit + asked.credit, room)
                return
            case m.Cancel():
                yield from self._stop()
                return
            case m.Propagate() if run is not None and run.asked.id == asked.id:
                yield from self._resume(run, asked)
                return
            case _ if asked.id in self._answered:
                yield self._answered[asked.id]
                return
            case m.Hello():
                if asked.protocol != m.PROTOCOL:
                    raise ProtocolError(
                        f"the client speaks version {asked.protocol} of the protocol and biosam2 {__version__} here "
                        f"version {m.PROTOCOL}; install the same biosam2 on both sides"
                    )
                yield m.Welcome(id=asked.id, protocol=m.PROTOCOL, biosam2=__version__, relay=self._engine.relay)
            case m.LoadModel():
                yield from self._engine.load_model(asked)
            case m.OpenVolume():
                self._engine.open_volume(asked)
                yield m.Done(id=asked.id)
            case m.Create():
                yield from self._stop()
                # Of the session before, nothing is asked for again.
                self._running = None
                self._answered.clear()
                if self._session is not None:
                    self._engine.close(self._session)
                    self._session = None
                session = self._session = self._engine.create(asked)
                self._known = KnownEntries(SessionState(session.settings, session.frames), session.executor)
                precision: Any = session.executor.precision
                yield m.Created(id=asked.id, model=session.executor.facts, precision=precision)
            case _:
                if self._session is None or self._known is None:
                    raise ProtocolError("there is no session yet; send create first")
                if isinstance(asked, m.Sync):
                    taken = all(self._known.add(sent) for sent in asked.entries)
                    yield m.Done(id=asked.id) if taken else m.Stale(id=asked.id)
                else:
                    yield from self._about_head(self._known, asked)

    # -- requests about a head -------------------------------------------------------------------

    def _about_head(self, known: KnownEntries, asked: m.AboutHead) -> Iterator[m.Reply]:
        if not known.has(asked.head):
            yield m.Stale(id=asked.id)
            return
        running = self._running
        begins = isinstance(asked, m.Propagate)
        if begins:
            yield from self._stop()
        lacking = [
            sent
            for sent in known.to_run(asked.head.id, itself=not begins)
            if running is None or running.over is not None or sent.id != running.asked.head.id
        ]
        if lacking:
            self._restoring = (asked, self._run_again(known, lacking))
        else:
            yield from self._do(known, asked)

    def _restore(self, asked: m.AboutHead, shares: Iterator[float]) -> Iterator[m.Reply]:
        """Run what a request waits for by one slice, or answer the request."""
        try:
            share = next(shares, None)
        except BaseException as error:
            self._restoring = None
            if not isinstance(error, Exception):
                raise
            yield from self._remembered(asked.id, _raising(error))
            return
        if share is not None:
            yield m.Progress(id=asked.id, stage="restoring the session", fraction=share)
            return
        self._restoring = None
        assert self._known is not None
        yield from self._remembered(asked.id, self._do(self._known, asked))

    def _run_again(self, known: KnownEntries, lacking: list[m.SentEntry]) -> Iterator[float]:
        """Run propagations as far as they went; yields the share that is done, after each slice."""
        assert self._session is not None
        total = sum(sent.finished for sent in lacking)
        done = 0
        for sent in lacking:
            state = known.state(sent.id)
            entry = state.in_force[-1].entry
            assert isinstance(entry, Propagated)
            noted = _Noted(self._session.executor.propagate(state, sent.id), entry)
            updates = iter(noted)
            count = 0
            # One that was stopped before its first slice took note of its prompts all the same.
            wanted = sent.finished + 1 if sent.complete else sent.finished
            while count < wanted and next(updates, None) is not None:
                count += 1
                done += 1
                if count <= sent.finished:
                    yield min(done / max(total, 1), 1.0)
            noted.stop()
            known.note(sent.id, noted.entry)
            if count != sent.finished or noted.complete != sent.complete:
                raise InputError("a propagation gives other slices than it gave; the model or the volume is another")

    def _do(self, known: KnownEntries, asked: m.AboutHead) -> Iterator[m.Reply]:
        assert self._session is not None
        executor = self._session.executor
        match asked:
            case m.CheckPrompt():
                executor.check(known.state(asked.head.id), asked.prompt)
                yield m.Done(id=asked.id)
            case m.Predict():
                state = known.state(asked.head.id)
                if state.prompt_on(asked.segment, asked.slice_index) is None:
                    raise PromptError(f"segment {asked.segment!r} has no prompt on slice {asked.slice_index}")
                yield m.MaskAnswer(id=asked.id, mask=executor.predict(state, asked.segment, asked.slice_index))
            case m.Logits():
                state = known.state(asked.head.id)
                state.segment(asked.segment)
                yield m.LogitsAnswer(id=asked.id, logits=executor.logits(state, asked.segment, asked.slice_index))
            case m.Propagate():
                entry = known.begin(asked.head.id)
                state = known.state(asked.head.id)
                noted = _Noted(executor.propagate(state, asked.head.id), entry)
                self._running = _Running(asked, noted, iter(noted), asked.credit)
                # Begun at once, so that prompts which come after it take effect after it.
                yield from self._advance(self._running)

    # -- propagation -----------------------------------------------------------------------------

    def _advance(self, run: _Running) -> Iterator[m.Reply]:
        """Propagate by one slice of one segment."""
        yield from self._guarded(run.asked.id, self._step(run))

    def _step(self, run: _Running) -> Iterator[m.Reply]:
        asked = run.asked
        try:
            update = next(run.updates, None)
        except BaseException:
            # The session has ended it by itself; what was finished stands.
            self._note(run)
            self._running = None
            raise
        if update is None:
            yield self._finished(run, complete=True)
            return
        run.count += 1
        if run.count > asked.skip:
            sent = _sent(run, update)
            run.credit -= 1
            run.kept.append((run.count, sent))
            yield sent

    def _stop(self) -> Iterator[m.Reply]:
        run = self._running
        if run is not None and run.over is None:
            yield self._finished(run)

    def _note(self, run: _Running) -> None:
        """What a propagation's entry says by now."""
        if self._known is not None and self._session is not None:
            self._known.note(run.asked.head.id, run.noted.entry)
            self._session.executor.settle(self._known.state(run.asked.head.id))

    def _finished(self, run: _Running, complete: bool = False) -> m.Propagated:
        run.updates.close()  # type: ignore[attr-defined]
        run.noted.stop()
        self._note(run)
        prepared = [] if complete and run.count else _prepared(run)
        run.over = m.Propagated(id=run.asked.id, count=run.count, complete=complete, prepared=prepared)
        return run.over

    def _resume(self, run: _Running, asked: m.Propagate) -> Iterator[m.Reply]:
        """Send again what was lost; the propagation itself went on meanwhile."""
        if run.kept and run.kept[0][0] > asked.skip + 1:
            raise ConnectionLostError("the propagation's earlier results are gone; start it again")
        while run.kept and run.kept[0][0] <= asked.skip:
            run.kept.popleft()
        run.credit = max(asked.credit - len(run.kept), 0)
        yield from (update for _, update in run.kept)
        if run.over is not None:
            yield run.over

    # -- faults ----------------------------------------------------------------------------------

    def _guarded(self, request: int, replies: Iterator[m.Reply]) -> Iterator[m.Reply]:
        try:
            yield from replies
        except BioSAM2Error as error:
            yield m.Failure(id=request, kind=name_of(error), text=_line(error))
        except MemoryError:
            yield m.Failure(
                id=request, kind="DeviceError", text="out of memory; use a smaller volume or close other programs"
            )
        except Exception as error:  # noqa: BLE001
            # An internal error must not take the other sessions, or the user's state, with it.
            _log.exception("request %s failed", request)
            yield m.Failure(
                id=request, kind="ServiceError", text=f"internal error: {type(error).__name__}: {_line(error)}"
            )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:2000]


def _prepared(run: _Running) -> list[m.Prepared]:
    """Results on prompted slices, which are there from the moment when the propagation began."""
    return [
        m.Prepared(segment=found.segment, slice_index=found.slice_index, mask=found.mask, score=found.score)
        for found in run.noted.prepared
    ]


def _sent(run: _Running, found: Found) -> m.Update:
    return m.Update(
        id=run.asked.id,
        number=run.count,
        segment=found.segment,
        slice_index=found.slice_index,
        mask=found.mask,
        score=found.score,
        prepared=_prepared(run) if run.count == 1 else [],
        gone=found.gone,
        interpolated=found.interpolated,
    )


def _raising(error: Exception) -> Iterator[m.Reply]:
    raise error
    yield
