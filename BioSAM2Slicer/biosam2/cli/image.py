"""biosam2 image: one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .grammar import OrderedCommand
from .run import run

_EXISTING = click.Path(path_type=Path)


@click.command(cls=OrderedCommand)
@click.argument("image", type=_EXISTING)
@click.option("-o", "--output", type=_EXISTING, required=True, help=".png, or a segmentation: .seg.nrrd, .nii.gz …")
@options.prompts("ij")
@click.option("--window", type=options.Window(), help="Of the network's input; default: robust percentiles.")
@options.crop()
@options.exact()
@options.network()
@options.elsewhere()
@options.reports()
def image(image: Path, **given: Any) -> None:
    """Segment one image: PNG, JPEG, TIFF, DICOM, or a volume of one slice.

    A PNG output is white where the segment is; with several segments a pixel's value is the segment's number.

    \b
    biosam2 image skin.jpg -o mole.png --box 40,30:180,160 --montage look.png
    """
    run("image", source=image, **given)
