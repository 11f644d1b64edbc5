"""Prompts that 3D Slicer saved as markups (.mrk.json)."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..io.guards import existing
from ..prompts import BY_NAME
from .grammar import CoordinateSystem, MarkupText, PlacesText

_KINDS = {kind.markup.type: (name, kind.markup) for name, kind in BY_NAME.items() if kind.markup is not None}
_WORDS = "|".join(markup.name for _, markup in _KINDS.values() if markup.name)
# How the panel names them: "lesion +", "lesion box", "lesion scribble −"; Slicer adds a number to a name that is taken.
_NAME = re.compile(rf"(.+?)(?:\s(?:{_WORDS})(?:\s*(\+|−|-))?|\s*(\+|−|-))(?:_\d+)?")
# Points that Slicer draws from one control point of a curve to the next.
_PER_CONTROL_POINT = 10
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


def read_markups(path: Path) -> list[tuple[str, PlacesText]]:
    """(segment, prompt) of a markups file.

    What a markup is, is its prompt's kind: points are clicks, a region of interest is a box, a curve a scribble. The
    file's name is the segment's; one that ends in ``-`` or ``−`` holds what does not belong to it.

    Raises:
        InputError: it is no markups file, or holds no prompt.
    """
    try:
        file = msgspec.json.decode(existing(path).read_bytes(), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a markups file of 3D Slicer ({error}); save the markups as .mrk.json"
        ) from error
    name = path.name.removesuffix(".json").removesuffix(".mrk")
    match = _NAME.fullmatch(name)
    segment, sign = (match[1], match[2] or match[3]) if match else (name, "+")
    found = [
        (segment, text) for markup in file.markups for text in _prompts(path, markup, positive=sign not in ("-", "−"))
    ]
    if not found:
        raise InputError(f"{path} holds no points; place some, or leave the file out")
    return found


def read_kind(text: MarkupText) -> list[PlacesText]:
    """The prompts of one kind that a markups file holds.

    Raises:
        InputError: it is no markups file, or holds something else.
    """
    found = [prompt for _, prompt in read_markups(text.path)]
    wanted = next(markup for name, markup in _KINDS.values() if name == text.kind)
    for prompt in found:
        if prompt.kind != text.kind:
            held = next(held for held, (name, _) in _KINDS.items() if name == prompt.kind)
            raise InputError(f"{text.path} holds a {held}; --{text.kind} takes a {wanted.type}, --{prompt.kind} this")
    if text.positive is None:
        return found
    return [replace(prompt, positive=text.positive) for prompt in found]


def curve(points: NDArray[Any], closed: bool) -> NDArray[Any]:
    """The points that Slicer draws for a curve markup's control points.

    Slicer's curves are cubic splines with evenly spaced parameters (its default, `vtkCardinalSpline`): periodic where
    they are closed, at rest at both ends otherwise. The file does not name the type of the curve.

    Args:
        points: (control points, 3), at least two.
        closed: whether the last one is joined to the first.

    Returns:
        (points, 3), ten for each control point, and the last one of an open curve.
    """
    # An open curve and its way back are a closed one, which rests at both ends.
    loop = points if closed else np.concatenate([points, points[-2:0:-1]])
    before, after = np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0)
    # The slopes m of a periodic spline: m before + 4 m + m after = 3 (p after - p before), solved by its spectrum.
    waves = 4 + 2 * np.cos(2 * np.pi * np.arange(len(loop)) / len(loop))
    slopes = np.fft.ifft(np.fft.fft(3 * (after - before), axis=0) / waves[:, None], axis=0).real
    t = (np.arange(_PER_CONTROL_POINT) / _PER_CONTROL_POINT)[None, :, None]
    p, q = loop[:, None], after[:, None]
    m, n = slopes[:, None], np.roll(slopes, -1, axis=0)[:, None]
    hermite = (1 + 2 * t) * (1 - t) ** 2 * p + t * (1 - t) ** 2 * m + t**2 * (3 - 2 * t) * q + t**2 * (t - 1) * n
    drawn = hermite.reshape(-1, points.shape[1])
    return drawn if closed else drawn[: (len(points) - 1) * _PER_CONTROL_POINT + 1]


def _prompts(path: Path, markup: _Markup, positive: bool) -> list[PlacesText]:
    if markup.type not in _KINDS:
        raise InputError(f"{path} holds a {markup.type}; prompts are of the types {', '.join(_KINDS)}")
    kind, meant = _KINDS[markup.type]
    system = _system(path, markup)
    if markup.type == "ROI":
        return [PlacesText(kind, _corners(path, markup), True, system)]
    places = tuple(p.position for p in markup.controlPoints if p.positionStatus == "defined")
    positive = positive or not meant.signed
    if meant.places == 1:
        return [PlacesText(kind, (place,), positive, system) for place in places]
    if meant.places is not None and len(places) != meant.places:
        raise InputError(f"{path} holds a {markup.type} of {len(places)} points; {meant.places} make a {kind}")
    if meant.places is None and len(places) > 2:
        drawn = curve(np.array(places), closed=markup.type.startswith("Closed"))
        places = tuple((x, y, z) for x, y, z in drawn.tolist())
    return [PlacesText(kind, places, positive, system)] if places else []


def _system(path: Path, markup: _Markup) -> CoordinateSystem:
    system: Any = markup.coordinateSystem.lower()
    if system not in ("lps", "ras"):
        raise InputError(f"{path}: the coordinate system {markup.coordinateSystem!r} is none of LPS and RAS")
    return system


def _corners(path: Path, markup: _Markup) -> tuple[tuple[float, ...], ...]:
    """The eight corners of a region of interest."""
    if markup.center is None or markup.size is None or len(markup.orientation) != 9:
        raise InputError(f"{path} is damaged: its region of interest lacks centre, size or orientation")
    sides = np.reshape(markup.orientation, (3, 3)).T * (np.array(markup.size) - 2 * _DRAWN_IN)[:, None]
    corner = np.array(markup.center) - sides.sum(axis=0) / 2
    subsets = np.array(list(itertools.product((0, 1), repeat=3)))
    return tuple(tuple(place) for place in (corner + subsets @ sides).tolist())
