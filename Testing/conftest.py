"""What tests of every area share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from parts import misplaced, uses_slicer

# As the command line does: torch's threads must not spin while they wait. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run tests of Slicer's libraries and tests of torch in one process."""
    _refuse_misplaced(session.items)


def _refuse_misplaced(items: Sequence[pytest.Item]) -> None:
    sides = {uses_slicer(item.path) for item in items}
    if len(sides) > 1:
        raise pytest.UsageError(
            "tests that import Slicer's libraries cannot share a process with those that import torch; "
            "run all with `make test`, or name files of one side (Testing/parts.py lists them)"
        )
    for slicer in sides:
        if found := misplaced(slicer, sys.modules):
            raise pytest.UsageError(f"{_apart(slicer, found)}; a conftest or a file of tests imports it")


def _apart(slicer: bool, found: set[str]) -> str:
    names = ", ".join(sorted(found))
    return f"{names} is loaded in the process of the tests {'with' if slicer else 'without'} Slicer's libraries"


@pytest.fixture(autouse=True)
def apart(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that loads torch beside Slicer's libraries, or these beside torch."""
    slicer = uses_slicer(request.path)
    before = misplaced(slicer, sys.modules)
    yield
    if found := misplaced(slicer, sys.modules) - before:
        pytest.fail(f"{_apart(slicer, found)} since this test; see Testing/parts.py", pytrace=False)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled volumes beside the checkout; a user's clone has none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real cases (../shared/data) are not here")
    return folder


@dataclass(frozen=True)
class Disk:
    """A file system of its own, in memory."""

    folder: Path

    def resize(self, size: int | str) -> None:
        """Make it larger or smaller, as `mount` understands sizes: 64k, or bytes."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int | str], Disk]]:
    """Mounts small file systems, which can be filled; that needs root."""
    mounted: list[Path] = []

    def make(size: int | str) -> Disk:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode:
            pytest.skip(f"a small disk needs root: {done.stderr.strip()}")
        mounted.append(folder)
        return Disk(folder)

    yield make
    for folder in mounted:
        # Lazily: ITK's NRRD writer keeps the file open that it could not finish.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
