"""The session as the worker holds it: model, volume and journal are given to it, and to the next one if it dies."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from biosam2.service import messages as m
from biosam2.session import SessionSettings
from biosam2.session.entries import Cleared, Locked, Prompted, Propagated, Removed, Started
from slicer.i18n import tr as _

from .Parameters import Parameters
from .SessionJournal import Remark, SessionJournal
from .Signal import Signal
from .VolumeGeometry import VolumeGeometry
from .WorkerClient import DEAD, STOPPED, WorkerClient

# A worker that dies more often than this in a row is not started again by itself.
_RESTARTS = 3


class WorkerSession:
    """Requests on one volume to a worker that is started when it is needed. Nothing here waits.

    Signals:
        said(str), failed(str), noticed(str): one line for the user.
        workingChanged(): `working` has changed.
        ready(): the model is loaded.
        offered(list): names of the models that the server has.
        lost(why, again): the worker ended without being told to; why, in one line, and whether `connect` may be tried.
        forgotten(): nothing that was asked before will be answered.
        refused(Remark, str): the session did not take a prompt; why.

    Args:
        makeClient: makes a client for a worker.
        settings: gives the settings.
        journal: what a new worker is told.
        modelFields: more of `biosam2.service.messages.LoadModel`'s fields, for a checkpoint of one's own.
    """

    def __init__(
        self,
        makeClient: Callable[[], WorkerClient],
        settings: Callable[[], Parameters],
        journal: SessionJournal,
        modelFields: dict[str, Any] | None = None,
    ) -> None:
        self.said = Signal()
        self.failed = Signal()
        self.noticed = Signal()
        self.workingChanged = Signal()
        self.ready = Signal()
        self.offered = Signal()
        self.lost = Signal()
        self.forgotten = Signal()
        self.refused = Signal()
        # Asks for an entry that is still under way, in place of repeating what of it is finished; False for others.
        self.resume: Callable[[Remark], bool] = lambda _remark: False
        self._makeClient = makeClient
        self._settings = settings
        self._journal = journal
        self._modelFields = modelFields
        self._client: WorkerClient | None = None
        self._model: m.ModelLoaded | None = None
        self._volume: Any = None
        # Volumes on their way to the worker.
        self._files: list[Path] = []
        # Volumes that nobody needs and that could not be deleted: Windows keeps what a worker has mapped.
        self._spent: list[Path] = []
        self._number = 0
        self._deaths = 0
        self._working = ""
        self._created = False
        # While a propagation is done again, what comes after it waits: a request would otherwise overtake it.
        self._repeating = False
        self._held: list[tuple[type, Callable[[Any], None] | None, dict[str, Any]]] = []

    @property
    def client(self) -> WorkerClient | None:
        """The worker's process; None before the first input."""
        return self._client

    @property
    def model(self) -> m.ModelLoaded | None:
        """The network that was loaded last; None before the first."""
        return self._model

    @property
    def number(self) -> int:
        """How many workers there have been; what an earlier one was told, this one was not."""
        return self._number

    @property
    def working(self) -> str:
        """What the worker does before it can answer, in one line; empty where it can."""
        return self._working

    @property
    def begun(self) -> bool:
        """Whether the worker has a session, or will have one when it comes to it."""
        return self._created

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return self._repeating or (self._client is not None and self._client.waiting > 0)

    @property
    def down(self) -> bool:
        """Whether there is no worker."""
        return self._client is None or self._client.state in (STOPPED, DEAD)

    def open(self, volumeNode: Any) -> None:
        """Work on this volume from now on."""
        self._volume = volumeNode
        self.connect()

    def close(self) -> None:
        """Let go of the volume; the worker stays, for the next one."""
        if self._client is not None and self._volume is not None:
            self._client.ask(m.Cancel)
        self._volume = None
        self.forget()

    def stop(self) -> None:
        """End the worker."""
        client, self._client = self._client, None
        if client is not None:
            client.stop()
        self._working = ""
        self._dropFiles()

    def restart(self) -> None:
        """Another worker, for other settings."""
        assert self._client is not None
        self._client.stop()
        self._dropFiles()
        self._deaths = 0
        self.connect()

    def connect(self) -> None:
        """Start the worker if there is none, and give it model, volume and journal."""
        if self._volume is None:
            return
        if self._client is None:
            self._client = self._makeClient()
            self._client.noticed.connect(self.noticed.emit)
            self._client.died.connect(self._onDied)
        if self.down:
            self._number += 1
            self._work(_("Starting …"))
            self._client.start()
            parameters = self._settings()
            fields = self._modelFields or {"name": parameters.model}
            self._client.ask(m.LoadModel, self._onModel, device=parameters.device, **fields)
        self.resync()

    def resync(self) -> None:
        """Give the worker the volume and everything in the journal anew."""
        if self._client is None or self._volume is None:
            return
        self.forget()
        spacing, origin, direction = VolumeGeometry(self._volume).lps()
        array = np.ascontiguousarray(slicer.util.arrayFromVolume(self._volume))
        with tempfile.NamedTemporaryFile(
            dir=slicer.app.temporaryPath, prefix="biosam2-", suffix=".npy", delete=False
        ) as file:
            np.save(file, array)
        path = Path(file.name)
        self._files.append(path)
        self._client.ask(
            m.OpenVolume,
            lambda reply: self._onOpened(path, reply),
            path=file.name,
            spacing=spacing,
            origin=origin,
            direction=direction,
        )
        for remark in list(self._journal.remarks):
            if not self.resume(remark):
                self.replay(remark)

    def forget(self) -> None:
        """What was asked of an earlier session is of no interest any more; the next request begins a new one."""
        self._created = self._repeating = False
        self._held = []
        self.forgotten.emit()

    def send(self, kind: type, handler: Callable[[Any], None] | None = None, **fields: Any) -> None:
        """Ask the worker, which is given a session first."""
        if self._client is None:
            return
        if self._repeating:
            self._held.append((kind, handler, fields))
            return
        if not self._created:
            parameters = self._settings()
            self._created = True
            self._client.ask(
                m.Create,
                self._onDone,
                settings=SessionSettings(
                    axis=parameters.axis,  # type: ignore[arg-type]
                    window=parameters.sessionWindow,  # type: ignore[arg-type]
                    crop="auto" if parameters.crop else None,
                    policy=parameters.policy,  # type: ignore[arg-type]
                ),
            )
        self._client.ask(kind, self._proving(handler or self._onDone), **fields)

    def tell(self, kind: type, **fields: Any) -> None:
        """Tell the worker something that it does not answer."""
        if self._client is not None:
            self._client.ask(kind, **fields)

    def stopPropagation(self) -> None:
        """Have the propagation end that was asked for; one that still waits for its turn is not begun."""
        waiting = [request for request in self._held if request[0] is m.Propagate]
        self._held = [request for request in self._held if request[0] is not m.Propagate]
        for _kind, handler, _fields in waiting:
            if handler is not None:
                handler(m.Propagated(id=0, count=0, complete=False))
        if not waiting:
            self.tell(m.Cancel)

    def replay(self, remark: Remark) -> None:
        """Tell the worker what an entry says; a propagation's masks are there already and are not sent."""
        entry = remark.entry
        if isinstance(entry, Prompted):
            self.send(
                m.AddPrompt,
                lambda reply: self._onPromptAnswer(remark, reply),
                segment=entry.segment,
                prompt=entry.prompt,
            )
        elif isinstance(entry, Removed):
            self.send(m.RemovePrompt, segment=entry.segment, position=entry.position)
        elif isinstance(entry, Started):
            self.send(m.StartFrom, segment=entry.segment, mask=entry.mask)
        elif isinstance(entry, Locked):
            self.send(
                m.Lock,
                segment=entry.segment,
                slice_index=entry.slice_index,
                locked=entry.locked,
                mask=entry.mask,
            )
        elif isinstance(entry, Cleared):
            self.send(m.Clear, segment=entry.segment)
        elif isinstance(entry, Propagated):
            count = len(entry.finished)
            self.send(
                m.Propagate,
                self._onRepeated,
                segments=list(entry.segments),
                direction=entry.direction,
                first=entry.first,
                last=entry.last,
                skip=count,
                limit=count,
            )
            self._repeating = True

    # -- inside ---------------------------------------------------------------------------------

    def _work(self, text: str) -> None:
        self._working = text
        self.workingChanged.emit()

    def _proving(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """A worker that gives masks is sound: its death is counted from one again."""

        def handle(reply: Any) -> None:
            if isinstance(reply, m.MaskAnswer | m.Update):
                self._deaths = 0
            handler(reply)

        return handle

    def _onRepeated(self, reply: Any) -> None:
        """A propagation was done again: on with what waited, up to the next one."""
        if not isinstance(reply, m.Answer):
            return
        self._onDone(reply)
        self._repeating = False
        held, self._held = self._held, []
        for number, (kind, handler, fields) in enumerate(held):
            self.send(kind, handler, **fields)
            if handler == self._onRepeated:
                self._repeating = True
                self._held = held[number + 1 :]
                return

    def _onPromptAnswer(self, remark: Remark, reply: Any) -> None:
        if isinstance(reply, m.Failure):
            self.refused.emit(remark, reply.text)

    def _onDone(self, reply: Any) -> None:
        if isinstance(reply, m.Failure):
            self.failed.emit(reply.text)

    def _onModel(self, reply: Any) -> None:
        if isinstance(reply, m.Progress):
            share = "" if reply.fraction is None else f" {100 * reply.fraction:.0f} %"
            self._work(f"{reply.stage.capitalize()}{share} …")
            if reply.models:
                self.offered.emit(reply.models)
        elif isinstance(reply, m.ModelLoaded):
            self._work("")
            self._model = reply
            where = _("on CPU") if reply.device == "cpu" else _("on {device}").format(device=reply.device)
            why = f" ({reply.device_reason})" if reply.device_reason else ""
            self.said.emit(_("Ready: {name} {where}{why}").format(name=reply.name, where=where, why=why))
            self.ready.emit()
        elif isinstance(reply, m.Failure):
            self._work("")
            self.failed.emit(reply.text)

    def _onOpened(self, path: Path, reply: Any) -> None:
        if isinstance(reply, m.Answer):
            self._files.remove(path)
            self._delete([path])
        self._onDone(reply)

    def _onDied(self, why: str) -> None:
        self._deaths += 1
        self._work("")
        self._dropFiles()
        if self._volume is None:
            self.forget()
            return
        self.lost.emit(why, self._deaths <= _RESTARTS)

    def _dropFiles(self) -> None:
        paths, self._files = self._files, []
        self._delete(paths)

    def _delete(self, paths: list[Path]) -> None:
        """Delete these, and those of before that could not be deleted then."""
        self._spent = [path for path in (*self._spent, *paths) if not _deleted(path)]


def _deleted(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True
