"""Options that several commands share, and how their values are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from .. import speed as speeds
from ..errors import InputError
from ..session.settings import Policy
from .grammar import BoxText, MaskText, PointText, StartText

POLICIES = get_args(Policy)
AXES = ("k", "j", "i", "axial", "coronal", "sagittal")

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


class Point(click.ParamType):
    """``I,J,K`` or, with a minus sign at the end, a point that does not belong to the segment."""

    name = "point"

    def __init__(self, axes: str) -> None:
        self.axes = axes

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"{_comma(self.axes)}[,-]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PointText:
        if isinstance(value, PointText):
            return value
        numbers, _, sign = value.strip().rpartition(",")
        if sign.strip() not in ("+", "-"):
            numbers, sign = value, "+"
        coordinates = _coordinates(numbers, len(self.axes))
        if coordinates is None:
            self.fail(f"{value!r} is not {_comma(self.axes)} or {_comma(self.axes)},- (negative)", param, ctx)
        return PointText(coordinates, positive=sign.strip() == "+")


class Box(click.ParamType):
    """``I0,J0,K0:I1,J1,K1``: two opposite corners, inclusive."""

    name = "box"

    def __init__(self, axes: str) -> None:
        self.axes = axes

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return ":".join(_comma([f"{a}{n}" for a in self.axes]) for n in (0, 1))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> BoxText:
        if isinstance(value, BoxText):
            return value
        corners = [_coordinates(text, len(self.axes)) for text in value.split(":")]
        if len(corners) != 2 or corners[0] is None or corners[1] is None:
            self.fail(f"{value!r} is not {self.get_metavar(param, ctx)}", param, ctx)  # type: ignore[arg-type]
        return BoxText(corners[0], corners[1])


class MaskFile(click.ParamType):
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


class StartFile(click.ParamType):
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


class Window(click.ParamType):
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


class Speed(click.ParamType):
    """Short cuts as `biosam2.speed.Speed.parse` takes them."""

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


def prompts(axes: str = "ijk") -> Callable:
    """--segment, --point, --box and --mask; their order counts, see `OrderedCommand`."""
    index = "voxel indices" if axes == "ijk" else "pixel indices (column, row)"
    options = [
        click.option(
            "--segment", metavar="NAME", multiple=True, help="Start a segment: the prompts after it are its own."
        ),
        click.option("--point", type=Point(axes), multiple=True, help=f"A click, in {index}; ',-': not the segment."),
        click.option("--box", type=Box(axes), multiple=True, help="The segment lies within; both corners inclusive."),
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


def millimetres() -> Callable:
    """--lps, --ras, --ijk; each holds for the points and boxes after it."""
    return _all(
        [
            click.option("--lps", is_flag=True, help="The points and boxes after it are in mm, LPS (DICOM)."),
            click.option("--ras", is_flag=True, help="The points and boxes after it are in mm, RAS (3D Slicer)."),
            click.option("--ijk", is_flag=True, help="The points and boxes after it are voxel indices again."),
        ]
    )


def network() -> Callable:
    """--model, --config, --device."""
    return _all(
        [
            click.option("--model", metavar="NAME|PATH", help="A name from 'biosam2 models list', or a checkpoint."),
            click.option("--config", metavar="NAME|PATH", help="The configuration of a checkpoint given as PATH."),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
        ]
    )


def elsewhere() -> Callable:
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


def parallel() -> Callable:
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


def reports() -> Callable:
    """--montage, --record, --quiet."""
    file = click.Path(dir_okay=False, path_type=Path)
    return _all(
        [
            click.option("--montage", type=file, help="Write a PNG: slices with the outlines and the prompts."),
            click.option("--record", type=file, help="Write a JSON record, for 'biosam2 replay'."),
            click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
        ]
    )


def propagation() -> Callable:
    """--first, --last, --direction, --policy, --speed, --crop, --exact."""
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
                "sam2: SAM 2's own, with what earlier sweeps left behind the start.",
            ),
            click.option(
                "--speed",
                type=Speed(),
                help="Short cuts by name: -encoder or -attention leave an exact one out; stop=8 ends where the target "
                "has been absent from 8 slices, local follows corrections only (approximate).",
            ),
            crop(),
            exact(),
        ]
    )


def crop() -> Callable:
    """--crop."""
    return click.option(
        "--crop",
        type=click.Choice(["auto", "none"]),
        help="auto (the default): a target that fills less than a quarter of the frame is looked at closely. "
        "Approximate: results differ from SAM 2's own.",
    )


def exact() -> Callable:
    """--exact."""
    return click.option("--exact", is_flag=True, help="What SAM 2's own predictor gives: nothing approximate.")


def _all(options: list[Callable]) -> Callable:
    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _coordinates(text: str, count: int) -> tuple[float, ...] | None:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count or not all(re.fullmatch(_NUMBER, part) for part in parts):
        return None
    return tuple(float(part) for part in parts)


def _comma(names) -> str:
    return ",".join(name.upper() for name in names)
