"""The first use: what is missing is said, and installed only when the user says so. pip itself is not run here."""

from __future__ import annotations

import ast
import importlib
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from BioSAM2SlicerLib.ui.InstallPanel import InstallPanel
from BioSAM2SlicerLib.worker.InstallLogic import (
    DICOM_PACKAGES,
    PACKAGES,
    PANEL_PACKAGES,
    InstallLogic,
    Package,
    slicersPip,
)
from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver
from BioSAM2SlicerLib.worker.WorkerPlace import HERE, PYTHON, SERVER, WorkerPlace, readPlace, writePlace
from host import event_loop, packaging
from launcher import lifeline, python_slicer  # noqa: F401 - fixtures
from PySide6 import QtWidgets


class Computer:
    """What is installed, and a process that stands for pip: a real one, which prints its command line."""

    def __init__(self, *there: str) -> None:
        import qt

        self.there = set(there)
        self.versions: dict[str, str] = {}
        self.commands: list[list[str]] = []
        self.constraints: list[list[str]] = []
        self.program = "print('Collecting', sys.argv[1:])"
        computer = self

        class Pip(qt.QProcess):
            def start(self, _python, arguments):
                assert arguments[1:4] == ["pip", "install", "-c"]
                computer.constraints.append(Path(arguments[4]).read_text(encoding="utf-8").splitlines())
                computer.commands.append(["pip", "install", *arguments[5:]])
                super().start(sys.executable, ["-c", f"import sys; {computer.program}", *arguments])

        self.process = Pip
        self.said: list[str] = []
        self.ends: list[tuple[bool, str]] = []
        self.logic = self.make(PACKAGES, True)

    def make(self, packages, torch) -> InstallLogic:
        logic = InstallLogic(
            packages,
            torch,
            lambda name: name in self.there,
            lambda: self.torch(),
            self.process,
            sys.executable,
            lambda name: self.versions.get(name, ""),
        )
        logic.progress.connect(self.said.append)
        logic.finished.connect(lambda *end: self.ends.append(end))
        return logic

    def make_for(self, kind) -> InstallLogic:
        return self.make(PACKAGES, True) if kind == HERE else self.make(PANEL_PACKAGES, False)

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
    assert "PyTorch, by the extension of that name: 900 MB" in text
    assert "rf-sam-2" in text
    assert "MB" in text
    assert "PyTorch" not in Computer("torch").logic.describe()


def test_torchvision_is_never_brought_along(host):
    computer = Computer()
    computer.logic.progress.connect(lambda *_line: computer.commands and computer.install_all())
    computer.logic.install()
    computer.settle()
    first, second = computer.commands
    assert "--no-deps" not in first
    assert second == ["pip", "install", "--no-deps", "rf-sam-2>=1.0.3,<2"]
    assert not any("torchvision" in argument for argument in first + second)
    assert computer.ends == [(True, "Everything is installed.")]


def test_only_what_is_missing_is_installed(host):
    computer = Computer("torch", *(name for name in EVERYTHING if name != "msgspec"))
    computer.logic.progress.connect(lambda *_line: computer.install_all())
    computer.logic.install()
    computer.settle()
    assert computer.commands == [["pip", "install", "msgspec>=0.19"]]


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

    computer.torch = torch
    computer.logic.install()
    computer.settle()
    assert computer.ends[0][0] is False
    assert "PyTorch" in computer.ends[0][1]
    assert not computer.commands


def test_dicom_seg_asks_for_its_own_package_only(host):
    computer = Computer("torch", *EVERYTHING)
    logic = computer.make(DICOM_PACKAGES, False)
    assert "highdicom" in logic.describe()
    assert "PyTorch" not in logic.describe()
    logic.progress.connect(lambda *_line: computer.there.update({"highdicom", "pydicom.pixels"}))
    logic.install()
    computer.settle()
    assert computer.commands == [["pip", "install", "pydicom>=3.0.1", "highdicom>=0.24"]]


def test_replacing_slicers_own_pydicom_is_said_before(host):
    computer = Computer("torch", *EVERYTHING)
    logic = computer.make(DICOM_PACKAGES, False)
    assert "replaced" not in logic.describe()
    computer.versions["pydicom"] = "2.4.4"
    assert "Slicer's own pydicom 2.4.4 is replaced by a newer version; restart Slicer" in logic.describe()
    # One that is new enough stays.
    computer.there.add("pydicom.pixels")
    assert "pydicom" not in logic.describe()


