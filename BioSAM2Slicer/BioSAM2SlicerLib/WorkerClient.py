"""Talks with the worker process over its pipes, by what Qt signals; nothing here waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import qt
from biosam2 import __version__
from biosam2.service import messages as m
from biosam2.service.framing import Decoder, Refused, encode
from slicer.i18n import tr as _

from .Signal import Signal
from .Tether import withPackage

STOPPED, STARTING, READY, DEAD = "stopped", "starting", "ready", "dead"
_KEPT_STDERR = 4000
_PATIENCE_MS = 500


class WorkerClient:
    """One worker process and the questions that wait for its answers.

    Signals:
        stateChanged(state): one of the module's constants.
        noticed(str): something that the user should read.
        died(str): it ended without being told to; why, in one line. Open questions are forgotten.

    Args:
        command: what to start.
        makeEnvironment: makes its environment, a QProcessEnvironment; by default Slicer's own.

    Example:
        >>> place = readPlace(slicer.app.userSettings())
        >>> client = WorkerClient(place.command(), place.environment)
        >>> client.start()
        >>> client.ask(m.LoadModel, print, name="nano")
    """

    def __init__(self, command: list[str], makeEnvironment: Callable[[], Any] | None = None) -> None:
        self.stateChanged = Signal()
        self.noticed = Signal()
        self.died = Signal()
        self._command = command
        self._makeEnvironment = makeEnvironment or qt.QProcessEnvironment.systemEnvironment
        self._process: Any = None
        self._state = STOPPED
        self._nextId = 0
        self._handlers: dict[int, Callable[[Any], None]] = {}
        self._decoder: Decoder[Any] | None = None
        self._arrived: deque[Any] = deque()
        self._delivering = False
        self._stderr = ""

    @property
    def state(self) -> str:
        """Where the process stands."""
        return self._state

    @property
    def waiting(self) -> int:
        """How many questions are open."""
        return len(self._handlers)

    def start(self) -> None:
        """Start the process; what is asked meanwhile waits in its pipe."""
        if self._state in (STARTING, READY):
            return
        self._handlers.clear()
        self._arrived.clear()
        self._decoder = Decoder(m.Reply)
        self._stderr = ""
        process = self._process = qt.QProcess()
        process.setProcessEnvironment(withPackage(self._makeEnvironment()))
        # A process that was replaced may still have something to say; nobody listens to it.
        process.readyReadStandardOutput.connect(lambda: self._onOutput(process))
        process.readyReadStandardError.connect(lambda: self._onError(process))
        process.finished.connect(lambda *_code: self._onEnded(process, _("The worker ended unexpectedly")))
        process.errorOccurred.connect(lambda *_fault: self._onFault(process))
        self._become(STARTING)
        process.start(self._command[0], self._command[1:])
        self.ask(m.Hello, self._onWelcome, protocol=m.PROTOCOL, client=f"BioSAM2Slicer {__version__}")

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        self._handlers.clear()
        self._arrived.clear()
        if process is not None and process.state() != qt.QProcess.NotRunning:
            # The worker ends at once when its input does. Killing is for one that does not: of Slicer's Python it ends
            # the launcher only, and the worker still holds its files when their deletion is tried.
            process.closeWriteChannel()
            if not process.waitForFinished(_PATIENCE_MS):
                process.kill()
                process.waitForFinished(2000)
        self._become(STOPPED)

    def ask(self, kind: type, handler: Callable[[Any], None] | None = None, **fields: Any) -> int:
        """Send a request.

        Args:
            kind: the request's class in `biosam2.service.messages`.
            handler: called with every reply, the final answer last.
            fields: the request's fields but its id.

        Returns:
            The request's id.
        """
        self._nextId += 1
        if handler is not None:
            self._handlers[self._nextId] = handler
        if self._process is not None:
            self._process.write(encode(kind(id=self._nextId, **fields)))
        return self._nextId

    # -- inside ---------------------------------------------------------------------------------

    def _become(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self.stateChanged.emit(state)

    def _onWelcome(self, reply: Any) -> None:
        if isinstance(reply, m.Failure):
            self._end(reply.text)
        elif isinstance(reply, m.Welcome):
            self._become(READY)

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
        if isinstance(reply, m.Notice):
            self.noticed.emit(reply.text)
        elif isinstance(reply, Refused):
            self._end(_("The worker said something that cannot be understood: {why}").format(why=reply.reason))
        else:
            final = isinstance(reply, m.Answer)
            handler = self._handlers.pop(reply.id, None) if final else self._handlers.get(reply.id)
            if handler is not None:
                handler(reply)

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
        self._handlers.clear()
        self._arrived.clear()
        if self._state != DEAD:
            self._become(DEAD)
            self.died.emit(why)
