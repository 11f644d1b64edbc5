"""Which tests share a process.

torch's CUDA builds bring triton, whose library ends a process in which VTK's OpenGL is loaded. So tests that import
Slicer's libraries run apart from those that import torch, and a guard in `conftest.py` sees to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

TESTING = Path(__file__).resolve().parent

# Folders whose tests import Slicer's libraries.
SLICER = ("panel", "slicer_io")
# Folders that make the second part, so that the two without Slicer take about equally long; the third has the rest.
SERVICES = ("bench", "cli", "extension", "service")

# Modules that each side must not load, by their first name.
_VTK = {"slicer", "slicer_core", "trame_slicer", "vtk", "vtkmodules"}
_TORCH = {"torch"}


def parts() -> dict[str, list[Path]]:
    """Folders of tests by the name of the process that they run in; a new folder is in the last."""
    folders = {path.parent for path in TESTING.glob("*/test_*.py")}
    rest = sorted(folder.name for folder in folders if folder.name not in (*SLICER, *SERVICES))
    named = {"slicer": SLICER, "services": SERVICES, "network": rest}
    return {name: [TESTING / folder for folder in chosen] for name, chosen in named.items()}


def uses_slicer(test: Path) -> bool:
    """Whether a file of tests, or its folder, is of those that import Slicer's libraries."""
    return test.is_relative_to(TESTING) and test.relative_to(TESTING).parts[:1] in {(name,) for name in SLICER}


def misplaced(slicer: bool, modules: Iterable[str]) -> set[str]:
    """Modules that a process of tests must not have loaded.

    Args:
        slicer: whether its tests import Slicer's libraries.
        modules: names of all that are loaded, `sys.modules`.
    """
    return (_TORCH if slicer else _VTK) & {name.partition(".")[0] for name in modules}