def test_what_is_there_is_found_out_without_importing_it(host, tmp_path, monkeypatch):
    """What is imported stays at work when pip replaces it."""
    (tmp_path / "olddicom").mkdir()
    (tmp_path / "olddicom" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    inner, outer, none = (Package(name, name, 1) for name in ("olddicom.pixels", "olddicom", "nodicom.pixels"))
    logic = InstallLogic([inner, outer, none], torch=False)
    assert logic.missing() == [inner, none]
    (tmp_path / "olddicom" / "pixels.py").touch()
    importlib.invalidate_caches()
    assert logic.missing() == [none]
    assert "olddicom" not in sys.modules


def test_a_fault_of_pytorchs_installation_is_one_line(first_use):
    use = first_use()

    def torch():
        raise subprocess.CalledProcessError(1, ["PythonSlicer", "-m", "pip", "install", "torch"])

    use.computer.torch = torch
    use.press()
    use.computer.settle()
    assert "PyTorch was not installed: Command" in use.find("line").text
    assert "\n" not in use.find("line").text
    assert use.find("install").enabled
    assert not use.computer.commands


def test_pytorch_is_installed_once_however_often_one_presses(first_use):
    """The PyTorch extension lets the event loop run for each line of pip's."""
    use = first_use(*EVERYTHING)
    seen = []

    def torch():
        seen.append((use.find("line").text, use.find("install").enabled, use.find("cancel").enabled))
        use.press()
        use.panel._logics[HERE].install()
        event_loop.process_events()
        use.computer.there.add("torch")
        return True

    use.computer.torch = torch
    use.press()
    # Shown before the long wait begins.
    assert not seen
    assert use.find("line").text == "Installing PyTorch …"
    use.computer.settle()
    assert seen == [("Installing PyTorch …", False, True)]
    assert use.ready == [WorkerPlace(HERE)]


def test_cancelled_while_pytorch_is_installed_nothing_more_is(first_use):
    use = first_use()

    def torch():
        use.press("cancel")
        use.computer.there.add("torch")
        return True

    use.computer.torch = torch
    use.press()
    use.computer.settle()
    assert "Stopped" in use.find("line").text
    assert not use.computer.commands
    assert use.find("install").enabled


PIP = """
import os, subprocess, sys, threading
print("Collecting", *sys.argv[1:], flush=True)
if "LIFELINE" not in os.environ:
    sys.exit("ERROR: no network")
held = os.open(os.environ["LIFELINE"], os.O_WRONLY)
subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"], pass_fds=[held])
print("Building", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def long_pip(tmp_path, monkeypatch):
    """A pip that builds something, and never ends; without a lifeline it fails at once."""
    package = tmp_path / "packages" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PIP)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


def test_cancelled_pip_is_gone_with_all_it_started(host, python_slicer, lifeline, long_pip, monkeypatch):  # noqa: F811
    monkeypatch.setenv("LIFELINE", str(lifeline.path))
    said, ends = [], []
    logic = InstallLogic([Package("nothing==1", "nothing", 1)], torch=False)
    logic.progress.connect(said.append)
    logic.finished.connect(lambda *end: ends.append(end))
    logic.install()
    event_loop.wait_until(lambda: "Building" in said, what="pip")
    assert said[0].startswith("Collecting install -c ")
    assert said[0].endswith(" nothing==1")
    assert said[1:] == ["Building"]
    logic.cancel()
    assert logic.running
    event_loop.wait_until(lambda: ends, what="the launcher's end")
    assert ends == [(False, "Stopped. Install again to continue from here.")]
    assert not logic.running
    assert lifeline.is_cut()


def test_pips_own_failure_comes_through_the_launcher(host, python_slicer, long_pip):  # noqa: F811
    ends = []
    logic = InstallLogic([Package("nothing==1", "nothing", 1)], torch=False)
    logic.finished.connect(lambda *end: ends.append(end))
    logic.install()
    event_loop.wait_until(lambda: ends, what="pip")
    assert ends == [(False, "pip could not install everything: ERROR: no network")]


def test_what_runs_pip_needs_nothing_that_is_installed(host):
    from BioSAM2SlicerLib.worker import Tether

    # Without site-packages.
    command = [sys.executable, "-I", "-S", Tether._SCRIPT, "platform"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.wait(60) == 0


def test_pip_ends_with_slicer(host, lifeline, long_pip, monkeypatch):  # noqa: F811
    """However that ends: all that is left of it is a pipe that was closed."""
    from BioSAM2SlicerLib.worker import Tether

    monkeypatch.setenv("LIFELINE", str(lifeline.path))
    command = [sys.executable, Tether._SCRIPT, "pip", "install", "nothing"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert [process.stdout.readline().strip() for _line in range(2)] == [b"Collecting install nothing", b"Building"]
        process.stdin.close()
        assert lifeline.is_cut()


def test_the_first_use_itself_needs_nothing_that_slicer_lacks():
    """Imported before anything is installed: Slicer's and Python's own modules only, and each other."""
    import BioSAM2Slicer

    library = Path(BioSAM2Slicer.__file__).parent / "BioSAM2SlicerLib"
    waiting, seen = [library / "ui/InstallPanel.py", library / "worker/WorkerPlace.py"], set()
    waiting.append(library / "ui/SampleVolume.py")
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = path.parents[node.level - 1]
                imported = folder.joinpath(*node.module.split(".")).with_suffix(".py")
                waiting += [] if imported in seen else [imported]
            elif isinstance(node, ast.Import | ast.ImportFrom):
                imported = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                top = imported.partition(".")[0]
                assert top in {"qt", "ctk", "vtk", "slicer", "numpy"} | sys.stdlib_module_names, f"{path.name}: {top}"


class FirstUse:
    """The panel that asks where the network runs, in a window."""

    def __init__(self, computer, place=None):
        import qt

        self.computer = computer
        self.window = qt.QWidget()
        self.ready: list[WorkerPlace] = []
        self.panel = InstallPanel(
            qt.QVBoxLayout(self.window), place or WorkerPlace(), self.ready.append, computer.make_for
        )

    def find(self, name):
        found = self.window.findChild(QtWidgets.QWidget, name)
        assert found is not None, name
        return found

    def press(self, name="install"):
        self.find(name).click()


@pytest.fixture
def first_use(host):
    made = []

    def make(*there, place=None):
        made.append(FirstUse(Computer(*there), place))
        return made[-1]

    yield make
    for one in made:
        one.panel.cleanup()
        one.window.deleteLater()


def test_the_user_presses_install(first_use):
    use = first_use("torch")
    assert not use.computer.commands
    assert "small packages" in use.find("hereText").text
    for logic in use.panel._logics.values():
        logic.progress.connect(lambda *_line: use.computer.install_all())
    use.press()
    assert not use.find("install").enabled
    assert use.find("cancel").enabled
    use.computer.settle()
    assert use.ready == [WorkerPlace(HERE)]


def test_a_server_needs_nothing_heavy(first_use):
    use = first_use()
    assert "PyTorch" in use.find("hereText").text
    text = use.find("serverText").text
    assert "PyTorch" not in text
    assert "rf-sam-2" not in text
    assert "Voxels" in text
    use.find("server").click()
    use.find("serverEdit").text = "gpu.example.org"
    use.press()
    assert "https://" in use.find("line").text
    assert not use.computer.commands
    use.find("serverEdit").text = "https://gpu.example.org:8080/"
    use.find("keyEdit").text = "secret"
    for logic in use.panel._logics.values():
        logic.progress.connect(lambda *_line: use.computer.there.update(p.module for p in PANEL_PACKAGES))
    use.press()
    use.computer.settle()
    (command,) = use.computer.commands
    assert command[2:] == [package.requirement for package in PANEL_PACKAGES]
    assert use.ready == [WorkerPlace(SERVER, "", "https://gpu.example.org:8080", "secret")]


def test_another_environment_is_looked_at_before_it_is_taken(first_use, tmp_path):
    use = first_use(*(package.module for package in PANEL_PACKAGES))
    use.find("python").click()
    assert use.find("install").text == "Continue"
    use.press()
    assert "path" in use.find("line").text
    use.find("pythonEdit").text = str(tmp_path / "none")
    use.press()
    event_loop.wait_until(lambda: "cannot be started" in use.find("line").text)
    assert use.find("install").enabled
    use.find("pythonEdit").text = sys.executable
    use.press()
    assert use.find("cancel").enabled
    event_loop.wait_until(lambda: use.ready)
    assert use.ready == [WorkerPlace(PYTHON, sys.executable)]
    assert not use.computer.commands


def test_an_environment_that_lacks_something_says_what(first_use, tmp_path):
    use = first_use(*(package.module for package in PANEL_PACKAGES))
    python = tmp_path / "python"
    # -S: without the site-packages in which everything is.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    use.find("python").click()
    use.find("pythonEdit").text = str(python)
    use.press()
    event_loop.wait_until(lambda: "lacks" in use.find("line").text)
    assert "torch" in use.find("line").text
    assert not use.ready
    assert use.find("install").enabled


def test_looking_can_be_cancelled(first_use, tmp_path):
    use = first_use(*(package.module for package in PANEL_PACKAGES))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 1000\n")
    python.chmod(0o755)
    use.find("python").click()
    use.find("pythonEdit").text = str(python)
    use.press()
    use.press("cancel")
    assert use.find("install").enabled
    assert not use.ready


def test_the_choice_is_kept_and_decides_what_is_started(host, monkeypatch):
    settings = host.slicer.app.userSettings()
    place = WorkerPlace(SERVER, "", "https://gpu.example.org", "secret")
    writePlace(settings, place)
    assert readPlace(settings) == place
    assert place.command()[-2:] == ["--server", "https://gpu.example.org"]
    assert "secret" not in " ".join(place.command())
    assert place.environment().value("BIOSAM2_API_KEY") == "secret"
    writePlace(settings, WorkerPlace())
    assert readPlace(settings) == WorkerPlace()
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    other = WorkerPlace(PYTHON, sys.executable)
    assert other.command()[0] == sys.executable
    assert not other.environment().contains("PYTHONHOME")
    assert WorkerPlace().environment().contains("PYTHONHOME")


def test_a_worker_runs_in_another_python_whatever_slicer_has_set(host, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    place = WorkerPlace(PYTHON, sys.executable)
    client = ProcessDriver(place.command(), place.environment)
    client.start()
    event_loop.wait_until(lambda: client.state == "ready", what="the worker")
    client.stop()


def test_a_servers_connection_is_tested_before_it_is_chosen(first_use):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        use = first_use()
        assert not use.find("test").enabled
        use.find("server").click()
        use.press("test")
        assert "https://" in use.find("line").text
        use.find("serverEdit").text = f"http://127.0.0.1:{taken.getsockname()[1]}"
        use.press("test")
        assert use.find("line").text.startswith("Connecting to http://127.0.0.1")
        assert not use.find("test").enabled
        assert not use.find("install").enabled
        event_loop.wait_until(lambda: "no answer from" in use.find("line").text, 60, "the answer")
        assert use.find("test").enabled
        assert use.find("install").enabled
        use.press("test")
        process = use.panel._test._process
        use.press("cancel")
        assert use.find("line").text == "Stopped."
        event_loop.wait_until(lambda: process.state() == process.ProcessState.NotRunning, 30, "the process to end")
        assert use.find("test").enabled
        assert not use.ready


def write_wheel(folder, name, requires=()):
    """A wheel as pip takes it, with one empty module."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(params=["5.10", "5.12"])
def real_pip(request, tmp_path, monkeypatch):
    """pip itself, offline, into a folder of its own: in a process as for Slicer 5.10, or by `slicer.packaging`."""
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    wheels.mkdir()
    write_wheel(wheels, "harmless")
    write_wheel(wheels, "old-numpy", ["numpy<1"])
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", wheels), ("TARGET", target), ("CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(f"PIP_{name}", str(value))
    if request.param == "5.12":
        monkeypatch.setitem(sys.modules, "slicer.packaging", packaging.module())
        # Otherwise Slicer's own waits for pip.
        monkeypatch.setattr(type(importlib.import_module("slicer").app), "testingEnabled", lambda _self: False)
    assert (slicersPip() is not None) == (request.param == "5.12")

    def install(*requirements):
        ends, said = [], []
        logic = InstallLogic(
            [Package(one, one.replace("-", "_"), 1) for one in requirements],
            torch=False,
            isThere=lambda module: (target / f"{module}.py").exists(),
            python=sys.executable,
            pipInstall=slicersPip(),
        )
        logic.progress.connect(said.append)
        logic.finished.connect(lambda *end: ends.append(end))
        logic.install()
        event_loop.wait_until(lambda: ends, 120, "pip")
        return ends[0], said

    return install


def test_pip_installs_in_slicers_way_and_in_ours(host, real_pip):
    end, said = real_pip("harmless")
    assert end == (True, "Everything is installed.")
    assert any("harmless" in line for line in said)
    assert not list(Path(host.slicer.app.temporaryPath).glob("biosam2-constraints-*"))


def test_nothing_that_slicer_brings_is_changed_unasked(host, real_pip):
    """numpy is there; a package that wants another one is refused by pip, and says so in one line."""
    (complete, text), said = real_pip("old-numpy")
    assert not complete
    assert "\n" not in text
    assert any("numpy" in line for line in said)


def test_what_is_there_is_a_constraint_but_for_what_is_asked(host):
    computer = Computer("torch", *(name for name in EVERYTHING if name != "msgspec"))
    computer.logic._installed = lambda: {"numpy": "2.1.0", "Msg.Spec": "1.0", "msgspec": "0.1", "odd": "not a version!"}
    computer.logic.progress.connect(lambda *_line: computer.install_all())
    computer.logic.install()
    computer.settle()
    assert computer.constraints == [["Msg.Spec==1.0", "numpy==2.1.0"]]


def test_slicers_way_fails_in_one_line(host):
    def refuse(*_arguments, **_named):
        raise RuntimeError("A non-blocking pip_install\nis already in progress.")

    ends = []
    logic = InstallLogic(PANEL_PACKAGES, torch=False, isThere=lambda _module: False, pipInstall=refuse)
    logic.finished.connect(lambda *end: ends.append(end))
    logic.install()
    [(complete, text)] = ends
    assert not complete
    assert text.endswith("A non-blocking pip_install is already in progress.")
    assert not logic.running
