"""biosam2 segment: a volume, or a table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .cohort import run_cohort
from .grammar import OrderedCommand
from .job import Where
from .run import run

_EXISTING = click.Path(path_type=Path)


@click.command(cls=OrderedCommand)
@click.argument("image", type=_EXISTING, required=False)
@click.option("-o", "--output", type=_EXISTING, help=".seg.nrrd, .nrrd, .nii.gz, .mha, .dcm (SEG).")
@click.option(
    "--cases",
    type=_EXISTING,
    metavar="TABLE.csv",
    help="Many volumes instead: columns image, output, and prompts (the words as here) or markups (3D Slicer's "
    ".mrk.json, several with | between); paths are relative to the table.",
)
@options.parallel()
@click.option(
    "--results",
    type=_EXISTING,
    metavar="TABLE.csv",
    help="With --cases: a line for each volume as it is finished. What it says was segmented is not done again.",
)
@options.prompts()
@options.millimetres()
@click.option("--axis", type=click.Choice(options.AXES), default="k", show_default=True, help="Slices run along it.")
@click.option("--window", type=options.Window(), help="Of the network's input; default: robust percentiles.")
@options.propagation()
@click.option("--series", metavar="UID", help="Which series of a DICOM folder.")
@options.network()
@options.elsewhere()
@options.reports()
def segment(
    image: Path | None,
    output: Path | None,
    cases: Path | None,
    jobs: int,
    cluster: str | None,
    results: Path | None,
    **given: Any,
) -> None:
    """Segment a volume: prompts on some slices, masks on all.

    IMAGE is NRRD, NIfTI, MetaImage, or a DICOM file or folder. The order of the prompts counts: --segment starts a
    segment, and the prompts after it are its own. A box over several slices prompts its middle slice and bounds the
    propagation.

    \b
    biosam2 segment ct.nrrd -o liver.seg.nrrd --segment lesion --point 120,98,12 --point 90,98,12,-
    biosam2 segment mr.nii.gz -o t.nii.gz --axis coronal --segment tumour --ras --box -10,22,5:14,22,30
    biosam2 segment --cases cohort.csv --jobs 4
    """
    if cases is not None:
        if image is not None or output is not None or given["prompts"] or given["montage"] or given["record"]:
            raise click.UsageError("--cases has images, outputs, prompts and reports in its table; leave them out here")
        Where(*(given[name] for name in ("model", "config", "device", "worker", "server")))  # before any row is begun
        run_cohort(segment, cases, given, jobs, cluster, given["quiet"], results)
        return
    if image is None or output is None:
        raise click.UsageError("give IMAGE and -o OUTPUT, or a table of them with --cases")
    if jobs > 1 or cluster is not None or results is not None:
        raise click.UsageError("--jobs, --cluster and --results are for the many volumes of --cases")
    run("segment", source=image, output=output, **given)
