"""Which build of PyTorch `make demo` installs: a real pip, an index on this machine, a torch that is a few bytes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from environments import ROOT, make_environment, run_in

sys.path.append(str(ROOT / "tools"))
import torch_build

SCRIPT = ROOT / "tools" / "torch_build.py"
VERSION = torch_build.wanted()
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's torch is taken as it is")
# A machine with a driver takes another way; whether there is one is asked in a process of its own.
no_driver = pytest.mark.skipif(torch_build.has_nvidia_driver(), reason="an NVIDIA driver is here")


def make_wheel(folder: Path, version: str, cuda: str | None) -> Path:
    """A torch that says what it is built for, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"torch-{version}-py3-none-any.whl"
    about = f"torch-{version}.dist-info"
    files = {
        "torch/__init__.py": "raise ImportError('not to be imported')",
        "torch/version.py": f"cuda = {cuda!r}",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in files)
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


class Index:
    """A package index on this machine, which notes what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        index = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_arguments: object) -> None:
                index.asked.append(self.path)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=str(folder)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/whl/cpu"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def index(tmp_path):
    """Has the CPU build."""
    wheel = make_wheel(tmp_path / "served" / "whl" / "cpu" / "torch", f"{VERSION}+cpu", None)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    link = f'<a href="{wheel.name.replace("+", "%2B")}#sha256={digest}">{wheel.name}</a>'
    (wheel.parent / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    index = Index(tmp_path / "served")
    yield index
    index.close()


@pytest.fixture
def nowhere():
    """The address of an index that nobody serves."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/whl/cpu"


class Computer:
    """An environment with pip, and what is run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = make_environment(folder / "venv", more=["pip"])

    def run(self, step: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        quiet = {"PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1", **environment}
        return run_in(self.python, SCRIPT, step, *arguments, cwd=self.folder, **quiet)

    def prepare(self, build: str, index: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("prepare", "--build", build, "--index", index, **environment)

    def install(self, version: str, cuda: str | None) -> None:
        wheel = make_wheel(self.folder, version, cuda)
        done = run_in(
            self.python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel, cwd=self.folder,
            PIP_CONFIG_FILE=os.devnull,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    @property
    def torch(self) -> str:
        code = "import importlib.metadata as m; print(*(d.version for d in m.distributions(name='torch')))"
        return run_in(self.python, "-c", code, cwd=self.folder).stdout.strip()


@pytest.fixture
def computer(tmp_path):
    return Computer(tmp_path)


@no_driver
def test_without_a_driver_the_cpu_build_is_taken_and_named(computer, index):
    done = computer.prepare("auto", index.url)
    assert done.returncode == 0, done.stderr
    assert computer.torch == f"{VERSION}+cpu"
    assert f"No NVIDIA driver is found: PyTorch's CPU build is fetched from {index.url}" in done.stdout
    assert "TORCH=cpu|cuda|default" in done.stdout
    said = computer.run("report")
    assert said.returncode == 0
    assert f"PyTorch {VERSION}+cpu, the CPU build; to choose: TORCH=" in said.stdout


@no_driver
def test_an_index_out_of_reach_leaves_it_to_pypi_and_says_so(computer, nowhere):
    done = computer.prepare("auto", nowhere)
    assert done.returncode == 0
    assert computer.torch == ""
    assert done.stdout.splitlines()[-1] == (
        "It cannot be had there (Connection refused). PyPI's build is taken, which brings CUDA: 7 GB."
    )


@no_driver
def test_an_index_without_this_torch_leaves_it_to_pypi(computer, index, tmp_path):
    shutil.rmtree(tmp_path / "served" / "whl")
    done = computer.prepare("auto", index.url)
    assert done.returncode == 0
    assert computer.torch == ""
    assert f"torch=={VERSION}" in done.stdout
    assert "PyPI's build is taken" in done.stdout


def test_with_a_driver_pypi_s_is_taken(computer, index, tmp_path):
    """Any library will do for the driver's: it is only loaded."""
    maps = Path("/proc/self/maps").read_text().split()
    shutil.copy(next(word for word in maps if re.search(r"/lib(c|pthread)[.-]", word)), tmp_path / "libcuda.so.1")
    done = computer.prepare("auto", index.url, LD_LIBRARY_PATH=str(tmp_path))
    assert (done.returncode, done.stdout, computer.torch, index.asked) == (0, "", "", [])


