"""Which build of PyTorch the Makefile's environment gets: prepare it before pip installs the rest, report it after.

PyPI's build for Linux brings CUDA, 7 GB once installed, and is of no use without an NVIDIA driver. So where there is
none, PyTorch's own CPU build is tried first; pip then finds a torch that fits and leaves it. Standard library only: it
runs before anything is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

BUILDS = ("auto", "cpu", "cuda", "default")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Names the version of torch, for pip as for this.
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
_CHOOSE = f"to choose: TORCH={'|'.join(BUILDS[1:])} after make demo or make test"


def has_nvidia_driver() -> bool:
    """Whether the driver's library can be loaded, which is what CUDA does first."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def installed() -> tuple[str, str] | None:
    """Version of the torch in this environment and the version of CUDA that it was built for, empty for none."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return version, ""
    facts = runpy.run_path(str(Path(spec.submodule_search_locations[0]) / "version.py"))
    return version, facts.get("cuda") or ""


def wanted() -> str:
    """The version of torch that `constraints.txt` names."""
    found = re.search(r"^torch==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{CONSTRAINTS} names no version of torch")
    return found[1]


def prepare(build: str, index: str) -> int:
    """Install PyTorch's CPU build where that is to be, and leave the rest to pip.

    Args:
        build: one of `BUILDS`; `auto` is the CPU build on Linux without an NVIDIA driver, `default` what pip takes.
        index: where the CPU build is.

    Returns:
        Exit code: 0 to go on, 2 where what was asked for cannot be had.
    """
    known = installed()
    fits = known is not None and known[0].partition("+")[0] == wanted()
    if build == "default" or (fits and build in ("auto", "cuda" if known and known[1] else "cpu")):
        return 0
    if build == "cuda":
        if sys.platform != "linux":
            return _refuse(
                "PyPI has no CUDA build for this system; https://pytorch.org/get-started tells how to get one"
            )
        return _pip("uninstall", "--yes", "torch")[0] if known else 0
    if sys.platform != "linux":
        return 0  # PyPI's is the CPU build, on a Mac with MPS
    if build == "auto" and (has_nvidia_driver() or (known and known[1])):
        return 0
    why = "No NVIDIA driver is found: " if build == "auto" else ""
    _say(f"{why}PyTorch's CPU build is fetched from {index} (about 200 MB; {_CHOOSE}).")
    # What pip does by itself, but for the many retries: an index out of reach costs half a minute at most.
    code, said = _pip(
        *("install", "--index-url", index, "--no-deps", "--timeout", "15", "--retries", "1"),
        *("--force-reinstall" if fits else "--upgrade", f"torch=={wanted()}"),
    )
    if code == 0:
        return 0
    problem = f"It cannot be had there ({said})"
    if build == "cpu":
        return _refuse(f"{problem}; TORCH=default takes PyPI's build, which on Linux brings CUDA")
    _say(f"{problem}. PyPI's build is taken, which brings CUDA: 7 GB.")
    return 0


def report(build: str) -> int:
    """Say which PyTorch is installed.

    Returns:
        Exit code: 0, or 2 where CUDA was asked for and is not there.
    """
    known = installed()
    if known is None:
        return _refuse("there is no PyTorch in this environment")
    version, cuda = known
    if build == "cuda" and not cuda:
        return _refuse(f"pip took PyTorch {version} without CUDA; its settings name another index: pip config list")
    _say(f"PyTorch {version}, {f'built for CUDA {cuda}' if cuda else 'the CPU build'}; {_CHOOSE}.")
    return 0


def _pip(*arguments: str) -> tuple[int, str]:
    """Exit code of pip and the first reason that it gives for a failure."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(("WARNING:", "ERROR:"))]
    first = lines[0] if lines else f"pip ended with {done.returncode}"
    # "Retrying (…) after connection broken by 'NewConnectionError('…: [Errno 111] Connection refused')': /torch/"
    if "timed out" in first:
        return done.returncode, "no answer in time"
    broken = re.search(r"connection broken by '.*?([^:\[\]()']+)'\)'", first)
    return done.returncode, (broken[1] if broken else first).strip()[:200]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _refuse(text: str) -> int:
    sys.stderr.write(f"PyTorch: {text}\n")
    return 2


def main() -> int:
    """The command: ``prepare`` or ``report``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("step", choices=("prepare", "report"))
    parser.add_argument("--build", choices=BUILDS, default="auto")
    parser.add_argument("--index", default=CPU_INDEX, metavar="URL", help="of the CPU build, or of a mirror of it")
    given = parser.parse_args()
    return prepare(given.build, given.index) if given.step == "prepare" else report(given.build)


if __name__ == "__main__":
    sys.exit(main())
