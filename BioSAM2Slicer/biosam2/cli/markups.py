"""Prompts that 3D Slicer saved as markups (.mrk.json): point lists and regions of interest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError
from ..io.guards import existing
from .grammar import BoxText, CoordinateSystem, PointText, PromptText

# How the panel names them: "lesion +", "lesion −", "lesion box"; Slicer adds a number to a name that is taken.
_NAME = re.compile(r"(.+?)(?:\s*(\+|−|-)|\s(box))(?:_\d+)?")
# A region of interest ends at the voxels' faces, which belong to two voxels: drawn in a little, it is clear which.
_DRAWN_IN = 1e-4


class _Point(msgspec.Struct):
    position: tuple[float, float, float]
    positionStatus: str = "defined"  # noqa: N815 - the file's name for it


class _Markup(msgspec.Struct):
    type: str
    coordinateSystem: str = "LPS"  # noqa: N815
    controlPoints: list[_Point] = []  # noqa: N815
    center: tuple[float, float, float] | None = None
    size: tuple[float, float, float] | None = None
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)


class _File(msgspec.Struct):
    markups: list[_Markup]


def read_markups(path: Path) -> list[tuple[str, PromptText]]:
    """(segment, prompt) of a markups file.

    Points are clicks, a region of interest is a box. The file's name is the segment's; one that ends in ``-`` or
    ``−`` holds points that do not belong to it.

    Raises:
        InputError: it is no markups file, or holds neither points nor a region of interest.
    """
    try:
        file = msgspec.json.decode(existing(path).read_bytes(), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a markups file of 3D Slicer ({error}); save the markups as .mrk.json"
        ) from error
    name = path.name.removesuffix(".json").removesuffix(".mrk")
    match = _NAME.fullmatch(name)
    segment, sign = (match[1], match[2]) if match else (name, "+")
    found: list[tuple[str, PromptText]] = []
    for markup in file.markups:
        system = _system(path, markup)
        if markup.type == "ROI":
            found.append((segment, _box(path, markup, system)))
        elif markup.type == "Fiducial":
            points = (p.position for p in markup.controlPoints if p.positionStatus == "defined")
            found += [(segment, PointText(place, sign not in ("-", "−"), system)) for place in points]
        else:
            raise InputError(f"{path} holds a {markup.type}; prompts are point lists and regions of interest")
    if not found:
        raise InputError(f"{path} holds no points; place some, or leave the file out")
    return found


def _system(path: Path, markup: _Markup) -> CoordinateSystem:
    system: Any = markup.coordinateSystem.lower()
    if system not in ("lps", "ras"):
        raise InputError(f"{path}: the coordinate system {markup.coordinateSystem!r} is none of LPS and RAS")
    return system


def _box(path: Path, markup: _Markup, system: CoordinateSystem) -> BoxText:
    if markup.center is None or markup.size is None or len(markup.orientation) != 9:
        raise InputError(f"{path} is damaged: its region of interest lacks centre, size or orientation")
    sides = np.reshape(markup.orientation, (3, 3)).T * (np.array(markup.size) - 2 * _DRAWN_IN)[:, None]
    corner = np.array(markup.center) - sides.sum(axis=0) / 2
    opposite = corner + sides.sum(axis=0)
    turned = tuple(tuple(side) for side in sides.tolist())
    return BoxText(tuple(corner.tolist()), tuple(opposite.tolist()), system, turned)
