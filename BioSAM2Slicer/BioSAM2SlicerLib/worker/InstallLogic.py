"""What the panel needs and Slicer does not have: found out, described, and installed when the user says so."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..Signal import Signal
from .Tether import endModule, startModule


@dataclass(frozen=True)
class Package:
    """A distribution that pip can install.

    Attributes:
        requirement: for pip.
        module: what it makes importable.
        megabytes: roughly what it takes on disk.
        alone: whether what it declares stays out: torchvision, which nothing here needs, and which breaks easily.
    """

    requirement: str
    module: str
    megabytes: int
    alone: bool = False

    @property
    def name(self) -> str:
        """The distribution's name, without versions."""
        return re.split("[<>=]", self.requirement)[0]


# What the panel itself needs, wherever the network runs.
PANEL_PACKAGES = (
    Package("msgspec>=0.19", "msgspec", 1),
    Package("filelock>=3.12", "filelock", 1),
    Package("platformdirs>=4", "platformdirs", 1),
    Package("psutil>=5.9", "psutil", 1),
)
# What the network needs beside PyTorch.
ENGINE_PACKAGES = (
    Package("hydra-core>=1.3.2", "hydra", 1),
    Package("omegaconf>=2.3", "omegaconf", 1),
    Package("safetensors>=0.4", "safetensors", 2),
    Package("iopath>=0.1.10", "iopath", 1),
    Package("tqdm", "tqdm", 1),
    Package("rf-sam-2>=1.0.3,<2", "sam2", 2, alone=True),
)
PACKAGES = PANEL_PACKAGES + ENGINE_PACKAGES
# What writes DICOM SEG. Slicer brings a pydicom of its own, in 5.10 one of version 2, which lacks this module.
DICOM_PACKAGES = (Package("pydicom>=3.0.1", "pydicom.pixels", 10), Package("highdicom>=0.24", "highdicom", 10))
# What writes a video's overlay.
VIDEO_PACKAGES = (Package("av>=13", "av", 105),)
_TORCH_MEGABYTES = 900
# What pip takes after ==.
_PLAIN_VERSION = re.compile(r"[0-9A-Za-z.!+_-]+")


def _isThere(module: str) -> bool:
    # The package that holds it is not imported, as find_spec would: pip may be about to replace it.
    package, _dot, inner = module.partition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not inner:
        return spec is not None
    return PathFinder.find_spec(module, spec.submodule_search_locations) is not None


def installedVersion(name: str) -> str:
    """Of a distribution, as it lies on disk; empty where there is none."""
    try:
        return importlib.metadata.version(name)
    except PackageNotFoundError:
        return ""


def installedVersions() -> dict[str, str]:
    """All distributions of this Python, by name."""
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return {name: version for name, version in found.items() if name and version}


def slicersPip() -> Callable[..., Any] | None:
    """`slicer.packaging.pip_install`, the way of Slicer 5.12 and later; None before.

    Not `pip_ensure`: it asks once more what the user has answered here, and stands still until pip has ended.
    """
    try:
        from slicer.packaging import pip_install
    except ImportError:
        return None
    return pip_install


