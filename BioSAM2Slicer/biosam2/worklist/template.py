"""What each case of a worklist begins with: its segments and the window; a JSON file beside the list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..errors import InputError
from ..io.atomic import atomic_path
from ..io.colours import segment_colour
from ..io.guards import existing
from ..io.terminology import Terminology

FORMAT = "biosam2-template-1"


@dataclass(frozen=True)
class TemplateSegment:
    """A segment that each case gets.

    Attributes:
        name: as it is shown.
        colour: red, green and blue, 0 to 1.
        terminology: what it is, as 3D Slicer writes it with a segment (``~SCT^…^…~…``); empty for tissue.
    """

    name: str
    colour: tuple[float, float, float]
    terminology: str = ""


@dataclass(frozen=True)
class Template:
    """What each case of a list begins with.

    Attributes:
        segments: in the order in which they are shown; none leaves the names to whoever works on a case.
        window: (centre, width), the name of a CT preset, or None for robust percentiles.
    """

    segments: tuple[TemplateSegment, ...] = ()
    window: tuple[float, float] | str | None = None


class _Segment(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    colour: str = ""
    terminology: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    segments: list[_Segment] = []
    window: tuple[float, float] | str | None = None


def template_path(worklist: Path) -> Path:
    """Where the template of a list lies: ``list.template.json`` beside ``list.csv``."""
    return worklist.with_name(f"{worklist.stem}.template.json")


def read_template(path: Path) -> Template:
    """Read a template.

    Raises:
        InputError: it is damaged, or a name, colour, terminology or window cannot be.
    """
    try:
        file = msgspec.json.decode(existing(path).read_bytes(), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a worklist's template: {error}") from error
    if file.format != FORMAT:
        raise InputError(f"{path} has the format {file.format!r}; this version of biosam2 reads {FORMAT}")
    try:
        return make_template([(s.name, s.colour, s.terminology) for s in file.segments], file.window)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_template(path: Path, template: Template) -> None:
    """Write a template; atomic.

    Raises:
        OutputError: it cannot be written.
    """
    segments = [_Segment(s.name, colour_text(s.colour), s.terminology) for s in template.segments]
    content = msgspec.to_builtins(_File(FORMAT, segments, template.window))
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def make_template(segments: list[tuple[str, str, str]], window: tuple[float, float] | str | None = None) -> Template:
    """A template, checked.

    Args:
        segments: name, colour as ``#RRGGBB`` (empty for the next of `biosam2.io.colours`) and terminology of each.
        window: see `Template`.

    Raises:
        InputError: a name is empty or given twice, or a colour, terminology or window cannot be.
    """
    from ..frames import CT_PRESETS

    made: list[TemplateSegment] = []
    for number, (name, colour, terminology) in enumerate(segments):
        if not name.strip() or not name.isprintable() or name in (segment.name for segment in made):
            raise InputError(f"a segment needs a name of its own, not {name!r}")
        Terminology.parse(terminology)
        made.append(TemplateSegment(name, _colour(colour) if colour else segment_colour(number), terminology))
    if isinstance(window, str) and window not in CT_PRESETS:
        raise InputError(f"there is no window {window!r}; use centre and width, or one of {', '.join(CT_PRESETS)}")
    if isinstance(window, tuple) and window[1] <= 0:
        raise InputError(f"the width of the window {window[0]:g}, {window[1]:g} must be positive")
    return Template(tuple(made), window)


def colour_text(colour: tuple[float, float, float]) -> str:
    """A colour as ``#RRGGBB``."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def _colour(text: str) -> tuple[float, float, float]:
    try:
        if len(text) != 7 or text[0] != "#":
            raise ValueError(text)
        red, green, blue = bytes.fromhex(text[1:])
    except ValueError as error:
        raise InputError(f"{text!r} is no colour; write #RRGGBB") from error
    return red / 255, green / 255, blue / 255
