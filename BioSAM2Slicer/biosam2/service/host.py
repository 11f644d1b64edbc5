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
from typing import TYPE_CHECKING, Protocol

from .. import __version__
from ..errors import BioSAM2Error, InputError
from ..prompts import Mask
from . import messages as m
from .errors import ConnectionLostError, ProtocolError, name_of

if TYPE_CHECKING:
    from ..session import Session
    from ..update import Update

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
        """Let go of what only this session needs."""


@dataclass
class _Running:
    """A propagation under way, or the last one."""

    asked: m.Propagate
    segments: tuple[str, ...]
    updates: Iterator[Update]
    count: int = 0
    last: Update | None = None
    credit: int | None = None
    # Numbered updates that the client has not confirmed.
    kept: deque[tuple[int, m.Update]] = field(default_factory=deque)
    over: m.Propagated | None = None


class Host:
    """Answers one owner's requests.

    Args:
        engine: makes the session.

    Example:
        >>> host = Host(LocalEngine())
        >>> host.receive(messages.Hello(id=1, protocol=1, client="me"))
        >>> while host.waiting or host.moving:
        ...     for reply in host.work():
        ...         send(reply)
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Session | None = None
        self._inbox: deque[m.Asked] = deque()
        self._running: _Running | None = None
        self._answered: OrderedDict[int, m.Final] = OrderedDict()
        self._ahead = False
        # Slices that were locked or drawn at some time: there the network's result may lie under the user's mask.
        self._theirs: set[tuple[str, int]] = set()

    @property
    def waiting(self) -> int:
        """How many requests have not been taken up."""
        return len(self._inbox)

    @property
    def moving(self) -> bool:
        """Whether a propagation can go on."""
        run = self._running
        return run is not None and run.over is None and run.credit != 0

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
        if self._inbox and not self._catching_up:
            request = self._inbox.popleft()
            for reply in self._guarded(request.id, self._answer(request)):
                if isinstance(reply, m.Answer) and reply.id == request.id:
                    self._answered[request.id] = reply
                    while len(self._answered) > _REMEMBERED:
                        self._answered.popitem(last=False)
                yield reply
        elif self.moving:
            assert self._running is not None
            yield from self._advance(self._running)

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
        self._running = None
        self._answered.clear()
        session, self._session = self._session, None
        if session is not None:
            self._engine.close(session)

    # -- requests --------------------------------------------------------------------------------

    def _answer(self, asked: m.Asked) -> Iterator[m.Reply]:
        run = self._running
        match asked:
            case m.Grant():
                if run is not None and run.asked.id == asked.of and run.credit is not None:
                    while run.kept and run.kept[0][0] <= asked.received:
                        run.kept.popleft()
                    # Whatever is granted: no more is kept than the propagation began with.
                    room = max(0, (run.asked.credit or 0) - len(run.kept))
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
                if self._session is not None:
                    self._engine.close(self._session)
                    self._session = None
                self._session = self._engine.create(asked)
                self._theirs.clear()
                yield m.Done(id=asked.id)
            case _:
                if self._session is None:
                    raise ProtocolError("there is no session yet; send create first")
                yield from self._change(self._session, asked)

    def _change(self, session: Session, asked: m.Asked) -> Iterator[m.Reply]:
        value: bool | int | None = None
        match asked:
            case m.Predict():
                yield m.MaskAnswer(id=asked.id, mask=session.predict(asked.segment, asked.slice_index))
                return
            case m.Logits():
                yield m.LogitsAnswer(id=asked.id, logits=session.logits(asked.segment, asked.slice_index))
                return
            case m.Propagate():
                yield from self._stop()
                yield from self._propagate(session, asked)
                return
            case m.Lock():
                kept = None if asked.mask is None else m.as_mask(asked.mask)
                session.lock(asked.segment, asked.slice_index, asked.locked, kept)
                self._theirs.add((asked.segment, asked.slice_index))
                if asked.locked:
                    mask = session.frames.unstack(session.mask(asked.segment))[asked.slice_index]
                    yield m.MaskAnswer(id=asked.id, mask=mask)
                    return
            case m.AddPrompt():
                prompt = m.receive_prompt(asked.prompt)
                session.add_prompt(asked.segment, prompt)
                if isinstance(prompt, Mask):
                    self._theirs.add((asked.segment, prompt.slice_index))
            case m.StartFrom():
                session.start_from(asked.segment, m.as_mask(asked.mask))
            case m.CountSteps():
                value = session.count_steps(asked.segments, asked.direction, asked.first, asked.last)  # type: ignore[arg-type]
            case m.RemovePrompt():
                yield from self._stop()
                session.remove_prompt(asked.segment, asked.position)
            case m.Clear():
                yield from self._stop()
                session.clear(asked.segment)
            case m.Undo():
                yield from self._stop()
                value = session.undo()
            case m.Redo():
                yield from self._stop()
                value = session.redo()
        yield m.Done(id=asked.id, value=value)

    # -- propagation -----------------------------------------------------------------------------

    def _propagate(self, session: Session, asked: m.Propagate) -> Iterator[m.Reply]:
        updates = session.propagate(asked.segments, asked.direction, asked.first, asked.last)  # type: ignore[arg-type]
        names = tuple(n for n in session.segments if asked.segments is None or n in asked.segments)
        self._running = _Running(asked, names, updates, credit=asked.credit)
        # Begun at once, so that prompts which come after it take effect after it.
        yield from self._advance(self._running)

    def _advance(self, run: _Running) -> Iterator[m.Reply]:
        """Propagate by one slice of one segment."""
        yield from self._guarded(run.asked.id, self._step(run))

    def _step(self, run: _Running) -> Iterator[m.Reply]:
        asked = run.asked
        try:
            update = next(run.updates, None)
        except BaseException:
            # The session has ended it by itself; what was finished stands.
            self._running = None
            raise
        if update is None:
            yield self._finished(run, complete=True)
            return
        run.count += 1
        run.last = update
        if run.count > asked.skip:
            sent = self._sent(run, update)
            if run.credit is not None:
                run.credit -= 1
                run.kept.append((run.count, sent))
            yield sent
        if asked.limit is not None and run.count >= asked.limit:
            yield self._finished(run)

    def _stop(self) -> Iterator[m.Reply]:
        run = self._running
        if run is not None and run.over is None:
            yield self._finished(run)

    def _finished(self, run: _Running, complete: bool = False) -> m.Propagated:
        run.updates.close()  # type: ignore[attr-defined]
        prepared = [] if complete and run.count else self._prepared(run, run.last)
        run.over = m.Propagated(id=run.asked.id, count=run.count, complete=complete, prepared=prepared)
        return run.over

    def _prepared(self, run: _Running, update: Update | None) -> list[m.Prepared]:
        """Results that there are besides the update's: on prompted slices, and of other segments on its slice."""
        found: list[m.Prepared] = []
        session = self._session
        if session is None:
            return found
        for name in run.segments:
            slices = {p.slice_of(session.frames) for p in session.prompts(name)}
            if update is not None:
                slices = slices - {update.slice_index} if update.segment == name else slices | {update.slice_index}
            for s in sorted(slices & set(session.finished_slices(name))):
                try:
                    mask, score = session.logits(name, s) > 0, session.score(name, s)
                except InputError:
                    continue  # the user's own mask, which the network has not seen
                found.append(m.Prepared(segment=name, slice_index=s, mask=mask, score=score))
        return found

    def _sent(self, run: _Running, update: Update) -> m.Update:
        result = None
        if (update.segment, update.slice_index) in self._theirs and self._session is not None:
            result = self._session.logits(update.segment, update.slice_index) > 0
        return m.Update(
            id=run.asked.id,
            number=run.count,
            segment=update.segment,
            slice_index=update.slice_index,
            mask=update.mask,
            score=update.score,
            result=result,
            prepared=self._prepared(run, update) if run.count == 1 else [],
        )

    def _resume(self, run: _Running, asked: m.Propagate) -> Iterator[m.Reply]:
        """Send again what was lost; the propagation itself went on meanwhile."""
        if run.credit is None or (run.kept and run.kept[0][0] > asked.skip + 1):
            raise ConnectionLostError("the propagation's earlier results are gone; start it again")
        while run.kept and run.kept[0][0] <= asked.skip:
            run.kept.popleft()
        if asked.credit is not None:
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
            # A fault of ours must not take the other sessions, or the user's state, with it.
            _log.exception("request %s failed", request)
            yield m.Failure(
                id=request, kind="ServiceError", text=f"fault of ours: {type(error).__name__}: {_line(error)}"
            )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:2000]
