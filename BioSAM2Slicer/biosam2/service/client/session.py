"""The session interface over a link: the same names as `biosam2.Session`, and recovery when the other side dies."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, PromptError
from ...frames import Frames
from ...prompts import Box, Mask, Point, Prompt
from ...session import entries as log
from ...session.entries import Entry
from ...session.settings import SessionSettings
from ...speed import Speed
from ...update import Update
from ...volume import Volume
from .. import messages as m
from ..errors import ConnectionLostError, ServiceError, error_of
from .link import Connector, Link, Notice, Progress, RemoteModel
from .mirror import Mirror

if TYPE_CHECKING:
    import torch

# A request that ends the other side this often is not tried again; one more than bad luck needs.
_TRIES = 3


@dataclass(eq=False)
class _Run:
    """A propagation as this side sees it."""

    segments: tuple[str, ...]
    direction: str
    first: int | None
    last: int | None
    id: int = 0
    replies: Iterator[m.Reply] | None = None
    begun: bool = False
    over: bool = False
    complete: bool = False
    # Updates taken since the last grant.
    taken: int = 0


class ClientSession:
    """A `biosam2.Session` that lives elsewhere. Not thread-safe, but for `cancel`.

    The journal and all finished masks are kept here. When the other side dies or forgets the session, the next
    operation that needs it opens it again and repeats what is in force; the caller sees a pause and one notice.

    Args:
        connector: how the other side is reached.
        volume: the voxels.
        axis, window, crop, policy, precision, speed: as for `biosam2.Session`; a policy by its name.
        ahead: slices that a propagation may be ahead of the one that the caller has taken; 1 works on one only when
            it is asked for, as a `biosam2.Session` does.
        on_notice: told what the user should read; by default a warning is issued.
        on_progress: told (stage, fraction or None) while something long is prepared.

    Raises:
        InputError: an unknown axis, window, crop or policy.
        ServiceError: there is no host, or it refuses.
    """

    def __init__(
        self,
        connector: Connector,
        volume: Volume,
        axis: str = "k",
        window: tuple[float, float] | str | None = None,
        crop: Literal["auto"] | None = None,
        policy: str | None = None,
        precision: str = "float32",
        *,
        speed: Speed | None = None,
        ahead: int = 1,
        on_notice: Notice | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        if policy is not None and not isinstance(policy, str):
            raise InputError("a policy goes to another process by its name")
        self.settings = SessionSettings.resolve(volume, axis, window, crop, policy, precision, speed)
        self.volume = volume
        self.frames = Frames(volume, self.settings.axis, self.settings.window, 0)
        self._connector = connector
        self._ahead = max(1, ahead)
        self._on_notice = on_notice or _warn
        self._on_progress = on_progress or _ignore
        self._ids = itertools.count(1)
        self._mirror = Mirror(self.frames)
        self._link: Link | None = None
        self._run: _Run | None = None
        self._running: Iterator[Update] | None = None
        self._cancelled = False
        # Changes that the other side, too, could redo.
        self._redo_there = 0
        self._losses = 0
        self._closed = False
        self.model: RemoteModel
        self._surely(lambda link: None)

    # -- what there is ---------------------------------------------------------------------------

    @property
    def axis(self) -> str:
        """Index axis along which slices are counted: ``"i"``, ``"j"`` or ``"k"``."""
        return self.frames.axis

    @property
    def number_of_slices(self) -> int:
        """Number of slices along the axis."""
        return self.frames.count

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the segments, in order of creation."""
        return self._mirror.segments

    @property
    def journal(self) -> tuple[Entry, ...]:
        """The entries in force, in order."""
        return tuple(self._mirror.in_force())

    def prompts(self, segment: str) -> tuple[Prompt, ...]:
        """As `Session.prompts`."""
        return self._mirror.prompts(segment)

    def finished_slices(self, segment: str) -> tuple[int, ...]:
        """As `Session.finished_slices`."""
        return self._mirror.finished_slices(segment)

    def frame_tensor(self, slice_index: int) -> torch.Tensor:
        """As `Session.frame_tensor`; made here, and therefore needs torch."""
        return self.frames.tensor(slice_index, self.frames.whole)

    # -- prompts ---------------------------------------------------------------------------------

    def add_prompt(self, segment: str, prompt: Prompt) -> None:
        """As `Session.add_prompt`."""
        _check_name(segment)
        if not isinstance(prompt, (Point, Box, Mask)):
            raise PromptError(f"a prompt is a Point, a Box or a Mask, not {type(prompt).__name__}")
        self._ask(m.AddPrompt(id=self._id(), segment=segment, prompt=m.send_prompt(prompt)))
        self._mirror.prompted(segment, prompt)
        self._redo_there = 0

    def remove_prompt(self, segment: str, prompt: Prompt | int) -> None:
        """As `Session.remove_prompt`."""
        self._mirror.prompts(segment)
        self._finish_running()
        position = self._mirror.position_of(segment, prompt)
        self._ask(m.RemovePrompt(id=self._id(), segment=segment, position=position))
        self._mirror.removed(segment, position)
        self._redo_there = 0

    def start_from(self, segment: str, mask: NDArray) -> None:
        """As `Session.start_from`."""
        _check_name(segment)
        mask = np.asarray(mask) != 0
        if mask.shape != self.volume.shape:
            raise InputError(f"the mask's shape {mask.shape} is not the volume's {self.volume.shape}")
        self._ask(m.StartFrom(id=self._id(), segment=segment, mask=mask))
        self._mirror.started(segment, mask)
        self._redo_there = 0

    def lock(self, segment: str, slice_index: int, locked: bool = True, mask: NDArray | None = None) -> None:
        """As `Session.lock`."""
        self._mirror.prompts(segment)
        self.frames.check_index(slice_index)
        kept = None if mask is None else np.asarray(mask) != 0
        answer = self._ask(m.Lock(id=self._id(), segment=segment, slice_index=slice_index, locked=locked, mask=kept))
        self._mirror.locked(segment, slice_index, answer.mask if isinstance(answer, m.MaskAnswer) else None)
        self._redo_there = 0

    def clear(self, segment: str) -> None:
        """As `Session.clear`."""
        self._mirror.prompts(segment)
        self._finish_running()
        self._ask(m.Clear(id=self._id(), segment=segment))
        self._mirror.cleared(segment)
        self._redo_there = 0

    # -- masks -----------------------------------------------------------------------------------

    def predict(self, segment: str, slice_index: int) -> NDArray[np.bool_]:
        """As `Session.predict`."""
        self._mirror.prompts(segment)
        self.frames.check_index(slice_index)
        answer = self._ask(m.Predict(id=self._id(), segment=segment, slice_index=slice_index))
        assert isinstance(answer, m.MaskAnswer)
        return answer.mask

    def propagate(
        self,
        segments: Iterable[str] | None = None,
        direction: str = "both",
        first: int | None = None,
        last: int | None = None,
    ) -> Iterator[Update]:
        """As `Session.propagate`. With `ahead` above 1, finished slices may be a few more than those yielded."""
        names = self._names(segments)
        self.count_steps(names, direction, first, last)  # refuses at once what cannot be done
        self._finish_running()
        self._cancelled = False
        chosen = tuple(n for n in self.segments if (self.prompts(n) if names is None else n in names))
        self._running = self._propagating(_Run(chosen, direction, first, last))
        return self._running

    def count_steps(
        self,
        segments: Iterable[str] | None = None,
        direction: str = "both",
        first: int | None = None,
        last: int | None = None,
    ) -> int:
        """As `Session.count_steps`."""
        names = self._names(segments)
        answer = self._ask(m.CountSteps(id=self._id(), segments=names, direction=direction, first=first, last=last))
        assert isinstance(answer, m.Done)
        return int(answer.value or 0)

    def cancel(self) -> None:
        """As `Session.cancel`; may be called from another thread."""
        self._cancelled = True
        run, link = self._run, self._link
        if run is not None and not run.over and link is not None:
            try:
                link.tell(m.Cancel(id=self._id()))
            except ConnectionLostError:
                return  # whoever waits for the next slice notices it too

    def mask(self, segment: str) -> NDArray[np.bool_]:
        """As `Session.mask`; from what is here, so that it needs no connection."""
        return self._mirror.mask(segment)

    def labelmap(self) -> NDArray[np.unsignedinteger]:
        """As `Session.labelmap`."""
        dtype = np.uint8 if len(self.segments) < 256 else np.uint16
        labels = np.zeros(self.volume.shape, dtype=dtype)
        for value, name in enumerate(self.segments, start=1):
            labels[self.mask(name)] = value
        return labels

    def logits(self, segment: str, slice_index: int) -> NDArray[np.float32]:
        """As `Session.logits`."""
        self._mirror.score(segment, slice_index)
        answer = self._ask(m.Logits(id=self._id(), segment=segment, slice_index=slice_index))
        assert isinstance(answer, m.LogitsAnswer)
        return answer.logits

    def score(self, segment: str, slice_index: int) -> float:
        """As `Session.score`."""
        return self._mirror.score(segment, slice_index)

    # -- undo ------------------------------------------------------------------------------------

    def undo(self) -> bool:
        """As `Session.undo`."""
        self._finish_running()
        if not self._mirror.can_undo:
            return False
        self._ask(m.Undo(id=self._id()))
        self._mirror.undone()
        self._redo_there += 1
        return True

    def redo(self) -> bool:
        """As `Session.redo`."""
        self._finish_running()
        entry = self._mirror.next_redo
        if entry is None:
            return False
        if self._redo_there and self._said_yes(self._ask(m.Redo(id=self._id()))):
            self._redo_there = max(0, self._redo_there - 1)
        else:
            # What was undone died with the other side: do it again.
            self._surely(lambda link: self._repeat(link, entry))
        self._mirror.redone()
        return True

    # -- the record ------------------------------------------------------------------------------

    def to_record(self) -> dict[str, Any]:
        """As `Session.to_record`."""
        return {**log.plain(self.settings), "journal": [log.to_json(entry) for entry in self._mirror.in_force()]}

    def replay(self, entry: Entry, on_update: Callable[[Update], object] | None = None) -> None:
        """As `Session.replay`."""
        match entry:
            case log.Prompted():
                self.add_prompt(entry.segment, entry.prompt)
            case log.Removed():
                self.remove_prompt(entry.segment, entry.position)
            case log.Started():
                self.start_from(entry.segment, entry.mask)
            case log.Locked():
                self.lock(entry.segment, entry.slice_index, entry.locked, entry.mask)
            case log.Cleared():
                self.clear(entry.segment)
            case log.Propagated():
                updates = self.propagate(entry.segments, entry.direction, entry.first, entry.last)
                for finished in (*entry.finished, None) if entry.complete else entry.finished:
                    update = next(updates, None)
                    done = update and (update.segment, update.slice_index)
                    if done != finished:
                        raise InputError(f"the journal's propagation finished {finished} where this one did {done}")
                    if update and on_update:
                        on_update(update)
                self._finish_running()

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the other side. Masks and the journal stay readable."""
        self._closed = True
        self._drop()
        self._connector.close()

    def __enter__(self) -> ClientSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside: propagation ---------------------------------------------------------------------

    def _propagating(self, run: _Run) -> Iterator[Update]:
        self._run = run
        try:
            while (update := self._next_update(run)) is not None:
                yield update
                if self._cancelled:
                    return
        finally:
            self._end(run)

    def _next_update(self, run: _Run) -> Update | None:
        tries = 0
        while True:
            try:
                link = self._linked()
                if run.replies is None:
                    self._send_run(run, link)
                self._grant(run, link)
                assert run.replies is not None
                reply = next(run.replies)
            except ConnectionLostError as error:
                tries += 1
                self._lost(error, tries)
                continue
            except BaseException:
                self._drop()
                raise
            if isinstance(reply, m.Progress):
                self._on_progress(reply.stage, reply.fraction)
            elif isinstance(reply, m.Failure):
                if reply.kind == ConnectionLostError.__name__:
                    tries += 1
                    self._lost(ConnectionLostError(reply.text), tries)
                    continue
                run.over = True
                raise error_of(reply.kind, reply.text)
            else:
                return self._take(run, reply)

    def _take(self, run: _Run, reply: m.Reply) -> Update | None:
        if not run.begun:
            run.begun = True
            self._mirror.begin(run.segments, run.direction, run.first, run.last)
            self._redo_there = 0
        assert isinstance(reply, (m.Update, m.Propagated))
        for known in reply.prepared:
            self._mirror.result(known.segment, known.slice_index, known.mask, known.score, finished=False)
        if isinstance(reply, m.Update):
            run.taken += 1
            result = reply.mask if reply.result is None else reply.result
            self._mirror.result(reply.segment, reply.slice_index, result, reply.score, finished=True)
            return Update(reply.segment, reply.slice_index, reply.mask, reply.score)
        run.over, run.complete = True, reply.complete
        return None

    def _send_run(self, run: _Run, link: Link) -> None:
        run.id = self._id()
        run.taken = 0
        run.replies = link.ask(
            m.Propagate(
                id=run.id,
                segments=list(run.segments),
                direction=run.direction,
                first=run.first,
                last=run.last,
                skip=self._mirror.count if run.begun else 0,
                credit=self._ahead,
            )
        )

    def _grant(self, run: _Run, link: Link) -> None:
        if run.taken >= max(1, self._ahead // 2):
            link.tell(m.Grant(id=self._id(), of=run.id, credit=run.taken, received=self._mirror.count))
            run.taken = 0

    def _end(self, run: _Run) -> None:
        """Stop the other side, and take what it finished meanwhile."""
        link = self._link
        try:
            if link is not None and run.replies is not None and not run.over:
                link.tell(m.Cancel(id=self._id()))
                for reply in run.replies:
                    if isinstance(reply, (m.Update, m.Propagated)):
                        self._take(run, reply)
        except ConnectionLostError:
            # What had arrived stands; the rest was not wanted any more.
            self._drop()
        except BaseException:
            self._drop()
            raise
        finally:
            run.over = True
            self._run = None
            self._mirror.end(run.complete)

    def _finish_running(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.close()  # type: ignore[attr-defined]

    # -- inside: asking --------------------------------------------------------------------------

    def _id(self) -> int:
        return next(self._ids)

    def _ask(self, request: m.Request) -> m.Reply | None:
        """The final answer, whatever happens to the connection meanwhile."""
        return self._surely(lambda link: self._final(link, request))

    def _surely(self, do: Callable[[Link], m.Reply | None]) -> m.Reply | None:
        for tries in itertools.count(1):
            try:
                return do(self._linked())
            except ConnectionLostError as error:  # noqa: PERF203
                self._lost(error, tries)
            except Exception:
                raise
            except BaseException:
                # Interrupted: nobody knows what the other side has done.
                self._drop()
                raise
        return None

    def _final(self, link: Link, request: m.Request) -> m.Reply:
        for reply in link.ask(request):
            if isinstance(reply, m.Progress):
                self._on_progress(reply.stage, reply.fraction)
            elif isinstance(reply, m.Failure):
                raise error_of(reply.kind, reply.text)
            elif isinstance(reply, m.Answer):
                return reply
        raise ConnectionLostError("the answer did not come")

    @staticmethod
    def _said_yes(answer: m.Reply | None) -> bool:
        return isinstance(answer, m.Done) and bool(answer.value)

    # -- inside: recovery ------------------------------------------------------------------------

    def _linked(self) -> Link:
        """The link; a new one, with the session restored on it, where there is none."""
        if self._closed:
            raise ServiceError("the session was closed; open a new one")
        if self._link is None:
            settings = m.Create(
                id=self._id(),
                axis=self.settings.axis,
                window=self.settings.window,
                crop=self.settings.crop,
                policy=self.settings.policy,
                precision=self.settings.precision,
                speed=self.settings.speed.to_json(),
            )
            link, model = self._connector.open(settings, self._on_progress, self._on_notice)
            self.model = model
            self.frames.image_size = model.image_size
            try:
                self._restore(link)
            except BaseException:
                link.close()
                raise
            self._link = link
        return self._link

    def _restore(self, link: Link) -> None:
        """Repeat on a new link what is in force, and go on with a running propagation."""
        place, run = self._mirror.place, self._run
        self._redo_there = 0
        entries = self._mirror.in_force(place)
        for n, entry in enumerate(entries):
            self._on_progress("restoring the session", n / len(entries))
            self._repeat(link, entry)
        if run is not None:
            run.replies = None
        if run is not None and run.begun and not run.over:
            self._send_run(run, link)
            # Prompts given since it began take effect at the next one.
            for entry in self._mirror.journal[(place or 0) + 1 :]:
                self._repeat(link, entry)

    def _repeat(self, link: Link, entry: Entry) -> None:
        """Do a journal entry again at the other side; its masks are here."""
        match entry:
            case log.Prompted():
                prompt = m.send_prompt(entry.prompt)
                self._final(link, m.AddPrompt(id=self._id(), segment=entry.segment, prompt=prompt))
            case log.Removed():
                self._final(link, m.RemovePrompt(id=self._id(), segment=entry.segment, position=entry.position))
            case log.Started():
                self._final(link, m.StartFrom(id=self._id(), segment=entry.segment, mask=entry.mask))
            case log.Locked():
                lock = m.Lock(id=self._id(), segment=entry.segment, slice_index=entry.slice_index, locked=entry.locked)
                lock.mask = entry.mask
                self._final(link, lock)
            case log.Cleared():
                self._final(link, m.Clear(id=self._id(), segment=entry.segment))
            case log.Propagated():
                count = len(entry.finished)
                request = m.Propagate(
                    id=self._id(),
                    segments=list(entry.segments),
                    direction=entry.direction,
                    first=entry.first,
                    last=entry.last,
                    skip=count,
                    limit=None if entry.complete else count,
                )
                answer = self._final(link, request)
                if isinstance(answer, m.Propagated) and answer.count != count:
                    raise ServiceError("the session could not be restored as it was; close it and open a new one")

    def _lost(self, error: ConnectionLostError, tries: int) -> None:
        """Take note that the other side is gone.

        Raises:
            ServiceError: it goes every time that this is asked of it.
        """
        self._drop()
        if tries >= _TRIES:
            raise ServiceError(f"it was tried {tries} times: {error}") from error
        self._on_notice(f"{error}. It is started again with the same prompts; finished masks are kept.")

    def _drop(self) -> None:
        link, self._link = self._link, None
        if self._run is not None:
            self._run.replies = None
        if link is not None:
            link.close()

    @staticmethod
    def _names(segments: Iterable[str] | None) -> list[str] | None:
        if isinstance(segments, str):
            raise InputError(f"segments are a list of names; use [{segments!r}]")
        return None if segments is None else list(segments)


def _check_name(segment: str) -> None:
    if not isinstance(segment, str) or not segment.strip():
        raise InputError("a segment needs a name")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _ignore(stage: str, fraction: float | None) -> None:
    return
