"""A worker process and the `Conversation` with it, driven by what Qt signals; nothing here waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import qt
from biosam2 import __version__
from biosam2.service import messages as m
from biosam2.service.conversation import Conversation, Ticket
from biosam2.service.errors import ConnectionLostError
from biosam2.service.framing import Decoder, Refused, encode
from slicer.i18n import tr as _

from ..Signal import Signal
from .Tether import withPackage

STOPPED, STARTING, READY, DEAD = "stopped", "starting", "ready", "dead"
_KEPT_STDERR = 4000
_END_TIMEOUT_MS = 500
# Processes that may end one after the other without a result between them: the first, and those started again.
_TRIES = 4


class ProcessDriver:
    """Writes a conversation's messages to a process, and hands it what the process answers.

    Signals:
        stateChanged(state): one of the module's constants.
        noticed(str): something that the user should read.
        progressed(Progress): how far long work is.
        died(str): it ended without being told to; the reason, in one line. The conversation still has its requests.

    Attributes:
        conversation: requests to the process.

    Args:
        command: what to start.
        makeEnvironment: makes its environment, a QProcessEnvironment; by default Slicer's own.

    Example:
        >>> place = readPlace(slicer.app.userSettings())
        >>> driver = ProcessDriver(place.command(), place.environment)
        >>> driver.start(m.LoadModel(id=0, name="nano"))
        >>> driver.conversation.predict(state, "Segment_1", 12, print)
    """

    def __init__(self, command: list[str], makeEnvironment: Callable[[], Any] | None = None) -> None:
        self.stateChanged = Signal()
        self.noticed = Signal()
        self.progressed = Signal()
        self.died = Signal()
        self.conversation = Conversation(
            _TRIES,
            on_output=self._write,
            on_progress=lambda progress: self.progressed.emit(progress),
            on_notice=lambda text: self.noticed.emit(text),
        )
        self._command = command
        self._makeEnvironment = makeEnvironment or qt.QProcessEnvironment.systemEnvironment
        self._process: Any = None
        self._state = STOPPED
        self._decoder: Decoder[Any] | None = None
        self._arrived: deque[Any] = deque()
        self._delivering = False
        self._stderr = ""

    @property
    def state(self) -> str:
        """Whether the process runs, see the module's constants."""
        return self._state

    @property
    def processId(self) -> int:
        """The process's identifier, 0 where none runs."""
        return 0 if self._process is None else int(self._process.processId())

    def start(self, *opening: m.Asked, onOpened: Callable[[Ticket], None] | None = None) -> None:
        """Start the process, unless it runs, and open the conversation with it; the pipe holds what is asked meanwhile.

        Args:
            opening: requests that come before all others; their identifiers are replaced.
            onOpened: see `Ticket.on_change`.
        """
        if self._state not in (STARTING, READY):
            self._startProcess()
        self._arrived.clear()
        hello = m.Hello(id=0, protocol=m.PROTOCOL, client=f"BioSAM2Slicer {__version__}")
        self.conversation.open(hello, *opening, on_change=onOpened)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        self._arrived.clear()
        self.conversation.interrupted()
        if process is not None and process.state() != qt.QProcess.NotRunning:
            # The worker ends at once when its input does. Killing is for one that does not: of Slicer's Python it ends
            # the launcher only, and the worker still holds its files when their deletion is tried.
            process.closeWriteChannel()
            if not process.waitForFinished(_END_TIMEOUT_MS):
                process.kill()
                process.waitForFinished(2000)
        self._become(STOPPED)

    # -- inside ---------------------------------------------------------------------------------

    def _startProcess(self) -> None:
        self._decoder = Decoder(m.Reply)
        self._stderr = ""
        process = self._process = qt.QProcess()
        process.setProcessEnvironment(withPackage(self._makeEnvironment()))
        # A process that was replaced may still have something to say; it is not heard.
        process.readyReadStandardOutput.connect(lambda: self._onOutput(process))
        process.readyReadStandardError.connect(lambda: self._onError(process))
        process.finished.connect(lambda *_code: self._onEnded(process, _("The worker ended unexpectedly")))
        process.errorOccurred.connect(lambda *_fault: self._onFault(process))
        self._become(STARTING)
        process.start(self._command[0], self._command[1:])

    def _become(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self.stateChanged.emit(state)

    def _write(self) -> None:
        for message in self.conversation.to_send():
            if self._process is not None:
                self._process.write(encode(message))

    def _onOutput(self, process: Any) -> None:
        if process is not self._process or self._decoder is None:
            return
        self._arrived.extend(self._decoder.feed(process.readAllStandardOutput().data()))
        self._deliverSoon()

    def _deliverSoon(self) -> None:
        # One message for each turn of the event loop, so that Slicer stays smooth when many come at once.
        if self._arrived and not self._delivering:
            self._delivering = True
            qt.QTimer.singleShot(0, self._deliver)

    def _deliver(self) -> None:
        self._delivering = False
        if not self._arrived:
            return
        reply = self._arrived.popleft()
        self._deliverSoon()
        if isinstance(reply, Refused):
            self._end(_("The worker's answer cannot be read: {why}").format(why=reply.reason))
            return
        if isinstance(reply, m.Welcome):
            self._become(READY)
        try:
            self.conversation.receive(reply)
        except ConnectionLostError as error:
            self._end(str(error))

    def _onError(self, process: Any) -> None:
        text = bytes(process.readAllStandardError().data()).decode("utf-8", "replace")
        if process is self._process:
            self._stderr = (self._stderr + text)[-_KEPT_STDERR:]

    def _onFault(self, process: Any) -> None:
        if process is self._process and process.state() == qt.QProcess.NotRunning:
            self._onEnded(process, _("The worker could not be started ({why})").format(why=process.errorString()))

    def _onEnded(self, process: Any, what: str) -> None:
        if process is self._process:
            self._onError(process)
            lines = [line for line in self._stderr.splitlines() if line.strip()]
            faults = [line for line in lines if "Error" in line]
            self._end(f"{what}: {faults[-1].strip()}" if faults else f"{what}.")

    def _end(self, why: str) -> None:
        process, self._process = self._process, None
        if process is not None and process.state() != qt.QProcess.NotRunning:
            process.kill()
        self._arrived.clear()
        if self._state != DEAD:
            self._become(DEAD)
            self.died.emit(why)
