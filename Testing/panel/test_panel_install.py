"""The first use: what is missing is said, and installed only when the user says so. pip itself is not run here."""

from __future__ import annotations

import sys

import pytest
from BioSAM2SlicerLib.InstallLogic import PACKAGES, InstallLogic
from BioSAM2SlicerLib.InstallPanel import InstallPanel
from host import event_loop


class Computer:
    """What is installed, and a process that stands for pip: a real one, which prints its command line."""

    def __init__(self, *there: str) -> None:
        import qt

        self.there = set(there)
        self.commands: list[list[str]] = []
        self.program = "print('Collecting', sys.argv[1:])"
        computer = self

        class Pip(qt.QProcess):
            def start(self, _python, arguments):
                computer.commands.append(arguments)
                super().start(sys.executable, ["-c", f"import sys; {computer.program}", *arguments])

        self.logic = InstallLogic(lambda name: name in self.there, self.torch, Pip, sys.executable)
        self.said: list[str] = []
        self.ends: list[tuple[bool, str]] = []
        self.logic.progress.connect(self.said.append)
        self.logic.finished.connect(lambda *end: self.ends.append(end))
        self.logic.finished.connect(lambda *_end: None)

    def torch(self) -> bool:
        self.there.add("torch")
        return True

    def install_all(self) -> None:
        self.there |= {package.module for package in PACKAGES}

    def settle(self) -> None:
        event_loop.wait_until(lambda: self.ends, what="pip")


EVERYTHING = tuple(package.module for package in PACKAGES)


def test_nothing_missing_is_nothing_to_do(host):
    assert Computer("torch", *EVERYTHING).logic.complete
    assert not Computer(*EVERYTHING).logic.complete


def test_it_says_what_and_how_big(host):
    text = Computer().logic.describe()
    assert "PyTorch" in text
    assert "rf-sam-2==1.0.3" in text
    assert "MB" in text
    assert "PyTorch" not in Computer("torch").logic.describe()


def test_torchvision_is_never_brought_along(host):
    computer = Computer()
    computer.logic.progress.connect(lambda *_line: computer.install_all())
    computer.logic.install()
    computer.settle()
    first, second = computer.commands
    assert "--no-deps" not in first
    assert second == ["-m", "pip", "install", "--no-deps", "rf-sam-2==1.0.3"]
    assert not any("torchvision" in argument for argument in first + second)
    assert computer.ends == [(True, "Everything is installed.")]


def test_only_what_is_missing_is_installed(host):
    computer = Computer("torch", *(name for name in EVERYTHING if name != "msgspec"))
    computer.logic.progress.connect(lambda *_line: computer.install_all())
    computer.logic.install()
    computer.settle()
    assert computer.commands == [["-m", "pip", "install", "msgspec"]]


def test_a_failure_says_pips_last_line(host):
    computer = Computer("torch")
    computer.program = "print('ERROR: no network'); sys.exit(1)"
    computer.logic.install()
    computer.settle()
    assert computer.ends == [(False, "pip could not install everything: ERROR: no network")]
    assert len(computer.commands) == 1


def test_cancelled_half_way_it_goes_on_the_next_time(host):
    computer = Computer("torch")
    computer.program = "print('Collecting', flush=True); sys.stdin.read()"
    computer.logic.install()
    event_loop.wait_until(lambda: computer.said)
    computer.logic.cancel()
    computer.settle()
    assert computer.ends[0][0] is False
    assert not computer.logic.running
    computer.ends.clear()
    computer.program = "print('Collecting')"
    computer.logic.progress.connect(lambda *_line: computer.install_all())
    computer.logic.install()
    computer.settle()
    assert computer.ends[0][0] is True


@pytest.mark.parametrize("how", ["declined", "no extension"])
def test_without_torch_nothing_else_is_installed(host, how):
    computer = Computer()

    def torch() -> bool:
        if how == "declined":
            return False
        raise RuntimeError("Install the extension PyTorch first (Extensions Manager), and restart Slicer.")

    computer.logic._installTorch = torch
    computer.logic.install()
    assert computer.ends[0][0] is False
    assert "PyTorch" in computer.ends[0][1]
    assert not computer.commands


def test_the_user_presses_install(host):
    import qt

    computer = Computer("torch")
    computer.logic.progress.connect(lambda *_line: computer.install_all())
    window = qt.QWidget()
    installed = []
    panel = InstallPanel(qt.QVBoxLayout(window), computer.logic, lambda: installed.append(True))
    assert not computer.commands
    window.findChild(qt.QPushButton, "install").click()
    assert not window.findChild(qt.QPushButton, "install").enabled
    computer.settle()
    assert installed == [True]
    panel.cleanup()
    window.deleteLater()
