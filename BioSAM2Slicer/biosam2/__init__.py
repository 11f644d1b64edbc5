"""BioSAM-2 for images, volumes and cines: prompts in, masks out, carried through by a memory bank.

Importing this package loads neither torch nor a reader; each name loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import BioSAM2Error
from .prompts import Box, Lasso, Line, Mask, Point, Scribble
from .volume import Volume

if TYPE_CHECKING:
    from .io import read_image, read_video, read_volume, write_labelmap, write_segmentation
    from .models import load_model
    from .session import Session
    from .update import Update

__version__ = "0.1.0"

_LAZY = {
    "read_volume": "io",
    "read_image": "io",
    "read_video": "io",
    "write_segmentation": "io",
    "write_labelmap": "io",
    "load_model": "models",
    "Session": "session",
    "Update": "update",
}

__all__ = [
    "BioSAM2Error",
    "Box",
    "Lasso",
    "Line",
    "Mask",
    "Point",
    "Scribble",
    "Session",
    "Update",
    "Volume",
    "__version__",
    "load_model",
    "read_image",
    "read_video",
    "read_volume",
    "write_labelmap",
    "write_segmentation",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
