"""Progress of long work: a bar with rate and ETA on a terminal, a line every tenth of the way elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

from .outcome import check_stopped

if TYPE_CHECKING:
    from rich.progress import Progress


class ProgressBar:
    """Counts steps of known total; use as a context manager.

    Args:
        total: how many steps there will be.
        label: what is being done, for example ``lesion``.
        unit: what a step is, in the plural.
        quiet: show nothing; steps still notice Ctrl-C.

    Example:
        >>> with ProgressBar(25, "lesion", "slices") as progress:
        ...     for update in session.propagate():
        ...         progress.advance()
    """

    def __init__(self, total: int, label: str, unit: str, *, quiet: bool = False) -> None:
        self._total, self._label, self._unit = total, label, unit
        self._done = self._resumed = 0
        self._shown = -1
        self._start = time.monotonic()
        self._lines = not quiet and not sys.stderr.isatty()
        self._bar = None if quiet or self._lines else _bar()

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, unit=self._unit, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def resume(self, done: int) -> None:
        """Count steps of an earlier run as done; they are no part of the rate."""
        self._done = self._resumed = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def advance(self, steps: int = 1) -> None:
        """Count steps as done."""
        check_stopped()
        self._done += steps
        rate = (self._done - self._resumed) / max(time.monotonic() - self._start, 1e-6)
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, rate=f"{rate:.1f} {self._unit}/s")
        elif self._lines:
            self._line(rate)

    def _line(self, rate: float) -> None:
        tenth = 10 * self._done // max(self._total, 1)
        if tenth == self._shown:
            return
        self._shown = tenth
        left = max(self._total - self._done, 0) / rate
        click.echo(
            f"{self._label}: {self._done}/{self._total} {self._unit}, {rate:.1f} {self._unit}/s, {left:.0f} s left",
            err=True,
        )


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
