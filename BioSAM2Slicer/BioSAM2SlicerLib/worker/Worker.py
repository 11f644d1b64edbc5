"""A session's worker: started with model and volume when it is needed, and again when it ends unexpectedly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from biosam2.prompts import Prompt
from biosam2.service import messages as m
from biosam2.service.conversation import RunTicket, Ticket
from biosam2.service.errors import ConnectionLostError
from biosam2.session import ModelFacts, SessionState
from slicer.i18n import tr as _

from ..scene.Parameters import Parameters
from ..scene.VolumeGeometry import VolumeGeometry
from ..Signal import Signal
from .ProcessDriver import DEAD, STOPPED, ProcessDriver


class Worker:
    """Requests about a session on one volume. Nothing here waits.

    Every request is about a `SessionState`; what the process lacks of it, it is sent.

    Signals:
        said(str), failed(str), noticed(str): one line for the user.
        workingChanged(): `working` has changed.
        ready(): the model is loaded.
        offered(list): names of the models that the server has.
        lost(why, again): the process ended unexpectedly; the reason, in one line, and whether `connect` is to start
            another one, which is sent what was not answered.

    Args:
        makeDriver: makes a driver of a process.
        settings: gives the settings.
        modelFields: more of `biosam2.service.messages.LoadModel`'s fields, for a checkpoint of one's own.
    """

    def __init__(
        self,
        makeDriver: Callable[[], ProcessDriver],
        settings: Callable[[], Parameters],
        modelFields: dict[str, Any] | None = None,
    ) -> None:
        self.said = Signal()
        self.failed = Signal()
        self.noticed = Signal()
        self.workingChanged = Signal()
        self.ready = Signal()
        self.offered = Signal()
        self.lost = Signal()
        self._makeDriver = makeDriver
        self._settings = settings
        self._modelFields = modelFields
        self._driver: ProcessDriver | None = None
        self._facts: ModelFacts | None = None
        self._volume: Any = None
        # Volumes on their way to the process.
        self._files: list[Path] = []
        # Volumes that are not needed and could not be deleted: Windows keeps what a process has mapped.
        self._spent: list[Path] = []
        self._working = ""
        self._givingUp = False

    @property
    def driver(self) -> ProcessDriver | None:
        """The process's driver; None before the first input."""
        return self._driver

    @property
    def facts(self) -> ModelFacts | None:
        """The network that was loaded last; None before the first."""
        return self._facts

    @property
    def working(self) -> str:
        """What the process does before it can answer, in one line; empty where it can."""
        return self._working

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._files) or (self._driver is not None and self._driver.conversation.waiting > 0)

    @property
    def down(self) -> bool:
        """Whether no process runs."""
        return self._driver is None or self._driver.state in (STOPPED, DEAD)

    # -- the process -----------------------------------------------------------------------------

    def open(self, volumeNode: Any) -> None:
        """Work on this volume from now on."""
        self._volume = volumeNode
        if self.down:
            self.connect()
        else:
            self.renew()

    def close(self) -> None:
        """Release the volume; the process stays, for the next one."""
        if self._driver is not None:
            self._driver.conversation.drop_all()
        self._volume = None

    def stop(self) -> None:
        """End the process."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.conversation.drop_all()
            driver.stop()
        self._working = ""
        self._dropFiles()

    def restart(self) -> None:
        """Start another process, for other settings."""
        assert self._driver is not None
        self._driver.stop()
        self._dropFiles()
        self.connect()

    def connect(self) -> None:
        """Start the process if none runs, with model and volume; what was not answered is asked again."""
        if self._volume is None or not self.down:
            return
        if self._driver is None:
            self._driver = self._makeDriver()
            self._driver.noticed.connect(self.noticed.emit)
            self._driver.progressed.connect(self._onProgress)
            self._driver.died.connect(self._onDied)
        self._work(_("Starting …"))
        parameters = self._settings()
        fields = self._modelFields or {"name": parameters.model}
        load = m.LoadModel(id=0, device=parameters.device, **fields)
        path, volume = self._sentVolume()
        self._driver.start(load, volume, onOpened=lambda ticket: self._onOpened(ticket, path))

    def renew(self) -> None:
        """Send the voxels again, which are others."""
        if self._driver is None or self._volume is None or self.down:
            return
        path, volume = self._sentVolume()
        self._driver.conversation.open_volume(volume, lambda ticket: self._onVolume(ticket, path))

    # -- requests --------------------------------------------------------------------------------

    def check(self, state: SessionState, prompt: Prompt, handler: Callable[[Ticket], None]) -> None:
        """Ask whether the network can take a prompt; see `Conversation.check`."""
        if self._driver is not None:
            self._driver.conversation.check(state, prompt, self._unlessGivenUp(handler))

    def predict(self, state: SessionState, segmentId: str, index: int, handler: Callable[[Ticket], None]) -> None:
        """Ask for the mask of a prompted slice; see `Conversation.predict`."""
        if self._driver is not None:
            self._driver.conversation.predict(state, segmentId, index, self._unlessGivenUp(handler))

    def propagate(
        self, state: SessionState, entryId: int, ahead: int, handler: Callable[[RunTicket], None]
    ) -> RunTicket | None:
        """Begin a propagation; see `Conversation.propagate`. None without a worker."""
        if self._driver is None:
            return None
        return self._driver.conversation.propagate(state, entryId, ahead, self._unlessGivenUp(handler))

    def forget(self, entryId: int) -> None:
        """An entry and those after it are not what they were."""
        if self._driver is not None:
            self._driver.conversation.forget(entryId)

    # -- inside ---------------------------------------------------------------------------------

    def _unlessGivenUp(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        def handle(ticket: Any) -> None:
            if self._givingUp and ticket.error is not None:
                # `lost` tells it, once for all requests.
                return
            if self._working and not self.down and ticket.done:
                self._work("")
            handler(ticket)

        return handle

    def _work(self, text: str) -> None:
        self._working = text
        self.workingChanged.emit()

    def _onProgress(self, progress: m.Progress) -> None:
        share = "" if progress.fraction is None else f" {100 * progress.fraction:.0f} %"
        self._work(f"{progress.stage.capitalize()}{share} …")
        if progress.models:
            self.offered.emit(progress.models)

    def _onOpened(self, ticket: Ticket, path: Path) -> None:
        self._work("")
        self._onVolume(ticket, path)
        if ticket.error is None:
            self._facts = facts = ticket.result()
            where = _("on CPU") if facts.device == "cpu" else _("on {device}").format(device=facts.device)
            why = f" ({facts.device_reason})" if facts.device_reason else ""
            self.said.emit(_("Ready: {name} {where}{why}").format(name=facts.name, where=where, why=why))
            self.ready.emit()

    def _onVolume(self, ticket: Ticket, path: Path) -> None:
        if path in self._files:
            self._files.remove(path)
        self._delete([path])
        error = ticket.error
        # The end of the process is told by itself.
        if error is not None and not isinstance(error, ConnectionLostError):
            self.failed.emit(str(error))

    def _onDied(self, why: str) -> None:
        assert self._driver is not None
        self._givingUp = True
        again = self._driver.conversation.lost(why) is None
        self._givingUp = False
        self._work("")
        self._dropFiles()
        if self._volume is not None:
            self.lost.emit(why, again)

    def _sentVolume(self) -> tuple[Path, m.OpenVolume]:
        """The voxels in a file, and the request that names it."""
        spacing, origin, direction = VolumeGeometry(self._volume).lps()
        array = np.ascontiguousarray(slicer.util.arrayFromVolume(self._volume))
        with tempfile.NamedTemporaryFile(
            dir=slicer.app.temporaryPath, prefix="biosam2-", suffix=".npy", delete=False
        ) as file:
            np.save(file, array)
        path = Path(file.name)
        self._files.append(path)
        return path, m.OpenVolume(id=0, path=file.name, spacing=spacing, origin=origin, direction=direction)

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
