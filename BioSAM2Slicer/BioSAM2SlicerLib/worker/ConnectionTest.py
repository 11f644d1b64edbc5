"""Whether a server can be used, asked in a process of its own so that Slicer does not wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ..Signal import Signal
from .Tether import endModule, startModule
from .WorkerPlace import WorkerPlace

# To start Python, beyond what the server is given.
_STARTING_S = 20.0


class ConnectionTest:
    """Asks a server by the client's own way: the same key, certificates and proxies.

    Signals:
        finished(ok, text): whether it can be used, and one line for the user.

    Args:
        seconds: that the server may take.
        makeProcess: makes the process.

    Example:
        >>> test = ConnectionTest()
        >>> test.finished.connect(print)
        >>> test.start(WorkerPlace(SERVER, server="https://gpu.example.org:8080"))
    """

    def __init__(self, seconds: float = 10.0, makeProcess: Callable[[], Any] | None = None) -> None:
        self.finished = Signal()
        self._seconds = seconds
        self._makeProcess = makeProcess or qt.QProcess
        self._process: Any = None
        self._url = ""
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._onTimeOut)

    @property
    def running(self) -> bool:
        """Whether an answer is awaited."""
        return self._process is not None

    def start(self, place: WorkerPlace) -> None:
        """Ask; an earlier question is forgotten."""
        self.cancel()
        self._url = place.server
        process = self._process = self._makeProcess()
        process.setProcessEnvironment(place.moduleEnvironment())
        process.finished.connect(lambda *_arguments: self._onFinished(process))
        process.errorOccurred.connect(lambda *_arguments: self._onFault(process))
        startModule(process, place.interpreter(), "biosam2.service.probe", [place.server, str(self._seconds)])
        self._timer.start(int(1000 * (self._seconds + _STARTING_S)))

    def cancel(self) -> None:
        """Ask no longer."""
        process, self._process = self._process, None
        self._timer.stop()
        if process is not None:
            endModule(process)

    # -- inside ---------------------------------------------------------------------------------

    def _onFault(self, process: Any) -> None:
        # A process that never ran does not say that it has finished.
        if process is self._process and process.state() == qt.QProcess.NotRunning:
            self._end(False, _("Python could not be started: {why}").format(why=process.errorString()))

    def _onTimeOut(self) -> None:
        process = self._process
        if process is not None:
            self._end(False, _slow(self._url, self._seconds))
            endModule(process)

    def _onFinished(self, process: Any) -> None:
        if process is not self._process:
            return
        lines = bytes(process.readAllStandardOutput().data()).decode("utf-8", "replace").splitlines()
        try:
            found = json.loads(lines[-1])
        except (IndexError, ValueError):
            said = bytes(process.readAllStandardError().data()).decode("utf-8", "replace").strip()
            why = said.splitlines()[-1] if said else _("it ended without an answer")
            self._end(False, _("The connection could not be tested: {why}").format(why=why))
            return
        self._end(found["outcome"] == "ok", describe(self._url, found))
        process.deleteLater()

    def _end(self, ok: bool, text: str) -> None:
        self._process = None
        self._timer.stop()
        self.finished.emit(ok, text)


def describe(url: str, found: dict[str, Any]) -> str:
    """What `biosam2.service.probe` found, as one line for the user."""
    outcome = found["outcome"]
    if outcome == "ok":
        models = ", ".join(f"{model['name']} ({model['device']})" for model in found["models"])
        text = _("The server can be used: BioSAM-2 {version}, models: {models}.").format(
            version=found["biosam2"], models=models
        )
        if found["sessions"] >= found["most_sessions"]:
            text += " " + _("All of its {most} sessions are taken now; try again later.").format(
                most=found["most_sessions"]
            )
        return text
    if outcome == "key":
        if found["given"]:
            return _("The server does not accept this key; ask its administrator.")
        return _("The server requires a key; ask its administrator.")
    if outcome == "version":
        return _(
            "The server uses protocol {protocol} (BioSAM-2 {version}), this extension {expected} ({own}): "
            "the same version is needed on both sides."
        ).format(protocol=found["protocol"], version=found["biosam2"], expected=found["expected"], own=found["own"])
    if outcome == "slow":
        return _slow(url, found["seconds"])
    texts = {
        "unreachable": _("There is no answer from {url}. Check that the server runs, and check firewall and proxy."),
        "certificate": _("The certificate of {url} is not trusted; REQUESTS_CA_BUNDLE may name one that is."),
        "address": _("{url} is not a server's address; an address looks like https://gpu.example.org:8080."),
        "other": _("{url} answers, but is not a BioSAM-2 server; check the address and its port."),
    }
    return f"{texts[outcome].format(url=url)} ({found['why']})"


def _slow(url: str, seconds: float) -> str:
    return _("{url} was reached, but did not answer within {seconds:.0f} s; it may be overloaded.").format(
        url=url, seconds=seconds
    )