class InstallLogic:
    """Installs into Slicer's own Python; nothing without being told to.

    What Slicer brings stays at its version: pip is given all that is installed as constraints, but for packages that
    are asked for and replace an older one, which `describe` says.

    Signals:
        started(): it is at work.
        progress(str): what pip says.
        finished(bool, str): whether everything is there now, and one line on it.

    Args:
        packages: what is needed.
        torch: whether PyTorch is needed too.
        isThere: says whether a module can be imported.
        installTorch: installs PyTorch as the PyTorch extension does; False when the user declined.
        makeProcess: makes the process in which pip runs.
        python: the interpreter that pip installs for.
        versionOf: says which version of a distribution is there, see `installedVersion`.
        pipInstall: installs in Slicer's way, see `slicersPip`; None runs pip in a process.
        installed: gives what is there, see `installedVersions`.
    """

    def __init__(
        self,
        packages: Sequence[Package] = PACKAGES,
        torch: bool = True,
        isThere: Callable[[str], bool] = _isThere,
        installTorch: Callable[[], bool] | None = None,
        makeProcess: Callable[[], Any] | None = None,
        python: str = "",
        versionOf: Callable[[str], str] = installedVersion,
        pipInstall: Callable[..., Any] | None = None,
        installed: Callable[[], dict[str, str]] = installedVersions,
    ) -> None:
        self.started = Signal()
        self.progress = Signal()
        self.finished = Signal()
        self._packages = packages
        self._torch = torch
        self._isThere = isThere
        self._installTorch = installTorch or installTorchByExtension
        self._makeProcess = makeProcess or qt.QProcess
        self._python = python or shutil.which("PythonSlicer") or sys.executable
        self._versionOf = versionOf
        self._pipInstall = pipInstall
        self._installed = installed
        self._constraints: Path | None = None
        self._process: Any = None
        self._commands: list[list[str]] = []
        self._running = False
        self._cancelled = False
        self._lastLine = ""

    def missing(self) -> list[Package]:
        """Packages that are not there, PyTorch aside."""
        return [package for package in self._packages if not self._isThere(package.module)]

    @property
    def complete(self) -> bool:
        """Whether nothing has to be installed."""
        return not self._lacksTorch and not self.missing()

    @property
    def _lacksTorch(self) -> bool:
        return self._torch and not self._isThere("torch")

    @property
    def running(self) -> bool:
        """Whether something is being installed."""
        return self._running

    def describe(self) -> str:
        """What would be installed, and how big it is."""
        missing = self.missing()
        parts = []
        if self._lacksTorch:
            parts.append(
                _("PyTorch, by the extension of that name: {size} MB, several times that with CUDA").format(
                    size=_TORCH_MEGABYTES
                )
            )
        if missing:
            parts.append(
                _("small packages, {size} MB: {names}").format(
                    size=sum(package.megabytes for package in missing),
                    names=", ".join(package.name for package in missing),
                )
            )
        if not parts:
            return _("Nothing has to be installed.")
        text = _("This installs into Slicer: {parts}.").format(parts="; ".join(parts))
        replaced = [f"{package.name} {version}" for package in missing if (version := self._versionOf(package.name))]
        if replaced:
            text += " " + _("Slicer's own {names} is replaced by a newer version; restart Slicer afterwards.").format(
                names=", ".join(replaced)
            )
        return text

    def install(self) -> None:
        """Install what is missing: PyTorch in its extension's way, the rest while Slicer goes on."""
        if self.running:
            return
        self._running, self._cancelled = True, False
        self.started.emit()
        if self._lacksTorch:
            self.progress.emit(_("Installing PyTorch …"))
            # That takes long and comes back to the event loop only at times: first what was said is shown.
            qt.QTimer.singleShot(0, self._addTorch)
        else:
            self._addPackages()

    def cancel(self) -> None:
        """Stop; what is installed already stays, and the next time goes on from there."""
        if not self.running or self._cancelled:
            return
        self._cancelled = True
        if self._process is not None:
            self.progress.emit(_("Stopping …"))
            endModule(self._process)
        else:
            self.progress.emit(_("This installation cannot be stopped; after it, nothing more is installed."))

    # -- inside ---------------------------------------------------------------------------------

    def _addTorch(self) -> None:
        if not self._cancelled:
            try:
                if not self._installTorch():
                    self._finish(False, _("PyTorch was not installed."))
                    return
            except Exception as error:  # noqa: BLE001 - another extension's code, which raises what it likes
                why = " ".join(str(error).split())
                self._finish(False, _("PyTorch was not installed: {why}").format(why=why))
                return
        if self._cancelled:
            self._finish(False, _("Stopped. Install again to continue from here."))
        else:
            self._addPackages()

    def _addPackages(self) -> None:
        missing = self.missing()
        self._commands = [
            [*(["--no-deps"] if alone else []), *requirements]
            for alone, requirements in (
                (False, [package.requirement for package in missing if not package.alone]),
                (True, [package.requirement for package in missing if package.alone]),
            )
            if requirements
        ]
        self._constraints = self._writeConstraints({_canonical(package.name) for package in missing})
        self._next()

    def _writeConstraints(self, asked: set[str]) -> Path:
        """Everything that is there stays as it is, unless it is asked for."""
        lines = [
            f"{name}=={version}\n"
            for name, version in sorted(self._installed().items())
            if _canonical(name) not in asked and _PLAIN_VERSION.fullmatch(version)
        ]
        with tempfile.NamedTemporaryFile(
            "w", dir=slicer.app.temporaryPath, prefix="biosam2-constraints-", suffix=".txt", delete=False
        ) as file:
            file.writelines(lines)
        return Path(file.name)

    def _next(self) -> None:
        if not self._commands:
            self._end()
            return
        arguments = self._commands.pop(0)
        if self._pipInstall is not None:
            self._installInSlicersWay(arguments)
            return
        process = self._process = self._makeProcess()
        process.setProcessChannelMode(qt.QProcess.MergedChannels)
        process.readyReadStandardOutput.connect(lambda: self._onOutput(process))
        process.finished.connect(lambda *_arguments: self._onFinished(process))
        process.errorOccurred.connect(lambda *_arguments: self._onFault(process))
        startModule(process, self._python, "pip", ["install", "-c", str(self._constraints), *arguments])

    def _installInSlicersWay(self, arguments: list[str]) -> None:
        ended: list[int] = []

        def onEnd(code: int) -> None:
            ended.append(code)
            self._onPipEnded(code)

        assert self._pipInstall is not None
        try:
            self._pipInstall(
                arguments,
                constraints=str(self._constraints),
                blocking=False,
                requester="BioSAM2Slicer",
                logCallback=self._reportLine,
                completedCallback=onEnd,
            )
        except Exception as error:  # noqa: BLE001 - of Slicer's own code or of pip, which raise what they like
            why = " ".join(str(error).split())
            self._finish(False, _("pip could not install everything: {line}").format(line=why))
            return
        # Slicer under test waits for pip and calls nobody.
        if slicer.app.testingEnabled() and not ended:
            onEnd(0)

    def _onOutput(self, process: Any) -> None:
        while process.canReadLine():
            self._report(process.readLine())

    def _report(self, said: Any) -> None:
        self._reportLine(bytes(said.data()).decode("utf-8", "replace"))

    def _reportLine(self, line: str) -> None:
        line = line.strip()
        if line:
            self._lastLine = line
            if not self._cancelled:
                self.progress.emit(line)

    def _onFault(self, process: Any) -> None:
        # A process that never ran does not say that it has finished.
        if process is self._process and process.state() == qt.QProcess.NotRunning and not self._cancelled:
            self._process = None
            self._finish(False, _("Python could not be started: {why}").format(why=process.errorString()))

    def _onFinished(self, process: Any) -> None:
        if process is not self._process:
            return
        self._onOutput(process)
        self._report(process.readAll())
        self._process = None
        self._onPipEnded(process.exitCode())

    def _onPipEnded(self, code: int) -> None:
        if self._cancelled:
            self._finish(False, _("Stopped. Install again to continue from here."))
        elif code != 0:
            self._finish(False, _("pip could not install everything: {line}").format(line=self._lastLine))
        else:
            self._next()

    def _end(self) -> None:
        importlib.invalidate_caches()
        missing = [package.requirement for package in self.missing()]
        if missing:
            self._finish(False, _("Still missing: {names}. Restart Slicer.").format(names=", ".join(missing)))
        else:
            self._finish(True, _("Everything is installed."))

    def _finish(self, complete: bool, text: str) -> None:
        self._running = False
        if self._constraints is not None:
            self._constraints.unlink(missing_ok=True)
            self._constraints = None
        self.finished.emit(complete, text)


def _canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub("[-_.]+", "-", name).lower()


def installTorchByExtension() -> bool:
    """Let the PyTorch extension choose and install the build that fits this computer; False if the user declined.

    Raises:
        RuntimeError: the extension is not there.
    """
    try:
        import PyTorchUtils
    except ImportError:
        raise RuntimeError(_("Install the extension PyTorch first (Extensions Manager), and restart Slicer.")) from None
    return (
        PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=">=2.5.1")
        is not None
    )
