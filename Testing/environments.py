"""Python environments as pip makes them, of chosen extras, without the network."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def make_environment(folder: Path, *extras: str, more: Iterable[str] = ()) -> Path:
    """A virtual environment that has this project, what it declares for the extras, and nothing else.

    The distributions are linked from the environment that the tests run in; versions are those.

    Args:
        folder: where to make it.
        extras: of this project, for example ``engine``.
        more: distributions beside the project's own, for example ``pip``.

    Returns:
        Its interpreter.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    here = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=here))
    for name in _needed([f"biosam2[{','.join(extras)}]", *more]):
        _link(importlib.metadata.distribution(name), packages)
    (packages / "project.pth").write_text(f"{ROOT / 'BioSAM2Slicer'}\n", encoding="utf-8")
    return Path(sysconfig.get_path("scripts", vars=here)) / ("python.exe" if os.name == "nt" else "python")


def run_in(python: Path, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an interpreter apart from what this process was given: no path, no user's packages, a home of its own."""
    kept = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "LD_LIBRARY_PATH")
    clean = {name: os.environ[name] for name in kept if name in os.environ}
    return subprocess.run(
        [str(python), "-s", *map(str, arguments)],
        cwd=cwd,
        env={**clean, "HOME": str(cwd), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        encoding="utf-8",  # as Python writes without a locale; this process may have another
        check=False,
        timeout=300,
    )


def _needed(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions that requirements come down to."""
    found: set[str] = set()
    # rf-sam-2 declares it, and the Makefile takes it out again.
    left_out = "torchvision"
    asked = [Requirement(text) for text in requirements]
    seen = set()
    while asked:
        requirement = asked.pop()
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key in seen or requirement.name == left_out:
            continue
        seen.add(key)
        found.add(requirement.name)
        for text in importlib.metadata.requires(requirement.name) or ():
            declared = Requirement(text)
            if any(_applies(declared, extra) for extra in ("", *requirement.extras)):
                asked.append(declared)
    return found


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _link(distribution: importlib.metadata.Distribution, packages: Path) -> None:
    for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        source, target = Path(str(distribution.locate_file(top))), packages / top
        if not target.exists() and source.exists() and source.suffix != ".pth":
            target.symlink_to(source, target_is_directory=source.is_dir())


if __name__ == "__main__":
    print(make_environment(Path(sys.argv[1]), *sys.argv[2:]))  # noqa: T201 - for use by hand
