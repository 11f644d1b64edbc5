"""Optional packages: which extra of the distribution brings which module, and the error that says so."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from .errors import DependencyError

# Modules by extra, as in pyproject.toml, which a test compares.
_MODULES: dict[str, tuple[str, ...]] = {
    "engine": ("torch", "sam2", "hydra", "omegaconf", "safetensors"),
    "dicom": ("highdicom", "jpeg_ls", "pylibjpeg", "openjpeg", "gdcm"),
    "video": ("av",),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
    "train": ("accelerate", "monai", "skimage", "tensorboard", "torchio"),
    "evaluate": ("jinja2", "joblib", "matplotlib", "monai", "skimage", "scipy"),
    "cluster": ("distributed",),
}
_INCLUDED = {"serve": "engine", "train": "engine", "evaluate": "engine", "cluster": "evaluate"}


def modules_of(extra: str) -> tuple[str, ...]:
    """Modules that an extra makes importable, those of the extras that it includes first."""
    included = modules_of(_INCLUDED[extra]) if extra in _INCLUDED else ()
    return (*included, *_MODULES[extra])


def require(extra: str, purpose: str, *modules: str) -> None:
    """Check that an extra is installed; nothing is imported.

    Args:
        extra: its name in pyproject.toml, for example ``engine``.
        purpose: what needs it, as the subject of a sentence: ``segmenting``.
        modules: those that must be there; by default all of the extra.

    Raises:
        DependencyError: modules are not installed; the message names them and the command that installs them.
    """
    absent = [name for name in modules or modules_of(extra) if not _is_installed(name)]
    if absent:
        raise _error(purpose, absent, extra)


def explain(error: ImportError) -> DependencyError | None:
    """What to install for an import that failed, or None where no extra brings the module."""
    name = (error.name or "").partition(".")[0]
    if not name or _is_installed(name):
        return None
    for extra, modules in _MODULES.items():
        if name in modules:
            return _error("this command", [name], extra)
    return None


def import_monai(name: str) -> ModuleType:
    """A module of MONAI, for example ``monai.transforms``.

    MONAI looks for torchvision while it is imported, though nothing used here needs it; one that does not match torch
    is half imported then, which takes seconds and leaves its operators behind. So it is out of sight meanwhile.

    Raises:
        ModuleNotFoundError: MONAI is not installed.
    """
    hide = "monai" not in sys.modules and "torchvision" not in sys.modules
    if hide:
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # what makes an import fail at once
    try:
        return importlib.import_module(name)
    finally:
        if hide:
            del sys.modules["torchvision"]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # from an import hook that refuses the name
        return False


def _error(purpose: str, absent: list[str], extra: str) -> DependencyError:
    are = "a package that is" if len(absent) == 1 else "packages that are"
    named = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
    return DependencyError(f"{purpose} needs {are} not installed ({named}): pip install 'biosam2[{extra}]'")
