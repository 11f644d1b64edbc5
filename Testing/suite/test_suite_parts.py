"""How the tests are run: in parts that are processes of their own, all of them counted."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from parts import SLICER, TESTING, misplaced, parts, uses_slicer
from run import run

GOOD = "def test_a(): pass\ndef test_b(): pass\n"
BAD = "def test_a(): assert False\ndef test_b(): pass\n"
SKIPPED = "import pytest\n@pytest.mark.skip\ndef test_a(): pass\ndef test_b(): pass\n"
NO_SETUP = (
    "import pytest\n@pytest.fixture\ndef no(): raise OSError('no setup')\ndef test_a(no): pass\ndef test_b(): pass\n"
)
CRASH = "import os, signal\ndef test_a(): pass\ndef test_b(): os.kill(os.getpid(), signal.SIGSEGV)\n"


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    """The processes of tests that are started here need none, and start sooner."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def suite(tmp_path, capfd):
    """Runs parts of one file each; gives the exit code and the lines of output."""

    def make(options=(), at_once=2, **texts):
        named = {}
        for name, text in texts.items():
            folder = tmp_path / name
            folder.mkdir()
            (folder / f"test_{name}.py").write_text(text)
            named[name] = [folder]
        code = run(named, ["-q", *options], at_once)
        return code, capfd.readouterr().out.splitlines()

    return make


def test_all_parts_are_counted(suite):
    code, lines = suite(one=GOOD, two=SKIPPED, three=GOOD)
    assert (code, lines[-1]) == (0, "5 passed, 0 failed, 1 skipped")


@pytest.mark.parametrize(("text", "said"), [(BAD, "assert False"), (NO_SETUP, "no setup")])
def test_a_failure_in_any_part_is_told_and_fails(suite, text, said):
    code, lines = suite(one=GOOD, two=text)
    assert (code, lines[-1]) == (1, "3 passed, 1 failed, 0 skipped")
    assert any(said in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_part_that_crashes_is_told_and_fails(suite):
    code, lines = suite(one=GOOD, two=CRASH)
    assert (code, lines[-1]) == (1, "2 passed, 1 failed, 0 skipped")
    assert lines[-2] == f"FAILED: the part two was ended by signal 11 ({signal.strsignal(11)})"
    assert any("test_two.py" in line and "line 3 in test_b" in line for line in lines)


@pytest.mark.parametrize("text", ["import nothing_of_this_name\n", "def test_a(:\n"])
def test_a_part_that_cannot_be_collected_fails(suite, text):
    code, lines = suite(one=GOOD, two=text)
    assert code == 1
    assert lines[-1] == "2 passed, 2 failed, 0 skipped"
    assert "FAILED: the part two did not run to its end" in lines[-2]


def test_an_exit_from_within_fails(suite):
    code, lines = suite(one="import os\ndef test_a(): os._exit(0)\n", two=GOOD)
    assert (code, lines[-1]) == (1, "2 passed, 1 failed, 0 skipped")


def test_a_part_without_tests_fails_unless_tests_are_chosen(suite):
    assert suite(one=GOOD, two="x = 1\n")[0] == 1
    code, lines = suite(["-k", "test_a"], three=GOOD, four="def test_z(): pass\n")
    assert (code, lines[-1]) == (0, "1 passed, 0 failed, 0 skipped")
    assert suite(["--no-such-option"], five=GOOD)[0] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_what_a_test_leaves_running_does_not_hold_up_the_end(suite, tmp_path, monkeypatch):
    monkeypatch.setattr("run._LAST_WORDS_S", 0.5)
    left = f"""
    import pathlib, subprocess, sys
    def test_a():
        process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(process.pid))
    """
    code, lines = suite(["-s"], one=textwrap.dedent(left))
    assert (code, lines[-1]) == (0, "1 passed, 0 failed, 0 skipped")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # it still ran


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_stopped_from_outside_it_stops_its_parts(tmp_path):
    """As CI does when time is up."""
    ready, held = tmp_path / "ready", tmp_path / "held"
    for pipe in (ready, held):
        os.mkfifo(pipe)
    (tmp_path / "test_long.py").write_text(
        "import os, pathlib\n"
        "def test_a():\n"
        f"    pathlib.Path({str(ready)!r}).write_text(str(os.getpid()))\n"
        f"    open({str(held)!r})\n"
    )
    code = f"""
import run, sys
from pathlib import Path
run.parts = lambda: dict(long=[Path({str(tmp_path)!r})], never=[Path("nowhere")])
sys.exit(run.main())
"""
    command = (
        ["taskset", "-c", "0", sys.executable, "-c", code] if shutil.which("taskset") else [sys.executable, "-c", code]
    )
    with subprocess.Popen(command, cwd=TESTING, stdout=subprocess.PIPE, text=True) as process:
        part = int(ready.read_text())
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate()
    assert process.returncode == 130
    assert out.splitlines()[-1] == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(part, 0)


def test_every_folder_of_tests_is_in_one_part():
    folders = [folder for chosen in parts().values() for folder in chosen]
    assert sorted(folders) == sorted({path.parent for path in TESTING.rglob("test_*.py")})
    assert all(folder.is_dir() for folder in folders)
    assert [uses_slicer(folder) for folder in folders] == [folder.name in SLICER for folder in folders]


def test_folders_that_name_slicer_s_modules_are_in_its_part():
    """By their text; the guard sees what is imported on the way."""
    imports = re.compile(
        r"^\s*(?:import|from) (?:vtk|slicer|slicer_core|trame_slicer|qt|ctk)\b|importorskip\(\"(?:vtk|slicer)", re.M
    )
    for path in TESTING.glob("*/*.py"):
        if path.parent.name != "host" and imports.search(path.read_text(encoding="utf-8")):
            assert uses_slicer(path), path


def test_modules_are_known_by_their_first_name():
    assert misplaced(True, ["torch.optim", "vtkmodules.vtkCommonCore"]) == {"torch"}
    assert misplaced(False, ["torch", "vtkmodules.util", "slicer.util"]) == {"slicer", "vtkmodules"}
    assert not misplaced(False, ["torch", "vtkwriter"])


@pytest.fixture
def guarded(tmp_path):
    """Runs files of tests under the guard of conftest.py, with modules that have only the names of the real ones."""
    for name in ("conftest.py", "parts.py"):
        shutil.copy(TESTING / name, tmp_path)
    for name in ("torch.py", "vtk.py"):
        (tmp_path / name).touch()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def make(**texts):
        for name, text in texts.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / f"test_{name}.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", *texts]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return make


