"""What the panel needs and Slicer does not have: found out, described, and installed when the user says so."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import qt
from slicer.i18n import tr as _

from .Signal import Signal


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
    Package("rf-sam-2==1.0.3", "sam2", 2, alone=True),
)
PACKAGES = PANEL_PACKAGES + ENGINE_PACKAGES
# What writes DICOM SEG.
DICOM_PACKAGES = (Package("highdicom>=0.24", "highdicom", 10),)
_TORCH_MEGABYTES = 900


def _isThere(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class InstallLogic:
    """Installs into Slicer's own Python; nothing without being told to.

    Signals:
        progress(str): what pip says.
        finished(bool, str): whether everything is there now, and one line on it.

    Args:
        packages: what is needed.
        torch: whether PyTorch is needed too.
        isThere: says whether a module can be imported.
        installTorch: installs PyTorch as the PyTorch extension does; False when the user declined.
        makeProcess: makes the process in which pip runs.
        python: the interpreter that pip installs for.
    """

    def __init__(
        self,
        packages: Sequence[Package] = PACKAGES,
        torch: bool = True,
        isThere: Callable[[str], bool] = _isThere,
        installTorch: Callable[[], bool] | None = None,
        makeProcess: Callable[[], Any] | None = None,
        python: str = "",
    ) -> None:
        self.progress = Signal()
        self.finished = Signal()
        self._packages = packages
        self._torch = torch
        self._isThere = isThere
        self._installTorch = installTorch or installTorchByExtension
        self._makeProcess = makeProcess or qt.QProcess
        self._python = python or shutil.which("PythonSlicer") or sys.executable
        self._process: Any = None
        self._commands: list[list[str]] = []
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
        """Whether pip is at work."""
        return self._process is not None

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
        return _("This installs into Slicer: {parts}.").format(parts="; ".join(parts))

    def install(self) -> None:
        """Install what is missing: PyTorch in its extension's way, the rest while Slicer goes on."""
        if self.running:
            return
        self._cancelled = False
        if self._lacksTorch:
            try:
                if not self._installTorch():
                    self.finished.emit(False, _("PyTorch was not installed."))
                    return
            except (ImportError, RuntimeError) as error:
                self.finished.emit(False, str(error))
                return
        missing = self.missing()
        self._commands = [
            ["-m", "pip", "install", *(["--no-deps"] if alone else []), *requirements]
            for alone, requirements in (
                (False, [package.requirement for package in missing if not package.alone]),
                (True, [package.requirement for package in missing if package.alone]),
            )
            if requirements
        ]
        self._next()

    def cancel(self) -> None:
        """Stop; what is installed already stays, and the next time goes on from there."""
        self._cancelled = True
        if self._process is not None:
            self._process.kill()

    # -- inside ---------------------------------------------------------------------------------

    def _next(self) -> None:
        if not self._commands:
            self._end()
            return
        command = self._commands.pop(0)
        process = self._process = self._makeProcess()
        process.setProcessChannelMode(qt.QProcess.MergedChannels)
        process.readyReadStandardOutput.connect(lambda: self._onOutput(process))
        process.finished.connect(lambda *_arguments: self._onFinished(process))
        process.errorOccurred.connect(lambda *_arguments: self._onFault(process))
        process.start(self._python, command)

    def _onOutput(self, process: Any) -> None:
        text = bytes(process.readAllStandardOutput().data()).decode("utf-8", "replace")
        self._report(line.strip() for line in text.splitlines())

    def _report(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line:
                self._lastLine = line
                self.progress.emit(line)

    def _onFault(self, process: Any) -> None:
        # A process that never ran does not say that it has finished.
        if process is self._process and process.state() == qt.QProcess.NotRunning and not self._cancelled:
            self._process = None
            self.finished.emit(False, _("Python could not be started: {why}").format(why=process.errorString()))

    def _onFinished(self, process: Any) -> None:
        if process is not self._process:
            return
        self._process = None
        if self._cancelled:
            self.finished.emit(False, _("Stopped. Install again to go on from here."))
        elif process.exitCode() != 0:
            self.finished.emit(False, _("pip could not install everything: {line}").format(line=self._lastLine))
        else:
            self._next()

    def _end(self) -> None:
        importlib.invalidate_caches()
        missing = [package.requirement for package in self.missing()]
        if missing:
            self.finished.emit(False, _("Still missing: {names}. Restart Slicer.").format(names=", ".join(missing)))
        else:
            self.finished.emit(True, _("Everything is installed."))


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
