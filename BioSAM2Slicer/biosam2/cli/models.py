"""biosam2 models: list, download, check, add, verify, remove."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import DownloadError
from .outcome import check_stopped

if TYPE_CHECKING:
    from rich.progress import Progress


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """The models that there are, and how to get them."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@models.command("list")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option(
    "--for",
    "modality",
    metavar="MODALITY",
    help="Say too which one to begin with for CT, MR, PT, US, ES … on a GPU, on a CPU and without a network.",
)
@click.option("--target", metavar="WORDS", help='With --for: what you want to outline, such as "liver lesion".')
def list_(quiet: bool, modality: str | None, target: str | None) -> None:
    """List all models: shipped, to be downloaded, and your own."""
    from ..models import list_models
    from ..models.recommendation import recommendation_line

    if target is not None and modality is None:
        raise click.UsageError("--target goes with --for MODALITY")
    if quiet and modality is not None:
        raise click.UsageError("--quiet lists names only; leave it out with --for")
    entries = list_models()
    if quiet:
        click.echo("\n".join(entry.name for entry in entries))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "here", "pixels", "MB", "licence", "for"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("pixels", "MB") else "left")
    for entry in entries:
        size = entry.path.stat().st_size if entry.present else entry.size
        table.add_row(
            entry.name,
            "yes" if entry.present else "no",
            str(entry.image_size),
            f"{size / 1e6:.0f}" if size else "",
            entry.conditions,
            entry.description,
        )
    # Piped output is for other programs: one line a model, however long.
    width = None if sys.stdout.isatty() else 240
    console = Console(width=width, highlight=False)
    with console.capture() as text:  # rich would end the process when the reader goes away
        console.print(table)
    click.echo(text.get(), nl=False)
    if modality is not None:
        click.echo(f"\n{recommendation_line(modality, target=target or '')}")


@models.command()
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def download(name: str, quiet: bool) -> None:
    """Download a model. A broken or stopped download goes on where it was."""
    from ..models import get
    from ..models.download import download as fetch

    entry = get(name)
    if entry.licence and not entry.present and not quiet:
        click.echo(f"{entry.name}: licence {entry.licence}{f' ({entry.licence_url})' if entry.licence_url else ''}")
        if entry.terms:
            click.echo(f"{entry.name}: {entry.terms}{f' ({entry.terms_url})' if entry.terms_url else ''}")
    with _Transfer(entry.name, quiet) as transfer:
        path = fetch(entry, progress=transfer.show)
    click.echo(f"{entry.name} is at {path}")


@models.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for all addresses together.",
)
def check(names: tuple[str, ...], as_json: bool, timeout: float) -> None:
    """Ask the addresses of models whether their files are still there. Nothing is downloaded.

    Of each file the size and, where its host tells one, the hash are compared with the registry; the pages of the
    licences are asked for too. Exit code 0 if all fit, 2 otherwise. Without NAMES: all models to be downloaded.
    """
    from ..models import get
    from ..models.check import check as ask

    findings = ask([get(name) for name in names] or None, seconds=timeout)
    wrong = [one for one in findings if one.state != "good"]
    reasons = {one.detail for one in findings if one.state == "unreachable"}
    if as_json:
        click.echo(json.dumps({"good": not wrong, "addresses": [asdict(one) for one in findings]}, indent=1))
    elif len(reasons) == 1 and all(one.state == "unreachable" for one in findings):
        raise DownloadError(f"none of {len(findings)} addresses was reached: {reasons.pop()}")
    else:
        for one in findings:
            click.echo(f"{one.subject}: {one.state}, {one.detail} ({one.url})")
    if wrong:
        raise DownloadError(f"{len(wrong)} of {len(findings)} addresses are not as the registry says")


@models.command()
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--config", required=True, metavar="NAME|PATH", help="A YAML file, or a name such as sam2.1_hiera_t.")
@click.option("--name", help="What to call it; default: the file's name.")
@click.option("--licence", default="", help="Of the weights.")
@click.option("--description", default="", help="What it is for.")
@click.option("--replace", is_flag=True, help="Replace your model of that name.")
def add(checkpoint: Path, config: str, name: str | None, licence: str, description: str, replace: bool) -> None:
    """Add your own checkpoint (.pt or .safetensors); it is checked and copied."""
    from .. import models as registry

    entry = registry.add(checkpoint, config, name, description=description, licence=licence, replace=replace)
    click.echo(f"added {entry.name}; use it with --model {entry.name}")


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare model files with the registry: size and SHA-256. Without NAMES: all that are here."""
    from .. import models as registry

    for name in names or [entry.name for entry in registry.list_models() if entry.present]:
        click.echo(f"{name}: good, SHA-256 {registry.verify(name)}")


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a downloaded model's file, or a model of your own."""
    from .. import models as registry

    registry.remove(name)
    click.echo(f"removed {name}")


class _Transfer:
    """Progress of a download: a bar with speed and ETA on a terminal, a line every tenth elsewhere."""

    def __init__(self, name: str, quiet: bool) -> None:
        self._name = name
        self._lines = not quiet and not sys.stderr.isatty()
        self._bar = None if quiet or self._lines else _bar()
        self._task = None if self._bar is None else self._bar.add_task(name, total=None)
        self._tenth = -1
        self._start = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> _Transfer:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, received: int, total: int) -> None:
        """Called by the download with bytes received and in all."""
        check_stopped()
        if self._first is None:
            self._first = received
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=received, total=total)
        elif self._lines and 10 * received // max(total, 1) != self._tenth:
            self._tenth = 10 * received // max(total, 1)
            rate = (received - self._first) / max(time.monotonic() - self._start, 1e-6)
            left = f", {(total - received) / rate:.0f} s left" if rate > 0 else ""
            click.echo(
                f"{self._name}: {received / 1e6:.0f}/{total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s{left}", err=True
            )


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
