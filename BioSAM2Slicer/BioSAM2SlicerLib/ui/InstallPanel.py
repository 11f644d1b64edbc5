"""What is shown in the panel's place until it is said where the network runs, and what that needs is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import qt
from slicer.i18n import tr as _

from ..worker.ConnectionTest import ConnectionTest
from ..worker.InstallLogic import ENGINE_PACKAGES, PACKAGES, PANEL_PACKAGES, InstallLogic, slicersPip
from ..worker.WorkerPlace import HERE, PYTHON, SERVER, WorkerPlace
from .Controls import loadSection

# What the other environment must be able to import.
_MODULES = ("torch", *(package.module for package in PACKAGES), "numpy", "requests", "SimpleITK", "pydicom", "PIL")
_CHECK = (
    "import importlib.util as u, sys; "
    "m = [n for n in sys.argv[1:] if u.find_spec(n) is None]; "
    "print('Python', sys.version.split()[0], 'lacks ' + ', '.join(m) if m else 'has everything'); "
    "sys.exit(1 if m else 3 if sys.version_info < (3, 10) else 0)"
)


def logicFor(kind: str) -> InstallLogic:
    """What installs into Slicer what a place of that kind needs."""
    packages = PACKAGES if kind == HERE else PANEL_PACKAGES
    return InstallLogic(packages, torch=kind == HERE, pipInstall=slicersPip())


class InstallPanel:
    """Says what would be installed, offers another Python or a server instead, and does it when asked.

    Args:
        layout: where it is put.
        place: what was chosen before.
        makeLogic: makes what installs, for a kind of place.
        onReady: called with the place once everything is there.
        test: asks a server whether it can be used.
    """

    def __init__(
        self,
        layout: Any,
        place: WorkerPlace,
        onReady: Callable[[WorkerPlace], None],
        makeLogic: Callable[[str], InstallLogic] = logicFor,
        test: ConnectionTest | None = None,
    ) -> None:
        self._onReady = onReady
        self._test = test or ConnectionTest()
        self._logics = {kind: makeLogic(kind) for kind in (HERE, PYTHON, SERVER)}
        self._check: Any = None
        self._root, ui = loadSection("Install")
        self._choices = {HERE: ui.here, PYTHON: ui.python, SERVER: ui.server}
        self._texts = {HERE: ui.hereText, PYTHON: ui.pythonText, SERVER: ui.serverText}
        self._pythonEdit, self._browseButton = ui.pythonEdit, ui.browse
        self._serverEdit, self._keyEdit, self._testButton = ui.serverEdit, ui.keyEdit, ui.test
        self._installButton, self._cancelButton = ui.install, ui.cancel
        self._busyBar, self._line = ui.busy, ui.line
        self._busyBar.setRange(0, 0)
        self._pythonEdit.text, self._serverEdit.text, self._keyEdit.text = place.python, place.server, place.key
        for button, action in (
            (self._browseButton, self._onBrowse),
            (self._installButton, self._onInstall),
            (self._cancelButton, self._onCancel),
            (self._testButton, self._onTest),
        ):
            button.clicked.connect(lambda *_checked, action=action: action())
        layout.addWidget(self._root)
        self._choices[place.kind].checked = True
        for kind, logic in self._logics.items():
            self._choices[kind].toggled.connect(lambda *_arguments: self._refresh())
            logic.started.connect(self._refresh)
            logic.progress.connect(self._say)
            logic.finished.connect(self._onFinished)
        self._test.finished.connect(self._onTested)
        self._refresh()

    @property
    def place(self) -> WorkerPlace:
        """What is chosen now."""
        kind = next(kind for kind, button in self._choices.items() if button.checked)
        return WorkerPlace(
            kind, self._pythonEdit.text.strip(), self._serverEdit.text.strip().rstrip("/"), self._keyEdit.text.strip()
        )

    def cleanup(self) -> None:
        """Stop installing, and show nothing any more."""
        for logic in self._logics.values():
            logic.started.disconnect(self._refresh)
            logic.progress.disconnect(self._say)
            logic.finished.disconnect(self._onFinished)
            logic.cancel()
        self._endCheck()
        self._test.finished.disconnect(self._onTested)
        self._test.cancel()
        self._root.setParent(None)
        self._root.deleteLater()

    # -- what is seen ----------------------------------------------------------------------------

    def _refresh(self) -> None:
        kind = self.place.kind
        sent = {
            HERE: _("Nothing leaves this computer."),
            PYTHON: _("Nothing leaves this computer. That environment is not changed."),
            SERVER: _(
                "Voxels, geometry, prompts and the names of segments go to that machine; no patient's name, no DICOM "
                "headers."
            ),
        }
        for which, label in self._texts.items():
            label.text = f"{self._logics[which].describe()} {sent[which]}"
        working = self._check is not None or self._test.running or any(logic.running for logic in self._logics.values())
        self._installButton.text = _("Continue") if self._logics[kind].complete else _("Install and continue")
        self._installButton.enabled = not working
        self._cancelButton.enabled = working
        self._busyBar.visible = working
        for button in self._choices.values():
            button.enabled = not working
        for widget, where in (
            (self._pythonEdit, PYTHON),
            (self._browseButton, PYTHON),
            (self._serverEdit, SERVER),
            (self._keyEdit, SERVER),
            (self._testButton, SERVER),
        ):
            widget.enabled = kind == where and not working

    def _say(self, text: str) -> None:
        self._line.text = text

    # -- what the user does ----------------------------------------------------------------------

    def _onBrowse(self) -> None:
        chosen = qt.QFileDialog.getOpenFileName(self._root, _("Python of the environment"), self._pythonEdit.text)
        if chosen:
            self._pythonEdit.text = chosen

    def _onInstall(self) -> None:
        place = self.place
        if place.kind == SERVER and not self._hasAddress(place):
            return
        if place.kind == PYTHON:
            self._startCheck(place)
        else:
            self._install()

    def _hasAddress(self, place: WorkerPlace) -> bool:
        address = urlsplit(place.server)
        if address.scheme in ("http", "https") and address.hostname:
            return True
        self._say(_("Give the server's address, beginning with https:// or http://."))
        return False

    def _onTest(self) -> None:
        place = self.place
        if self._hasAddress(place):
            self._test.start(place)
            self._say(_("Connecting to {url} …").format(url=place.server))
            self._refresh()

    def _onTested(self, _ok: bool, text: str) -> None:
        self._say(text)
        self._refresh()

    def _install(self) -> None:
        self._logics[self.place.kind].install()

    def _onCancel(self) -> None:
        self._endCheck()
        if self._test.running:
            self._test.cancel()
            self._say(_("Stopped."))
        for logic in self._logics.values():
            logic.cancel()
        self._refresh()

    def _onFinished(self, complete: bool, text: str) -> None:
        self._say(text)
        self._refresh()
        if complete:
            self._onReady(self.place)

    # -- the other environment -------------------------------------------------------------------

    def _startCheck(self, place: WorkerPlace) -> None:
        """Ask that Python what it has; it takes seconds where a disk is slow."""
        if not place.python:
            self._say(_("Give the path of the environment's Python."))
            return
        process = self._check = qt.QProcess()
        process.setProcessEnvironment(place.environment())
        process.setProcessChannelMode(qt.QProcess.MergedChannels)
        process.finished.connect(lambda *_arguments: self._onChecked(process))
        process.errorOccurred.connect(lambda *_arguments: self._onFault(process))
        process.start(place.python, ["-c", _CHECK, *_MODULES])
        self._say(_("Checking the environment …"))
        self._refresh()

    def _onChecked(self, process: Any) -> None:
        if process is not self._check:
            return
        self._check = None
        said = bytes(process.readAllStandardOutput().data()).decode("utf-8", "replace").strip()
        if process.exitCode() == 0:
            self._install()
        elif process.exitCode() == 3:
            self._say(_("{found}, but it is older than Python 3.10.").format(found=said))
        else:
            needed = " ".join(f'"{package.requirement}"' for package in ENGINE_PACKAGES)
            last = said.splitlines()[-1] if said else _("It ended at once")
            self._say(_("{found}. It needs: torch {needed}").format(found=last, needed=needed))
        self._refresh()

    def _onFault(self, process: Any) -> None:
        # A process that never ran does not say that it has finished.
        if process is self._check and process.state() == qt.QProcess.NotRunning:
            self._check = None
            self._say(_("This Python cannot be started: {why}").format(why=process.errorString()))
            self._refresh()

    def _endCheck(self) -> None:
        process, self._check = self._check, None
        if process is not None:
            process.kill()
            process.waitForFinished(2000)
