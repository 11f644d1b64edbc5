"""biosam2 segment, image, video: the three pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..speed import Speed
from . import options
from .grammar import MaskText, OrderedCommand, PromptText, StartText

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
@options.prompts()
@options.millimetres()
@click.option("--axis", type=click.Choice(options.AXES), default="k", show_default=True, help="Slices run along it.")
@click.option("--window", type=options.Window(), help="What the network sees; default: robust percentiles.")
@options.propagation()
@click.option("--series", metavar="UID", help="Which series of a DICOM folder.")
@options.network()
@options.elsewhere()
@options.reports()
def segment(
    image: Path | None, output: Path | None, cases: Path | None, jobs: int, cluster: str | None, **given: Any
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
        from .cohort import run_cohort
        from .job import Where

        Where(*(given[name] for name in ("model", "config", "device", "worker", "server")))  # before any row is begun
        run_cohort(segment, cases, given, jobs, cluster, given["quiet"])
        return
    if image is None or output is None:
        raise click.UsageError("give IMAGE and -o OUTPUT, or a table of them with --cases")
    if jobs > 1 or cluster is not None:
        raise click.UsageError("--jobs and --cluster are for the many volumes of --cases")
    run("segment", source=image, output=output, **given)


@click.command(cls=OrderedCommand)
@click.argument("image", type=_EXISTING)
@click.option("-o", "--output", type=_EXISTING, required=True, help=".png, or a segmentation: .seg.nrrd, .nii.gz …")
@options.prompts("ij")
@click.option("--window", type=options.Window(), help="What the network sees; default: robust percentiles.")
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


@click.command(cls=OrderedCommand)
@click.argument("video", type=_EXISTING)
@click.option("-o", "--output", type=_EXISTING, required=True, help="A folder: one PNG a frame, and overlay.mp4.")
@options.prompts()
@click.option("--window", type=options.Window(), help="What the network sees; default: robust percentiles.")
@options.propagation()
@options.network()
@options.elsewhere()
@options.reports()
def video(video: Path, **given: Any) -> None:
    """Segment a video: mp4, avi, a folder of frames, or a DICOM cine. K is the frame, counted from 0.

    A pixel of a PNG is the segment's number, 0 where there is none. An output named .nrrd, .nii.gz … is a
    segmentation of the frames as slices.

    \b
    biosam2 video cine.dcm -o masks/ --segment valve --point 150,120,0
    """
    run("video", source=video, **given)


def run(
    pipeline: Any,
    *,
    source: Path,
    output: Path,
    prompts: list[tuple[str, PromptText]],
    model: str | None,
    config: str | None,
    device: str,
    exact: bool,
    crop: str | None,
    montage: Path | None,
    record: Path | None,
    quiet: bool,
    worker: bool,
    server: str | None,
    window: tuple[float, float] | str | None = None,
    axis: str = "k",
    policy: str | None = None,
    speed: Speed | None = None,
    direction: Any = "both",
    first: int | None = None,
    last: int | None = None,
    series: str | None = None,
) -> None:
    """Segment one input; the arguments are the options."""
    from .. import record as records
    from . import job

    job.check_exact(exact, crop, policy, speed)
    where = job.Where(model, config, device, worker, server)
    files = [text.path for _, text in prompts if isinstance(text, MaskText | StartText)]
    job.check_outputs(pipeline, output, (montage, record), [source, *files])
    input_sha256 = records.hash_input(source) if record else ""
    volume = job.read(pipeline, source, series)
    job.check_format(output, volume)
    located = job.locate(prompts, volume, axis)

    job.check_range(first, last, volume, axis)

    with job.open_session(
        where, volume, located, axis=axis, window=window, crop=crop, exact=exact, policy=policy, speed=speed
    ) as session:
        job.propagate(pipeline, session, quiet=quiet, direction=direction, first=first, last=last)

        job.write(pipeline, output, session)
        if montage is not None:
            job.write_montage(montage, session, anatomical=pipeline == "segment")
        if record is not None:
            written = [path for path in (output, montage) if path is not None]
            content = records.build(
                pipeline, source, input_sha256, series, session.model, model, config, session, written
            )
            records.write(record, content)
        job.report(pipeline, session, [output, montage, record])
