"""biosam2 train: nano."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from ..errors import DependencyError


@click.group(invoke_without_command=True)
@click.pass_context
def train(ctx: click.Context) -> None:
    """Train networks."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@train.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default="runs/nano", show_default=True, help="A folder.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Save and stop after this long; run again to go on.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the data, the prompts and the first weights.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the training process.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that make the data.")
def nano(out: Path, **given: Any) -> None:
    """Train the shipped model from data that is generated on the way.

    The folder holds the state, the TensorBoard log and nano.safetensors. Stopped or started again, the run goes on
    where it last saved.
    """
    try:
        from ..training.nano import NanoSettings, train_nano
    except ImportError as error:
        raise DependencyError(f"training needs {error.name}; pip install 'biosam2[train]'") from error

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    click.echo(f"training in {out}; after Ctrl-C the same command goes on where it last saved", err=True)
    path = train_nano(out, NanoSettings(**{name: value for name, value in given.items() if value is not None}))
    click.echo(f"wrote {path}")
