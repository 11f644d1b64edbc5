"""Options that several commands share, and how their values are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import click

from .. import speed as speeds
from ..errors import InputError
from ..prompts import BY_NAME
from ..session.settings import Policy
from .grammar import MarkupText, MaskText, PlacesText, StartText

POLICIES = get_args(Policy)
AXES = ("k", "j", "i", "axial", "coronal", "sagittal")

_NEGATIVE = ", or with ',-' what does not"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


class PlacesType(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    """Places of one kind of prompt, with ``:`` between them, or a markups file that holds some.

    A minus sign at the end, ``,-``, says that they do not belong to the segment.
    """

    def __init__(self, kind: str, axes: str) -> None:
        markup = BY_NAME[kind].markup
        assert markup is not None
        self.name = kind
        self.axes = axes
        self.markup = markup

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        sign = "[,-]" if self.markup.signed else ""
        return (self._places() if self.markup.places else "FILE.mrk.json") + sign

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PlacesText | MarkupText:
        if isinstance(value, PlacesText | MarkupText):
            return value
        text, _, sign = value.strip().rpartition(",")
        if not self.markup.signed or sign.strip() not in ("+", "-"):
            text, sign = value.strip(), ""
        if text.endswith(".json"):
            return MarkupText(self.name, Path(text), {"+": True, "-": False}.get(sign.strip()))
        places = [_coordinates(part, len(self.axes)) for part in text.split(":")]
        known = tuple(place for place in places if place is not None)
        if len(known) != len(places) or self.markup.places not in (None, len(known)):
            negative = f" or {self._places()},- (negative)" if self.markup.signed else ""
            self.fail(f"{value!r} is not {self._places()}{negative}, nor a markups file (.mrk.json)", param, ctx)
        return PlacesText(self.name, known, positive=sign.strip() != "-")

    def _places(self) -> str:
        if self.markup.places == 1:
            return _comma(self.axes)
        places = ":".join(_comma([f"{a}{n}" for a in self.axes]) for n in range(2))
        return places if self.markup.places else f"{places}:…"


class MaskFile(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    """``LABELMAP[=LABEL][@N]``."""

    name = "mask"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "LABELMAP[=LABEL][@N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> MaskText:
        if isinstance(value, MaskText):
            return value
        path, label, number = re.fullmatch(r"(.*?)(?:=(\d+))?(?:@(\d+))?", value, re.DOTALL).groups()  # type: ignore[union-attr]
        if not path:
            self.fail(f"{value!r} names no file; give LABELMAP@N, N being the slice", param, ctx)
        return MaskText(Path(path), int(number) if number else None, int(label) if label else None)


class StartFile(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    """``LABELMAP[=LABEL]``."""

    name = "start"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "LABELMAP[=LABEL]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> StartText:
        if isinstance(value, StartText):
            return value
        path, label = re.fullmatch(r"(.*?)(?:=(\d+))?", value, re.DOTALL).groups()  # type: ignore[union-attr]
        if not path:
            self.fail(f"{value!r} names no file", param, ctx)
        return StartText(Path(path), int(label) if label else None)


class Window(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    """``CENTRE,WIDTH`` or the name of a CT preset."""

    name = "window"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "C,W|PRESET"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float] | str:
        from ..frames import CT_PRESETS

        if isinstance(value, tuple) or value in CT_PRESETS:
            return value
        numbers = _coordinates(value, 2)
        if numbers is None:
            self.fail(f"{value!r} is not CENTRE,WIDTH or one of {', '.join(sorted(CT_PRESETS))}", param, ctx)
        if numbers[1] <= 0:
            self.fail(f"the width in {value!r} must be positive", param, ctx)
        return numbers[0], numbers[1]


class SpeedType(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    """Optimisations as `biosam2.speed.Speed.parse` takes them."""

    name = "speed"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME[=N],…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> speeds.Speed:
        if isinstance(value, speeds.Speed):
            return value
        try:
            return speeds.Speed.parse(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


def prompts(axes: str = "ijk") -> Callable[..., Any]:
    """--segment, one for each kind of prompt, and --start; their order counts, see `OrderedCommand`."""
    index = "voxel indices" if axes == "ijk" else "pixel indices (column, row)"
    placed = [
        click.option(
            *(f"--{each}" for each in (name, *kind.aliases)),
            type=PlacesType(name, axes),
            multiple=True,
            help=f"{kind.help}{_NEGATIVE if kind.markup.signed else ''}; in {index}, or a markups file of 3D Slicer.",
        )
        for name, kind in BY_NAME.items()
        if kind.markup is not None
    ]
    options = [
        click.option(
            "--segment", metavar="NAME", multiple=True, help="Start a segment: the prompts after it are its own."
        ),
        *placed,
        click.option(
            "--mask",
            type=MaskFile(),
            multiple=True,
            help="Slice N of a labelmap on the image's grid; without @N every slice that it marks. "
            "=LABEL: that label alone.",
        ),
        click.option(
            "--start",
            type=StartFile(),
            multiple=True,
            help="An existing mask that the segment starts from and that the prompts then correct.",
        ),
    ]
    return _all(options)


def millimetres() -> Callable[..., Any]:
    """--lps, --ras, --ijk; each holds for the places after it."""
    return _all(
        [
            click.option("--lps", is_flag=True, help="The places after it are in mm, LPS (DICOM)."),
            click.option("--ras", is_flag=True, help="The places after it are in mm, RAS (3D Slicer)."),
            click.option("--ijk", is_flag=True, help="The places after it are voxel indices again."),
        ]
    )


def network() -> Callable[..., Any]:
    """--model, --config, --device."""
    return _all(
        [
            click.option("--model", metavar="NAME|PATH", help="A name from 'biosam2 models list', or a checkpoint."),
            click.option("--config", metavar="NAME|PATH", help="The configuration of a checkpoint given as PATH."),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
        ]
    )


def elsewhere() -> Callable[..., Any]:
    """--worker, --server."""
    return _all(
        [
            click.option("--worker", is_flag=True, help="Run the network in a process of its own."),
            click.option(
                "--server",
                metavar="URL",
                help="Run the network on a server ('biosam2 serve'); its key is read from BIOSAM2_API_KEY.",
            ),
        ]
    )


def parallel() -> Callable[..., Any]:
    """--jobs, --cluster."""
    return _all(
        [
            click.option(
                "--jobs",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                help="So many cases at once, each in a process of its own.",
            ),
            click.option(
                "--cluster", metavar="tcp://HOST:PORT", help="Run the cases on the workers of this Dask scheduler."
            ),
        ]
    )


def reports() -> Callable[..., Any]:
    """--montage, --record, --quiet."""
    file = click.Path(dir_okay=False, path_type=Path)
    return _all(
        [
            click.option("--montage", type=file, help="Write a PNG: slices with the outlines and the prompts."),
            click.option("--record", type=file, help="Write a JSON record, for 'biosam2 replay'."),
            click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
        ]
    )


def propagation() -> Callable[..., Any]:
    """--first, --last, --direction, --policy, --capacity, --merge, --speed, --crop, --exact."""
    return _all(
        [
            click.option("--first", type=click.IntRange(min=0), metavar="N", help="First slice to segment."),
            click.option("--last", type=click.IntRange(min=0), metavar="N", help="Last slice to segment."),
            click.option(
                "--direction",
                type=click.Choice(["both", "forward", "backward"]),
                default="both",
                show_default=True,
                help="Which way to propagate from the prompts.",
            ),
            click.option(
                "--policy",
                type=click.Choice(POLICIES),
                help="Which slices are remembered. path (the default): those that the sweep has passed. Approximate. "
                "nearest: of several prompted slices only the one passed last, and what came since. Approximate. "
                "sam2: SAM 2's own, with what earlier sweeps left behind the start.",
            ),
            capacity(),
            click.option(
                "--merge",
                type=click.Choice(["progressive", "none"]),
                help="none (the default): the network's answer to a click that corrects a mask is the new mask. "
                "progressive: only the part of it that the click points at is taken over. Approximate.",
            ),
            click.option(
                "--speed",
                type=SpeedType(),
                help="Optimisations by name: -encoder or -attention leave an exact one out; stop=8 ends where the "
                "target has been absent from 8 slices, stride=auto or stride=2 interpolates slices between two alike, "
                "encoder=bfloat16 encodes in half precision, local follows corrections only (approximate).",
            ),
            crop(),
            exact(),
        ]
    )


def capacity() -> Callable[..., Any]:
    """--capacity."""
    return click.option(
        "--capacity",
        type=click.IntRange(min=1),
        metavar="N",
        help="Slices that --policy dissimilar remembers; by default as many as the network has slots for.",
    )


def crop() -> Callable[..., Any]:
    """--crop."""
    return click.option(
        "--crop",
        type=click.Choice(["auto", "none"]),
        help="auto (the default): a target that fills less than a quarter of the frame is cropped. "
        "Approximate: results differ from SAM 2's own.",
    )


def exact() -> Callable[..., Any]:
    """--exact."""
    return click.option("--exact", is_flag=True, help="What SAM 2's own predictor gives: nothing approximate.")


def _all(options: list[Callable[..., Any]]) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _coordinates(text: str, count: int) -> tuple[float, ...] | None:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count or not all(re.fullmatch(_NUMBER, part) for part in parts):
        return None
    return tuple(float(part) for part in parts)


def _comma(names: Iterable[str]) -> str:
    return ",".join(name.upper() for name in names)
