"""MONAI without torchvision."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


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