@pytest.mark.parametrize(("folder", "own", "other"), [("panel", "vtk", "torch"), ("engine", "torch", "vtk")])
class TestGuard:
    def test_what_belongs_there_is_let_through(self, guarded, folder, own, other):
        assert guarded(**{folder: f"import {own}\n{GOOD}"}).returncode == 0

    def test_a_file_that_imports_the_other_side_is_refused(self, guarded, folder, own, other):
        done = guarded(**{folder: f"import {other}\n{GOOD}"})
        assert done.returncode == 4
        assert f"ERROR: {other} is loaded in the process of the tests with" in done.stderr
        assert "passed" not in done.stdout

    def test_a_test_that_imports_the_other_side_fails(self, guarded, folder, own, other):
        done = guarded(**{folder: f"def test_a(): import {other}\ndef test_b(): pass\n"})
        assert done.returncode == 1
        assert f"{other} is loaded in the process of the tests with" in done.stdout
        assert "2 passed, 1 error" in done.stdout


def test_both_sides_in_one_process_are_refused(guarded):
    done = guarded(panel=GOOD, engine=GOOD)
    assert done.returncode == 4
    assert "cannot share a process" in done.stderr
    assert "make test" in done.stderr


def test_the_checkout_s_own_tests_are_guarded():
    """The real folders, collected together as `pytest` alone would."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "Testing/slicer_io", "Testing/io/test_volume.py"]
    done = subprocess.run(command, cwd=TESTING.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "cannot share a process" in done.stderr


def test_only_the_checkout_s_own_folders_count():
    assert uses_slicer(Path(TESTING, "panel", "test_host.py"))
    assert not uses_slicer(Path(TESTING, "panel_helpers", "test_host.py"))
    assert not uses_slicer(Path("/elsewhere/panel/test_host.py"))
