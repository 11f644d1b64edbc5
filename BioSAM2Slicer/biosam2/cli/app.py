"""The command tree."""

from __future__ import annotations

import click

from .. import __version__
from .data import data
from .evaluate import evaluate
from .image import image
from .info import info
from .models import models
from .replay import replay
from .segment import segment
from .serve import serve
from .train import train
from .video import video
from .worklist import worklist


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="biosam2")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """BioSAM-2: prompt an image, a volume or a video, and get masks.

    Exit codes: 0 done, 2 something you can mend (one line says what), 130 stopped, 1 an internal error.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (segment, image, video, replay, models, info, data, worklist, train, evaluate, serve):
    cli.add_command(_command)
