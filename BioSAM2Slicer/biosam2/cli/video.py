"""biosam2 video: the frames of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .grammar import OrderedCommand
from .run import run

_EXISTING = click.Path(path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=OrderedCommand)
@click.argument("video", type=_EXISTING)
@click.option("-o", "--output", type=_EXISTING, required=True, help="A folder: one PNG a frame, and overlay.mp4.")
@options.prompts()
@click.option("--window", type=options.Window(), help="Of the network's input; default: robust percentiles.")
@options.propagation()
@options.network()
@options.elsewhere()
@options.reports()
@click.option(
    "--slice", "slice_index", type=click.IntRange(min=0), metavar="N", help="Of a sequence of volumes: which to follow."
)
@click.option("--areas", type=_FILE, help="Write a CSV: each segment's area on each frame, in pixels, mm² and seconds.")
@click.option("--overlay", type=_FILE, help="Write the video with the segments in colour: .mp4.")
def video(video: Path, **given: Any) -> None:
    """Segment a video: mp4, avi, a folder of frames, a DICOM cine, or 3D Slicer's .seq.nrrd. K is the frame, from 0.

    A pixel of a PNG is the segment's number, 0 where there is none. An output named .seq.nrrd is a sequence of
    labelmaps for 3D Slicer, one named .nrrd, .nii.gz … a segmentation of the frames as slices.

    \b
    biosam2 video cine.dcm -o masks/ --segment valve --point 150,120,0
    biosam2 video cine.dcm -o valve.seq.nrrd --areas valve.csv --segment valve --point 150,120,0
    """
    run("video", source=video, **given)
