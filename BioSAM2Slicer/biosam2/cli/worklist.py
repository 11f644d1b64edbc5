"""biosam2 worklist: make, show, set, release, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..worklist import Claim, WorkCase

_PATH = click.Path(path_type=Path)
# datasets.work_table.STATES and datasets.CASE_KINDS have them; importing those would import readers. A test compares.
STATES = ("new", "in work", "to be looked at", "approved")
KINDS = ("2D", "3D", "video")


@click.group(invoke_without_command=True)
@click.pass_context
def worklist(ctx: click.Context) -> None:
    """Lists of cases to work through, shared or your own; approved work is training data."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@worklist.command()
@click.argument("source", type=_PATH, metavar="FOLDER|MANIFEST")
@click.option("-o", "--output", type=_PATH, required=True, help="The list: .csv. One that is there gets what it lacks.")
@click.option("--kind", type=click.Choice(KINDS), help="Of all cases; 'video' makes a folder of pictures one case.")
@click.option("--modality", default="", help="CT, MR, US …, instead of what the files say.")
@click.option(
    "--segment", "segments", multiple=True, metavar="NAME[=#RRGGBB]",
    help="A segment that each case gets, or its new colour; may be repeated. "
    "By default the targets of a labelled dataset.",
)  # fmt: skip
@click.option("--window", type=options.Window(), help="That each case is shown with; default: robust percentiles.")
def make(source: Path, output: Path, kind: Any, modality: str, segments: tuple[str, ...], window: Any) -> None:
    """Make a worklist of the images in a FOLDER, labelled or not, or of a dataset's MANIFEST.

    Each volume, picture, video and DICOM series is a case; masks are left out. Segmentations will lie in a folder
    beside the list. Segments and window of each case stand in LIST.template.json, which may be edited; made again, a
    list keeps there what is not typed.

    \b
    biosam2 worklist make scans/ -o liver.csv --segment liver --segment lesion=#d62728 --window abdomen
    """
    from ..worklist.making import find_work, make_worklist, template_of
    from ..worklist.template import read_template, template_path

    cases, targets = find_work(source, kind, modality)
    earlier = read_template(template_path(output)) if template_path(output).exists() else None
    names = segments or (tuple(targets) if earlier is None else ())
    template = template_of(names, window, earlier) if names or window is not None else None
    made, added = make_worklist(output, cases, template)
    for case in added:
        click.echo(f"{case.name}: {case.kind}, {case.modality or 'no modality'}")
    rest = len(made.cases) - len(added)
    click.echo(f"wrote {output}: {len(added)} cases" + (f" added to {rest}" if rest else ""))
    if template is not None:
        click.echo(f"wrote {template_path(output)}")


@worklist.command()
@click.argument("path", type=_PATH, metavar="LIST")
@click.option("--state", type=click.Choice(STATES), help="Only cases of this state.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with seconds and interactions of each case.")
def show(path: Path, state: str | None, as_json: bool) -> None:
    """Show the cases of a LIST: state, seconds, interactions, and who has one open."""
    from ..worklist import Worklist

    found = Worklist(path)
    cases = found.cases
    claims = found.claims(cases)
    chosen = [case for case in cases if state in (None, case.state)]
    if as_json:
        import json

        click.echo(json.dumps([_facts(case, claims.get(case.name)) for case in chosen], indent=1, ensure_ascii=False))
        return
    for case in chosen:
        click.echo(_line(case, claims.get(case.name)))
    click.echo(", ".join(f"{sum(c.state == name for c in cases)} {name}" for name in STATES))
    done = [case for case in cases if case.state == "approved" and case.seconds]
    if done:
        from statistics import median

        click.echo(
            f"approved cases took {median(c.seconds for c in done):.0f} s and "
            f"{median(c.interactions for c in done):g} interactions (medians of {len(done)})"
        )


@worklist.command("set")
@click.argument("path", type=_PATH, metavar="LIST")
@click.argument("names", nargs=-1, required=True, metavar="CASE...")
@click.option("--state", type=click.Choice(STATES), required=True)
def set_state(path: Path, names: tuple[str, ...], state: Any) -> None:
    """Change the state of cases of a LIST; one that is open elsewhere is refused."""
    from ..worklist import Worklist

    found = Worklist(path)
    for name in names:
        found.set_state(name, state)
        click.echo(f"{name}: {state}")


@worklist.command()
@click.argument("path", type=_PATH, metavar="LIST")
@click.argument("names", nargs=-1, required=True, metavar="CASE...")
def release(path: Path, names: tuple[str, ...]) -> None:
    """Mark cases of a LIST as closed that were left open on a computer that is gone.

    Who has one open after all cannot save it any more.
    """
    from ..worklist import Worklist

    found = Worklist(path)
    for name in names:
        claim = found.release(name)
        click.echo(f"{name}: was not open" if claim is None else f"{name}: was open for {claim}")


@worklist.command()
@click.argument("path", type=_PATH, metavar="LIST")
@click.option("-o", "--output", type=_PATH, required=True, help="A folder, which is made.")
@click.option("--format", "ending", default=".dcm", show_default=True, help=".dcm (SEG), .seg.nrrd, .nrrd, .nii.gz …")
@click.option("--state", type=click.Choice(STATES), default="approved", show_default=True, help="Which cases.")
def export(path: Path, output: Path, ending: str, state: Any) -> None:
    """Write the approved segmentations of a LIST in another format, with their records.

    A DICOM SEG says how many slices of each segment a person looked at, who approved it and when.
    """
    from ..worklist import Worklist
    from ..worklist.exporting import export as write
    from .outcome import check_stopped

    for written in write(Worklist(path), output, ending if ending.startswith(".") else f".{ending}", state):
        check_stopped()
        click.echo(f"wrote {written}")


def _line(case: WorkCase, claim: Claim | None) -> str:
    facts: list[str] = [case.state]
    if case.seconds or case.interactions:
        facts.append(f"{case.seconds:.0f} s, {case.interactions} interactions")
    if case.by:
        facts.append(f"{case.by} {case.changed}")
    if claim is not None:
        facts.append(f"open: {claim}")
    return f"{case.name}: {'; '.join(facts)}"


def _facts(case: WorkCase, claim: Claim | None) -> dict[str, Any]:
    return {
        "name": case.name,
        "image": str(case.image),
        "segmentation": str(case.segmentation),
        "state": case.state,
        "seconds": case.seconds,
        "interactions": case.interactions,
        "changed": case.changed,
        "by": case.by,
        "open": None if claim is None else {"user": claim.user, "host": claim.host, "since": claim.since},
    }
