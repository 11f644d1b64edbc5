"""Where files that come with the package lie: in a wheel, in an installed Slicer extension, in a checkout."""

from pathlib import Path

from .errors import ModelError

_PACKAGE = Path(__file__).resolve().parent

# A wheel carries them inside the package; Slicer installs Resources/ beside it; a checkout has it at the top.
_ROOTS = (_PACKAGE / "Resources", _PACKAGE.parent / "Resources", _PACKAGE.parent.parent / "Resources")


def resource_path(relative: str) -> Path:
    """Path of a shipped file, for example ``Models/registry.json``.

    Raises:
        ModelError: the file is in none of the places where an installation keeps it.
    """
    for root in _ROOTS:
        path = root / relative
        if path.exists():
            return path
    raise ModelError(f"the installation lacks Resources/{relative}; reinstall biosam2")
