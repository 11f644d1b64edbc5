"""What a user says about a segment: points, boxes and masks, in voxel indices. Immutable.

Voxel (i, j, k) is centred on the integers; a click may be fractional. Boxes are inclusive voxel bounds.

A kind of prompt is one class, a file each: its shape, which slice it is for, what it may not be, how it adds to what
the network is told about that slice, how pictures and 3D Slicer show it. It is registered here, by its name in
`Prompt`. Records, messages and saved scenes hold it under the class's tag; the command line has an option for each kind
that is a markup in 3D Slicer.
"""

from __future__ import annotations

from typing import TypeAlias, get_args

from .base import IJK, Drawing, Markup, PromptKind, SlicePrompt
from .box import Box
from .lasso import Lasso
from .line import Line
from .mask import Mask
from .point import Point
from .scribble import Scribble

Prompt: TypeAlias = Point | Box | Scribble | Lasso | Line | Mask
KINDS: tuple[type[PromptKind], ...] = get_args(Prompt)
"""The classes."""
BY_NAME: dict[str, type[PromptKind]] = {str(kind.__struct_config__.tag): kind for kind in KINDS}
"""The classes by their tags."""

__all__ = [
    "BY_NAME",
    "IJK",
    "KINDS",
    "Box",
    "Drawing",
    "Lasso",
    "Line",
    "Markup",
    "Mask",
    "Point",
    "Prompt",
    "PromptKind",
    "Scribble",
    "SlicePrompt",
]