@pytest.mark.parametrize("build", ["auto", "default"])
@pytest.mark.parametrize(("version", "cuda"), [(f"{VERSION}+cpu", None), (VERSION, "13.0"), (VERSION, None)])
def test_what_is_installed_is_kept(computer, index, build, version, cuda):
    computer.install(version, cuda)
    done = computer.prepare(build, index.url)
    assert (done.returncode, computer.torch, index.asked) == (0, version, [])


@no_driver
def test_another_pinned_version_is_the_cpu_build_again(computer, index):
    computer.install("2.1.0+cpu", None)
    assert computer.prepare("auto", index.url).returncode == 0
    assert computer.torch == f"{VERSION}+cpu"


def test_default_leaves_everything_to_pip(computer, index):
    done = computer.prepare("default", index.url)
    assert (done.returncode, done.stdout, computer.torch, index.asked) == (0, "", "", [])


def test_the_cpu_build_takes_the_place_of_one_with_cuda(computer, index):
    computer.install(VERSION, "13.0")
    assert computer.prepare("cpu", index.url).returncode == 0
    assert computer.torch == f"{VERSION}+cpu"
    index.asked.clear()
    assert computer.prepare("cpu", index.url).returncode == 0
    assert index.asked == []


def test_the_cpu_build_that_was_asked_for_and_cannot_be_had_is_one_line(computer, nowhere):
    computer.install(VERSION, "13.0")
    done = computer.prepare("cpu", nowhere)
    assert done.returncode == 2
    assert done.stderr == (
        "PyTorch: It cannot be had there (Connection refused); "
        "TORCH=default takes PyPI's build, which on Linux brings CUDA\n"
    )
    assert computer.torch == VERSION


def test_cuda_makes_room_for_it_and_is_checked_afterwards(computer, index):
    computer.install(f"{VERSION}+cpu", None)
    refused = computer.run("report", "--build", "cuda")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "without CUDA" in refused.stderr
    assert computer.prepare("cuda", index.url).returncode == 0
    assert (computer.torch, index.asked) == ("", [])
    computer.install(VERSION, "13.0")
    said = computer.run("report", "--build", "cuda")
    assert (said.returncode, said.stderr) == (0, "")
    assert f"PyTorch {VERSION}, built for CUDA 13.0" in said.stdout
    assert computer.prepare("cuda", index.url).returncode == 0
    assert computer.torch == VERSION


@pytest.mark.parametrize(("build", "code"), [("auto", 0), ("cpu", 0), ("default", 0), ("cuda", 2)])
def test_on_a_mac_pip_s_own_is_the_right_one(computer, index, build, code):
    script = (
        "import runpy, sys; sys.platform = 'darwin'; "
        f"sys.argv[1:] = ['prepare', '--build', {build!r}, '--index', {index.url!r}]; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = run_in(computer.python, "-c", script, cwd=computer.folder)
    assert (done.returncode, computer.torch, index.asked) == (code, "", [])


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
class TestMake:
    """The Makefile hands the choice on, and installs again when it changes."""

    @pytest.fixture
    def make(self, tmp_path):
        """Runs the recipe that sets up the environment, whose Python only notes what it is given."""
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, tmp_path)
            os.utime(tmp_path / name, (1, 1))
        python, log = tmp_path / ".venv" / "bin" / "python", tmp_path / "log"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\n')
        python.chmod(0o755)

        def run(*arguments: str) -> list[str]:
            log.write_text("")
            command = ["make", f"PYTHON={sys.executable}", ".venv/.installed-to-run", *arguments]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            # As if an hour had passed: make compares times, and some file systems keep whole seconds.
            for name in (".torch", ".installed-to-run"):
                file = tmp_path / ".venv" / name
                os.utime(file, (file.stat().st_mtime - 3600,) * 2)
            return log.read_text().splitlines()

        return run

    @pytest.mark.parametrize(("arguments", "build"), [([], "auto"), (["TORCH=cpu"], "cpu"), (["TORCH=cuda"], "cuda")])
    def test_the_choice_is_handed_on(self, make, arguments, build):
        prepared, installed, removed, reported = make(*arguments, "TORCH_INDEX=http://mirror/cpu")
        assert prepared == f"tools/torch_build.py prepare --build {build} --index http://mirror/cpu"
        assert installed.startswith("-m pip install")
        assert "torchvision" in removed
        assert reported == f"tools/torch_build.py report --build {build}"

    def test_another_choice_installs_again_and_none_does_not(self, make):
        assert make()
        assert not make()
        assert make("TORCH=cpu")
        assert not make("TORCH=cpu")
        assert not make()
        assert make("TORCH=default")
