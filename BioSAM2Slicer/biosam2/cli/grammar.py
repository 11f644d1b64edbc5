"""Which prompt belongs to which segment: options whose order on the command line counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import click

from ..prompts import BY_NAME

CoordinateSystem = Literal["ijk", "lps", "ras"]

DEFAULT_SEGMENT = "segment"

_ORDERED = ("segment", *BY_NAME, "start", "lps", "ras", "ijk")


@dataclass(frozen=True)
class PlacesText:
    """A prompt that is made of places, as they were typed or marked.

    Attributes:
        kind: its name, as in `prompts.BY_NAME`.
        places: in the coordinate system that holds there; a box's are opposite corners, or all of a turned one.
        positive: whether it marks what belongs to the segment.
        system: of the places.
    """

    kind: str
    places: tuple[tuple[float, ...], ...]
    positive: bool = True
    system: CoordinateSystem = "ijk"


@dataclass(frozen=True)
class MarkupText:
    """A markups file of 3D Slicer, as it was typed.

    Attributes:
        kind: of the prompts that it holds, see `PlacesText`.
        path: of the file.
        positive: whether they mark what belongs to the segment; None: as the file's name says.
    """

    kind: str
    path: Path
    positive: bool | None = None


@dataclass(frozen=True)
class MaskText:
    """A labelmap as it was typed: a file, one slice of it or all, one label of it or all."""

    path: Path
    slice_index: int | None = None
    label: int | None = None


@dataclass(frozen=True)
class StartText:
    """A labelmap that a segment starts from, as it was typed."""

    path: Path
    label: int | None = None


PromptText: TypeAlias = PlacesText | MarkupText | MaskText | StartText


class OrderedCommand(click.Command):
    """A command that also gets its prompt options in the order in which they were typed.

    click hands each option its own values; here the function gets one list, ``prompts``, of (segment, prompt).
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, then put the prompts in order."""
        _, _, occurrences = self.make_parser(ctx).parse_args(list(args))
        rest = super().parse_args(ctx, args)
        taken = {name: ctx.params.pop(name) for name in _ORDERED if name in ctx.params}
        values = {name: iter(value) for name, value in taken.items() if isinstance(value, tuple)}
        typed = [(p.name, next(values[p.name], None) if p.name in values else None) for p in occurrences]
        # Those of a table's row may lie in files, and --cases has them in its table.
        elsewhere = bool(ctx.params.get("cases") or (ctx.obj or {}).get("prompts"))
        ctx.params["prompts"] = list(assign(typed, ctx, elsewhere))
        return rest


def assign(
    typed: Sequence[tuple[str | None, Any]], ctx: click.Context | None = None, elsewhere: bool = False
) -> Iterator[tuple[str, PromptText]]:
    """(segment, prompt) in order of typing.

    Args:
        typed: (option, value) in order; options that are none of the prompt options are passed over.
        ctx: of the command, for its error messages.
        elsewhere: whether there are other prompts, so that none need be typed.

    Raises:
        click.UsageError: a segment without a prompt or without a name, or no prompt at all.
    """
    segment = DEFAULT_SEGMENT
    system: CoordinateSystem = "ijk"
    named: list[str] = []
    prompted: set[str] = set()
    corrected = False
    for option, value in typed:
        if option == "segment":
            segment = value.strip()
            if not segment or not segment.isprintable():
                raise click.UsageError(f"--segment needs a name, not {value!r}", ctx)
            named.append(segment)
        elif option in ("lps", "ras", "ijk"):
            system = option  # type: ignore[assignment]
        elif option == "start" or option in BY_NAME:
            prompted.add(segment)
            corrected |= option != "start"
            if isinstance(value, PlacesText):
                value = replace(value, system=system)
            yield segment, value
    if not corrected and not elsewhere:
        raise click.UsageError("nothing says what to segment; give --point, --box or --mask", ctx)
    for name in named:
        if name not in prompted:
            raise click.UsageError(f"--segment {name} has no prompt; give --point, --box or --mask after it", ctx)
