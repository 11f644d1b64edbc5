"""biosam2 segment --cases: a row of a table for each volume, run side by side."""

from __future__ import annotations

import contextlib
import csv
import io
import shlex
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from ..errors import BioSAM2Error, InputError
from ..io.guards import existing
from .cohort_results import CohortResults
from .markups import read_markups
from .progress import ProgressBar
from .run import run

_COLUMNS = ("image", "output", "prompts", "markups")
_BETWEEN = "|"
_TOO_MANY = "too many cells: put those with commas in quotes"


@dataclass(frozen=True)
class CohortRow:
    """One volume.

    Attributes:
        where: the table and its line, for messages.
        arguments: of the segmentation.
    """

    where: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class RowResult:
    """What became of a row: what the command would have said, or why it failed."""

    row: CohortRow
    said: str = ""
    failure: str = ""
    details: str = ""
    seconds: float = 0.0


def run_cohort(
    command: click.Command,
    table: Path,
    shared: Mapping[str, Any],
    jobs: int,
    cluster: str | None,
    quiet: bool,
    results: Path | None = None,
) -> None:
    """Segment every volume of a table; one that fails is named and does not end the others.

    Args:
        command: ``segment``, which reads the words in the column ``prompts``.
        table: CSV with the columns image, output, and prompts or markups; paths are relative to it.
        shared: options of the command line, for all rows; a row's own words go before them.
        jobs: how many processes; see `in_parallel`.
        cluster: a scheduler instead; see `in_parallel`.
        quiet: show no progress.
        results: table of what became of each volume; what it says was segmented is not segmented again.

    Raises:
        InputError: the table is damaged, or rows failed.
        OutputError: `results` cannot be written.
    """
    from ..parallel import in_parallel

    rows = read_table(command, table, shared)
    kept = CohortResults(results) if results is not None else None
    todo = [row for row in rows if kept is None or not kept.has(row.arguments)]
    # The first few are enough for the last line; the others were told, and are in the table.
    failures: list[str] = []
    failed = 0
    with ProgressBar(len(rows), "segmented", "volumes", quiet=quiet) as progress:
        for _ in range(len(rows) - len(todo)):
            progress.advance()
        for done in in_parallel(segment_row, todo, jobs, cluster, lost=lambda row, why: RowResult(row, failure=why)):
            progress.advance()
            if kept is not None:
                kept.add(done.row.arguments, done.seconds, done.failure)
            if done.failure:
                failed += 1
                failure = f"{done.row.where}: {done.failure}"
                failures = [*failures, failure][:3]
                click.echo(f"biosam2: warning: {failure}", err=True)
                if done.details:
                    click.echo(done.details, err=True)
            else:
                click.echo(done.said, nl=False)
    if failed:
        raise InputError(f"{failed} of {len(rows)} volumes were not segmented: {'; '.join(failures)}")


def read_table(command: click.Command, table: Path, shared: Mapping[str, Any]) -> list[CohortRow]:
    """The rows, each with all that its segmentation needs.

    Raises:
        InputError: a row cannot be understood, or two would write one file.
    """
    try:
        with open(existing(table), encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restkey=_TOO_MANY)
            cells = [({k: v for k, v in row.items() if v}, f"{table}, line {reader.line_num}") for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{table} is not a CSV table: {error}") from error
    if not cells:
        raise InputError(f"{table} has no rows; its columns are {', '.join(_COLUMNS)}")
    rows = [_row(command, where, row, table.absolute().parent, shared) for row, where in cells]
    outputs = Counter(row.arguments["output"] for row in rows)
    for row in rows:
        if outputs[row.arguments["output"]] > 1:
            raise InputError(f"{row.where}: another row writes {row.arguments['output']} too; give each its own output")
    return rows


def segment_row(row: CohortRow) -> RowResult:
    """Do a row, in whatever process; what goes wrong is told, so that other rows go on."""
    said = io.StringIO()
    begun = time.perf_counter()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run("segment", **{**row.arguments, "quiet": True})
    except (BioSAM2Error, click.ClickException) as error:
        return RowResult(row, failure=error.format_message() if isinstance(error, click.ClickException) else str(error))
    except Exception as error:  # noqa: BLE001 - one volume's fault, of whatever kind, must not end the others
        return RowResult(row, failure=f"{type(error).__name__}: {error}", details=traceback.format_exc())
    return RowResult(row, said.getvalue(), seconds=time.perf_counter() - begun)


def _row(
    command: click.Command, where: str, cells: Mapping[str, Any], folder: Path, shared: Mapping[str, Any]
) -> CohortRow:
    unknown = sorted(set(cells) - set(_COLUMNS))
    if unknown or not {"image", "output"} <= set(cells) or not {"prompts", "markups"} & set(cells):
        more = f", and nothing else ({', '.join(unknown)})" if unknown else ""
        raise InputError(f"{where}: a row needs image, output, and prompts or markups{more}")
    image, output = folder / cells["image"].strip(), folder / cells["output"].strip()
    words = [str(image), "-o", str(output), *_words(cells.get("prompts", ""), where)]
    marked = [read_markups(folder / part.strip()) for part in cells.get("markups", "").split(_BETWEEN) if part.strip()]
    prompts = [prompt for own in marked for prompt in own]
    try:
        # A row whose prompts are markups alone has no words that would say so.
        context = command.make_context("segment", words, obj={"prompts": bool(prompts)})
    except click.ClickException as error:
        raise InputError(f"{where}: {error.format_message()}") from error
    except click.exceptions.Exit as error:
        raise InputError(f"{where}: the prompts ask for help, not for a segmentation") from error
    own = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    typed = [(segment, _moved(text, folder)) for segment, text in context.params["prompts"]]
    left_out = ("image", "cases", "jobs", "cluster", "results")
    arguments = {name: value for name, value in {**shared, **own}.items() if name not in left_out}
    return CohortRow(where, {**arguments, "source": image, "output": output, "prompts": [*prompts, *typed]})


def _words(text: str, where: str) -> Sequence[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"{where}: the prompts {text!r} cannot be taken apart ({error})") from error


def _moved(text: Any, folder: Path) -> Any:
    """A prompt whose file is relative to the table."""
    return replace(text, path=folder / text.path) if hasattr(text, "path") else text
