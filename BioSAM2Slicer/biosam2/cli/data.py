"""biosam2 data: make, check, add, pack."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError

if TYPE_CHECKING:
    from ..datasets.checking import CaseFinding

_PATH = click.Path(path_type=Path)
# datasets.finding.LAYOUTS and datasets.CASE_KINDS have them; importing those would import readers. A test compares.
LAYOUTS = (
    "amos22", "flare22", "totalsegmentator", "acdc", "camus", "busi", "endovis17", "endovis18", "kvasir-seg", "isic",
    "drive", "chase-db1", "montgomery", "neurips-cells", "msd", "nnunet", "davis", "npz", "dicom", "pairs",
)  # fmt: skip
KINDS = ("2D", "3D", "video")


class Named(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    """``NAME[=VALUE,VALUE]``: a target and the label values, or the colours ``#RRGGBB``, that it is made of."""

    name = "target"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME[=VALUE,...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        if isinstance(value, tuple):
            return value
        name, _, numbers = value.partition("=")
        from ..datasets.case import read_value

        try:
            values = tuple(read_value(part.strip()) for part in numbers.split(",") if part.strip())
        except ValueError:
            values = (-1,)
        if not name.strip() or min(values, default=0) < 0:
            self.fail(f"{value!r} is not NAME or NAME=VALUE,VALUE with whole numbers or #RRGGBB", param, ctx)
        return name.strip(), values


def _options(function: Any) -> Any:
    for option in (
        click.option("--target", "targets", type=Named(), multiple=True, help="Instead of what the files name."),
        click.option("--split", default="", help="train, val, test …, where the files do not say it."),
        click.option("--modality", default="", help="CT, MR, US …, instead of what the files say."),
    ):
        function = option(function)
    return function


@click.group(invoke_without_command=True)
@click.pass_context
def data(ctx: click.Context) -> None:
    """Datasets: what to train and to measure on."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@data.command()
@click.argument("folder", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="The manifest: .csv or .json.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="By default it is recognised.")
@click.option("--channel", type=click.IntRange(min=0), default=0, show_default=True, help="Of images with several.")
@click.option(
    "--splits",
    "split_files",
    type=_PATH,
    multiple=True,
    help="Which case is in which split: train.txt, a JSON, nnU-Net's splits_final.json. May be repeated.",
)
@click.option("--fold", type=click.IntRange(min=0), default=0, show_default=True, help="Of split files with several.")
@click.option("--only", default="*", show_default=True, metavar="PATTERN", help="Cases by name, as in 'amos_05*'.")
@click.option("--instances", type=click.IntRange(min=1), help="Of cells: so many of each image; by default all.")
@click.option(
    "--pieces",
    type=click.IntRange(min=1),
    metavar="N",
    help="Each connected piece of a target is a target of its own, the N largest of each: lesions one by one.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out cases that cannot be used, instead of refusing all.")
@_options
def make(
    folder: Path,
    output: Path,
    layout: str | None,
    channel: int,
    split_files: tuple[Path, ...],
    fold: int,
    only: str,
    instances: int | None,
    pieces: int | None,
    skip_bad: bool,
    modality: str,
    split: str,
    targets: Any,
) -> None:
    """Make the manifest of a FOLDER, and say what was found.

    Known as they are distributed: amos22, flare22, totalsegmentator, acdc, camus, busi, endovis17, endovis18,
    kvasir-seg, isic, drive, chase-db1, montgomery, neurips-cells. Any others: msd and nnunet (dataset.json), davis
    (JPEGImages, Annotations), npz (imgs, gts, spacing), dicom (images and DICOM SEG), pairs (x.png with x_mask.png,
    images/ with masks/, or a folder for each case with image and label).

    \b
    biosam2 data make amos22 -o amos.csv
    biosam2 data make Task09_Spleen -o spleen.csv --splits splits_final.json --fold 2
    biosam2 data make scans -o scans.csv --modality US --target lesion
    """
    from ..datasets import save_dataset
    from ..datasets.checking import refuse_misfits
    from ..datasets.finding import find_cases
    from ..datasets.layout import DatasetOptions
    from ..datasets.manifest import check_manifest_path
    from ..datasets.pieces import in_pieces
    from ..io.guards import existing

    check_manifest_path(output)
    options = DatasetOptions(modality, split, targets, channel, split_files, fold, instances)
    cases = [case for case in find_cases(existing(folder), layout, options) if fnmatch(case.name, only)]
    if not cases:
        raise InputError(f"{folder} has no case named {only!r}")
    if pieces is not None:
        cases = [in_pieces(case, pieces) for case in cases]
    findings = _check(cases)
    if skip_bad:
        for finding in findings:
            if finding.problem:
                click.echo(f"biosam2: warning: left out: {finding.problem}", err=True)
        findings = [finding for finding in findings if not finding.problem]
    refuse_misfits(findings)
    save_dataset(output, [finding.case for finding in findings])
    click.echo(f"wrote {output}")


@data.command()
@click.argument("dataset", type=_PATH)
@click.option("--root", type=_PATH, help="What a manifest's relative paths start from; by default its own folder.")
def check(dataset: Path, root: Path | None) -> None:
    """Open every case of a DATASET (a manifest, or a folder as for 'make') and say what it holds.

    Cases that cannot be read, or whose label does not lie on the image's voxels, are named; the exit code is then 2.
    """
    from ..datasets import load_dataset
    from ..datasets.checking import refuse_misfits

    refuse_misfits(_check(load_dataset(dataset, root=root)))


@data.command()
@click.argument("manifest", type=_PATH)
@click.argument("files", type=_PATH, nargs=-1, required=True, metavar="IMAGE LABEL | RECORD.json")
@click.option("--name", default="", help="Of the case; by default the image's.")
@click.option("--kind", type=click.Choice(KINDS), help="By default 2D for pictures and 3D for the rest.")
@_options
def add(manifest: Path, files: tuple[Path, ...], name: str, kind: Any, modality: str, split: str, targets: Any) -> None:
    """Add finished work to a MANIFEST (.csv or .json; made if there is none).

    Either an image and its segmentation, such as 3D Slicer's .seg.nrrd, or the record that 'biosam2 segment --record'
    wrote, which names both.

    \b
    biosam2 data add corrected.csv ct.nrrd ct-corrected.seg.nrrd --modality CT --split train
    biosam2 data add corrected.csv run.json --split train
    """
    from ..datasets.adding import add_case, case_of_files, case_of_record
    from ..datasets.checking import line
    from ..datasets.layout import DatasetOptions
    from ..record import read as read_record

    options = DatasetOptions(modality, split, targets)
    if len(files) == 1:
        if kind is not None:
            raise click.UsageError("a record knows its kind; leave out --kind")
        case = case_of_record(files[0], read_record(files[0]), name, options)
    elif len(files) == 2:
        case = case_of_files(*files, name, options, kind)
    else:
        raise click.UsageError("give an image and its label, or one record")
    click.echo(line(add_case(manifest, case)))
    click.echo(f"added to {manifest}")


@data.command()
@click.argument("dataset", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="The packed dataset: .zip.")
@click.option("--split", "splits", multiple=True, help="Only cases of this split; may be repeated.")
@click.option("--size", type=click.IntRange(min=64), default=384, show_default=True, help="Of larger slices, then.")
@click.option(
    "--most", type=click.FloatRange(min=0, min_open=True), default=40, show_default=True, help="Of the file, MiB."
)
@click.option("--quality", type=click.IntRange(1, 95), default=90, show_default=True, help="Of JPEG.")
@click.option("--root", type=_PATH, help="What a manifest's relative paths start from; by default its own folder.")
def pack(
    dataset: Path, output: Path, splits: tuple[str, ...], size: int, most: float, quality: int, root: Path | None
) -> None:
    """Write a DATASET as one small file, to train on another machine.

    Voxels become 8 bits, as the network is shown them, and slices are reduced to a size. Where there is no room for all
    cases, each source gives as many as the others. 'biosam2 train' takes the file as --data.
    """
    from ..datasets import load_dataset
    from ..datasets.packing import pack as write
    from .outcome import check_stopped

    cases = load_dataset(dataset, root=root)
    if splits:
        there = {case.split for case in cases}
        for asked in splits:
            if asked not in there:
                raise InputError(f"there is no split {asked!r}; there are {', '.join(map(repr, sorted(there)))}")
        cases = [case for case in cases if case.split in splits]
    packed = write(output, cases, size=size, most=most, quality=quality, report=lambda case: check_stopped())
    if packed.left_out:
        click.echo(
            f"biosam2: warning: {len(packed.left_out)} of {len(cases)} cases had no room "
            f"({packed.left_out[0]}, …); a smaller --size or --quality takes in more",
            err=True,
        )
    click.echo(
        f"wrote {output}: {len(packed.cases)} cases, {packed.megabytes:.1f} MiB; root mean square error of the images "
        f"{packed.error:.2%} of their range, {packed.worst:.2%} at most"
    )


def _check(cases: Any) -> list[CaseFinding]:
    from ..datasets.checking import check_all, line, summary
    from .outcome import check_stopped

    def report(finding: CaseFinding) -> None:
        check_stopped()
        click.echo(line(finding))

    findings = check_all(cases, report)
    click.echo("\n".join(summary(findings)))
    return findings
