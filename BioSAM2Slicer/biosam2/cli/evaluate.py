"""biosam2 evaluate: how well models do on labelled cases."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import extras
from ..errors import InputError
from ..evaluation.ways import KINDS, PIPELINES, STANDARD
from . import options

if TYPE_CHECKING:
    from ..evaluation.summary import Mean
    from ..evaluation.tasks import Outcome

PROTOCOLS = ("biosam2", "medsam2", "radioactive")  # evaluation.protocol.PROTOCOLS
_FITTING = {"2D": "image", "3D": "volume", "video": "video"}
_PATH = click.Path(path_type=Path)


@click.command()
@click.option(
    "--data",
    "datasets",
    type=_PATH,
    required=True,
    multiple=True,
    help="A manifest (.csv, .json), or a folder; see 'biosam2 data'. May be repeated.",
)
@click.option("-o", "--output", type=_PATH, required=True, help="A folder for results.csv, results.json, report.html.")
@click.option("--model", "models", multiple=True, metavar="NAME|PATH", help="May be repeated.  [default: nano]")
@click.option("--config", metavar="NAME|PATH", help="Of checkpoints given as PATH that have no .yaml beside them.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--pipeline", "pipelines", type=click.Choice(PIPELINES), multiple=True,
    help="May be repeated; by default image, volume or video as the case is.",
)  # fmt: skip
@click.option(
    "--prompt",
    "prompts",
    type=click.Choice(KINDS),
    multiple=True,
    help="May be repeated.  [default: click1, click3, box, mask]",
)
@click.option("--rounds", type=click.IntRange(min=0), default=0, show_default=True, help="Of corrections.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True, help="Of NSD, in mm."
)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    help="Prompts, slices, windows, metrics and tolerances as published; see 'docs/reproduce.md'.",
)
@click.option("--table", is_flag=True, help="Write the models side by side as well: table.md, table.csv, table.tex.")
@click.option("--split", help="Only the cases of this split.")
@click.option("--only", default="*", show_default=True, metavar="PATTERN", help="Cases by name, as in 'mr-*'.")
@click.option("--root", type=_PATH, help="What a manifest's relative paths start from; by default its own folder.")
@click.option("--axis", type=click.Choice(options.AXES), default="k", show_default=True, help="Slices run along it.")
@click.option("--policy", type=click.Choice(options.POLICIES), default="path", show_default=True, help="Of the memory.")
@options.capacity()
@click.option(
    "--scope",
    type=click.Choice(["segment", "images"]),
    default="segment",
    show_default=True,
    help="Of the memory bank of --policy dissimilar. images: it goes on from case to case, as BioSAM-2's reference "
    "does; such a run is measured as a whole, each time.",
)
@click.option(
    "--merge",
    type=click.Choice(["progressive", "none"]),
    default="none",
    show_default=True,
    help="What a correcting click may change.",
)
@options.crop()
@click.option(
    "--beyond", type=click.IntRange(min=0), help="Slices beyond each end of the target; default: the whole volume."
)
@options.parallel()
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def evaluate(
    datasets: tuple[Path, ...],
    output: Path,
    models: tuple[str, ...],
    config: str | None,
    device: str,
    pipelines: tuple[Any, ...],
    prompts: tuple[Any, ...],
    rounds: int,
    tolerance: float,
    protocol: str | None,
    table: bool,
    split: str | None,
    only: str,
    root: Path | None,
    axis: str,
    policy: str,
    capacity: int | None,
    scope: Any,
    merge: str,
    crop: str | None,
    beyond: int | None,
    jobs: int,
    cluster: str | None,
    quiet: bool,
) -> None:
    """Measure models on labelled cases with a simulated user.

    Dice, normalised surface Dice, HD95 and IoU for each case, target and modality, with means and 95 % bootstrap
    intervals; with --rounds also after each correction. Stopped or started again, the run goes on where it was.

    \b
    biosam2 evaluate --data cases.csv -o result --model nano --model tuned.safetensors --prompt box --prompt click1
    biosam2 evaluate --data amos.csv -o result --protocol biosam2 --table --model sam2.1-small --model tuned.safetensors
    biosam2 evaluate --data cases.csv -o result --cluster tcp://10.0.0.1:8786
    """
    extras.require("evaluate" if cluster is None else "cluster", "measuring")
    from ..datasets import load_dataset
    from ..datasets.case import check_cases
    from ..evaluation.campaign import measure_all, networks_of, tasks_of, write_all, write_table
    from ..evaluation.protocol import Protocol, get_protocol
    from ..evaluation.results import Plan
    from ..evaluation.runs import EvaluationSettings
    from ..evaluation.summary import summarise
    from .progress import ProgressBar

    if protocol is not None and _given("tolerance"):
        raise click.UsageError(f"the protocol {protocol} has tolerances of its own; leave out --tolerance")

    loaded = [case for data in datasets for case in load_dataset(data, split, root)]
    check_cases(loaded, datasets[-1])
    cases = tuple(case for case in loaded if fnmatch(case.name, only))
    if not cases:
        raise InputError(f"{datasets[0]} has no case named {only!r}; see 'biosam2 data check'")
    fixed = Protocol(tolerance=tolerance) if protocol is None else get_protocol(protocol)
    # Published protocols have nothing approximate, unless it is asked for.
    crop = crop or ("auto" if protocol is None else "none")
    policy = policy if protocol is None or _given("policy") else "sam2"
    if protocol is None:
        chosen = pipelines or tuple(dict.fromkeys(_FITTING[case.kind] for case in cases))
        ways = tuple((pipeline, prompt) for pipeline in chosen for prompt in prompts or STANDARD)
    else:
        every = dict.fromkeys(way for case in cases for way in fixed.ways.get(case.kind, ()))
        ways = tuple(way for way in every if way[0] in (pipelines or PIPELINES) and way[1] in (prompts or KINDS))
        if not ways:
            raise InputError(
                f"the protocol {protocol} has none of these pipelines and prompts; leave out those options"
            )
    plan = Plan(
        cases,
        networks_of(models or ("nano",), config, device),
        ways,
        EvaluationSettings(
            axis=axis,
            crop=None if crop == "none" else "auto",
            policy=policy,
            capacity=capacity,
            scope=scope,
            merge=None if merge == "none" else "progressive",
            rounds=rounds,
            beyond=beyond,
        ),
        fixed,
        threads=1 if jobs > 1 or cluster else None,
    )
    with ProgressBar(len(tasks_of(plan)), "measured", "cases", quiet=quiet) as progress:

        def report(outcome: Outcome) -> None:
            progress.advance()
            if outcome.failure:
                who = f"{outcome.task.case.name}, {outcome.task.network.label}"
                click.echo(f"biosam2: warning: {who}: {outcome.failure}", err=True)
            if outcome.details:
                click.echo(outcome.details, err=True)

        measured = measure_all(plan, output, jobs, cluster, report)
    for path in (*write_all(measured, output), *(write_table(measured, output) if table else ())):
        click.echo(f"wrote {path}")
    for row in summarise(measured.metrics):
        if row.scope == "all":
            text = ", ".join(f"{name} {_interval(getattr(row, name))}" for name in ("dice", "nsd"))
            after = f", {row.round} corrections" if row.round else ""
            click.echo(f"{row.model}, {row.prompt} ({row.pipeline}){after}: {text}")
    if measured.failures:
        named = "; ".join(f"{case}, {model}: {why}" for case, model, why in measured.failures[:3])
        raise InputError(f"{len(measured.failures)} of {len(tasks_of(plan))} could not be measured: {named}")


def _given(option: str) -> bool:
    """Whether the user gave an option, rather than its default."""
    return click.get_current_context().get_parameter_source(option) is not click.core.ParameterSource.DEFAULT


def _interval(mean: Mean) -> str:
    if mean.mean is None:
        return "none"
    return f"{mean.mean:.3f}" + ("" if mean.low is None else f" ({mean.low:.3f} to {mean.high:.3f})")
