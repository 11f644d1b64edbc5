"""The command: python -m bench time|count|memory|strokes|agree|banks|doubt|keyframes|tools|worker|train|…."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec
import torch
from biosam2.engine.memory import POLICIES
from biosam2.errors import InputError
from biosam2.evaluation.cases import shared_cases
from biosam2.io import atomic_path
from biosam2.speed import Speed

from . import (
    agreement,
    banks,
    cluster,
    count,
    doubt,
    keyframes,
    peak,
    results,
    strokes,
    timing,
    tools,
    training,
    worker,
)
from .cases import cases_of
from .networks import network_of, reference_of, trained
from .phases import PHASES, noise
from .sides import EngineSide, PredictorSide, Side


class _SpeedText(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Speed]:
        """A way of the engine by the text that it is written as."""
        if isinstance(value, tuple):
            return value
        try:
            return value or "exact", Speed.parse(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


_network = click.option("--network", default="sam2.1_hiera_t", show_default=True, help="nano or a name of sam2's.")
_size = click.option("--size", type=int, help="Side of the network's input. [default: the network's]")
_threads = click.option("--threads", type=int, default=1, show_default=True, help="Threads of torch.")
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


def _kept(function: Any) -> Any:
    """The options that say where figures are kept."""
    kept = click.option("--record", is_flag=True, help="Keep the figures in results/, by version and machine.")
    return click.option("--json", "out", type=_FILE, help="Write the figures here.")(kept(function))


def _cases(function: Any) -> Any:
    """The options that say what is measured, and with which model."""
    for option in (
        click.option("--only", default="*", show_default=True, metavar="PATTERN", help="Targets, as in '*: lesion'."),
        click.option("--hippocampi", type=int, default=4, show_default=True, help="Cases of --collection."),
        click.option("--collection", type=_FOLDER, help="Labelled images of many sources; its hippocampi are taken."),
        click.option("--model", default="nano", show_default=True, help="A registered model."),
    ):
        function = option(function)
    return function


_speeds = click.option(
    "--speed",
    "speeds",
    type=_SpeedText(),
    multiple=True,
    help="A way of the engine, for example 'stop=5,local,-attention'; '' is the default. Repeat for more.",
)


@click.group()
def main() -> None:
    """How fast the engine is beside sam2's own SAM2VideoPredictor."""


@main.command("time")
@_network
@_size
@_threads
@_speeds
@_kept
@click.option("--slices", type=int, default=12, show_default=True, help="Slices of the volume.")
@click.option("--plane", type=int, default=256, show_default=True, help="Rows and columns of a slice.")
@click.option("--repetitions", type=int, default=3, show_default=True, help="How often each is done.")
@click.option("--clock", type=click.Choice(["cpu", "wall"]), default="cpu", show_default=True, help="What is measured.")
@click.option("--budget", type=int, default=2048, show_default=True, help="MiB of encoded slices that may be kept.")
@click.argument("phases", nargs=-1, type=click.Choice(list(PHASES)))
def _time(
    network: str,
    size: int | None,
    threads: int,
    speeds: tuple[tuple[str, Speed], ...],
    out: Path | None,
    record: bool,
    slices: int,
    plane: int,
    repetitions: int,
    clock: timing.Clock,
    budget: int,
    phases: tuple[str, ...],
) -> None:
    """Time both sides alternately on the same frames, prompts and (random) weights."""
    torch.set_num_threads(threads)
    volume = noise(slices, plane, plane)
    ways = dict(speeds or (("exact", Speed()),))
    timings: list[timing.Timing] = []
    sides: dict[bool, dict[str, Side]] = {}
    for name in phases or ("first", "correct", "eight", "click"):
        phase = PHASES[name]
        if phase.present not in sides:
            model = network_of(network, size, phase.present)
            sides[phase.present] = {"sam2": PredictorSide(reference_of(model), volume)}
            for way, speed in ways.items():
                sides[phase.present][way] = EngineSide(model, volume, speed, budget * 2**20)
        timings += timing.measure(name, phase, sides[phase.present], volume, repetitions, clock)
        click.echo(f"{time.strftime('%H:%M:%S')} {name} done", err=True)
    titles = {name: phase.title for name, phase in PHASES.items()}
    click.echo(timing.table(timings, titles))
    values = {f"{t.phase}, {t.side}": t.ratio for t in timings if t.side != "sam2"}
    _keep(out, record, "times as fast as sam2", values, {"timings": [t.to_json() for t in timings]})


@main.command("count")
@_network
@_size
@_threads
@_kept
def _count(network: str, size: int | None, threads: int, out: Path | None, record: bool) -> None:
    """Multiply-adds, bytes, and the floor of each part for one frame."""
    torch.set_num_threads(threads)
    parts = count.count(network_of(network, size))
    click.echo(count.table(parts))
    _keep(out, record, "GMAC", {p.name: p.gmac for p in parts}, {"parts": [p.to_json() for p in parts]})


@main.command("memory")
@_network
@_size
@_speeds
@_kept
@click.option("--slices", type=int, multiple=True, default=(64, 128, 256), show_default=True, help="Repeat for more.")
@click.option("--plane", type=int, default=256, show_default=True, help="Rows and columns of a slice.")
@click.option("--sam2/--no-sam2", default=True, show_default=True, help="Whether sam2's predictor is measured too.")
def _memory(
    network: str,
    size: int | None,
    speeds: tuple[tuple[str, Speed], ...],
    out: Path | None,
    record: bool,
    slices: tuple[int, ...],
    plane: int,
    sam2: bool,
) -> None:
    """Peak memory beyond the volume itself, in MiB, against the number of slices."""
    ways: dict[str, Speed | None] = {"sam2": None} if sam2 else {}
    found = peak.peaks(network, size, list(slices), plane, {**ways, **dict(speeds or (("exact", Speed()),))})
    click.echo(peak.table(found))
    values = {f"{p.slices} slices, {p.side}": p.peak - p.volume for p in found}
    _keep(out, record, "MiB beside the volume", values, {"peaks": [asdict(p) for p in found]})


@main.command("strokes")
@click.argument("folder", type=_FOLDER)
@_threads
@_kept
@click.option("--model", default="nano", show_default=True, help="A registered model.")
@click.option("--crop", type=click.Choice(["auto", "none"]), default="auto", show_default=True, help="See 'segment'.")
@click.option("--cases", type=int, help="How many of the targets.")
def _strokes(
    folder: Path, threads: int, out: Path | None, record: bool, model: str, crop: str, cases: int | None
) -> None:
    """Dice of scribbles and rulers by what they are reduced to, on single slices of the collection in FOLDER."""
    torch.set_num_threads(threads)
    found = []
    for each in strokes.agreements(trained(model), folder, None if crop == "none" else "auto", cases):
        click.echo(f"{each.case}, {each.target}", err=True)
        found.append(each)
    means = strokes.means(found)
    for name, value in means.items():
        click.echo(f"{name:34} {value:.3f}")
    click.echo(f"means of {len(found)} targets")
    _keep(out, record, "Dice", means, {"agreements": [each.to_json() for each in found]})


@main.command("agree")
@click.argument("folder", type=_FOLDER)
@_threads
@_speeds
@_kept
@click.option("--model", default="nano", show_default=True, help="A registered model.")
@click.option("--crop", type=click.Choice(["auto", "none"]), default="none", show_default=True, help="See 'segment'.")
@click.option("--policy", default="sam2", show_default=True, help="See 'segment'.")
@click.option("--cases", type=int, help="How many of the cases.")
def _agree(
    folder: Path,
    threads: int,
    speeds: tuple[tuple[str, Speed], ...],
    out: Path | None,
    record: bool,
    model: str,
    crop: str,
    policy: str,
    cases: int | None,
) -> None:
    """Dice of approximate ways to the exact one, on the shared cases in FOLDER."""
    torch.set_num_threads(threads)
    ways = {"exact": Speed(), **dict(speeds or (("stop=5,local", Speed(stop=5, local=True)),))}
    found = []
    settings = {"crop": None if crop == "none" else crop, "policy": policy}
    for each in agreement.agreement(trained(model), folder, ways, cases, **settings):
        click.echo(f"{each.case}, {each.way}, {each.step}: {each.dice:.4f} in {each.seconds:.1f} s", err=True)
        found.append(each)
    click.echo(agreement.table(found))
    values = agreement.means(found)
    _keep(out, record, "mean Dice to the exact mask", values, {"agreement": [a.to_json() for a in found]})


@main.command("banks")
@click.argument("folder", type=_FOLDER)
@_threads
@_kept
@_cases
@click.option("--crop", type=click.Choice(["auto", "none"]), default="none", show_default=True, help="See 'segment'.")
@click.option("--beyond", type=int, default=12, show_default=True, help="Slices beyond the target's ends.")
@click.option("--policy", "policies", type=click.Choice(tuple(banks.BANKS)), multiple=True, help="By default all.")
@click.option("--prompt", "prompts", type=click.Choice(banks.PROMPTS), multiple=True, help="By default click1, box.")
@click.option("--corrections", type=int, default=1, show_default=True, help="By clicks, each propagated.")
def _banks(
    folder: Path,
    threads: int,
    out: Path | None,
    record: bool,
    model: str,
    collection: Path | None,
    hippocampi: int,
    only: str,
    crop: str,
    beyond: int,
    policies: tuple[str, ...],
    prompts: tuple[Any, ...],
    corrections: int,
) -> None:
    """Dice to the truth with each memory policy, on the shared cases in FOLDER."""
    torch.set_num_threads(threads)
    found = []
    chosen = cases_of(folder, collection, hippocampi, only=only)
    names, kinds = policies or tuple(banks.BANKS), prompts or banks.PROMPTS[:2]
    region: Any = None if crop == "none" else crop
    for each in banks.banks(trained(model), chosen, region, beyond, names, kinds, corrections):
        dice = " → ".join(f"{value:.3f}" for value in each.dice)
        click.echo(
            f"{each.case}, {each.bank}, {each.prompt}: {dice}, "
            f"beyond {each.beyond[0]:.2f} → {each.beyond[-1]:.2f} in {each.seconds:.1f} s",
            err=True,
        )
        found.append(each)
    click.echo(banks.table(found))
    values = {
        f"{bank}, {prompt}": statistics.fmean(one.dice[0] for one in own)
        for bank, prompt in dict.fromkeys((one.bank, one.prompt) for one in found)
        if (own := [one for one in found if (one.bank, one.prompt) == (bank, prompt)])
    }
    _keep(out, record, "mean Dice to the truth", values, {"banks": [one.to_json() for one in found]})


@main.command("tools")
@click.argument("folder", type=_FOLDER)
@_threads
@_kept
@click.option("--model", default="nano", show_default=True, help="A registered model.")
@click.option("--cases", type=int, help="How many of the targets.")
def _tools(folder: Path, threads: int, out: Path | None, record: bool, model: str, cases: int | None) -> None:
    """Dice beside Slicer's own Grow from seeds and Fill between slices, on the shared cases in FOLDER."""
    torch.set_num_threads(threads)
    found = []
    for each in tools.outcomes(trained(model), islice(shared_cases(folder), cases)):
        click.echo(f"{each.case}: {each.target}, {each.way}, {each.told}: {each.dice:.3f}", err=True)
        found.append(each)
    means = tools.means(found)
    for name, value in means.items():
        click.echo(f"{name:40} {value:.3f}")
    _keep(out, record, "mean Dice", means, {"outcomes": [each.to_json() for each in found]})


@main.command("doubt")
@click.argument("folder", type=_FOLDER)
@_threads
@_kept
@_cases
@click.option("--prompt", "prompts", type=click.Choice(doubt.PROMPTS), multiple=True, help="By default all of them.")
@click.option("--corrections", type=int, default=1, show_default=True, help="By clicks; ranked after each.")
@click.option("--costly", is_flag=True, help="Also the doubts that cost a sweep for each slice.")
@click.option("--free", is_flag=True, help="Only the doubts that cost no sweep.")
@click.option("--looks", type=int, default=0, show_default=True, help="At the slice most in doubt, each corrected.")
@click.option("--correct", type=click.Choice(["click", "mask"]), default="click", show_default=True, help="By what.")
@click.option("--policy", type=click.Choice(tuple(POLICIES)), default="path", show_default=True, help="Of the memory.")
def _doubt(
    folder: Path,
    threads: int,
    out: Path | None,
    record: bool,
    model: str,
    collection: Path | None,
    hippocampi: int,
    only: str,
    prompts: tuple[Any, ...],
    corrections: int,
    costly: bool,
    free: bool,
    looks: int,
    correct: Any,
    policy: str,
) -> None:
    """How well doubts find the slices that are wrong, on the shared cases in FOLDER of at least seven slices.

    With --looks instead what a user gains who corrects the slice most in doubt again and again.
    """
    torch.set_num_threads(threads)
    every = cases_of(folder, collection, hippocampi, doubt.LEAST_SLICES, only)
    cases, network = every, trained(model)
    if looks:
        gained = []
        for look in doubt.looked(network, cases, looks, correct, policy=policy):
            click.echo(f"{look.case}, by {look.by}: {' '.join(f'{value:.3f}' for value in look.dice)}", err=True)
            gained.append(look)
        click.echo(doubt.looked_table(gained))
        values = {
            f"{by}, {looks} looks": statistics.fmean(one.dice[-1] for one in gained if one.by == by) for by in doubt.BY
        }
        _keep(out, record, "mean Dice to the truth", values, {"looks": doubt.to_json(gained)})
        return
    names = tuple(doubt.DOUBTS) if costly else doubt.CHEAP
    names = tuple(name for name in names if not free or name not in doubt.SWEPT)
    found = []
    for each in doubt.ranked(network, cases, prompts or doubt.PROMPTS, corrections, names, policy):
        click.echo(f"{each.case}, {each.prompt}, {each.corrections} corrections: {each.correlation}", err=True)
        found.append(each)
    click.echo(doubt.ranked_table(found) + "\n\n" + doubt.drawn_table(found))
    first = [one for one in found if one.corrections == 0]
    values = {name: statistics.fmean(one.correlation[name] for one in first) for name in names}
    _keep(out, record, "mean rank correlation with 1 - Dice", values, {"doubts": doubt.to_json(found)})


@main.command("keyframes")
@click.argument("folder", type=_FOLDER)
@_threads
@_kept
@_cases
def _keyframes(
    folder: Path,
    threads: int,
    out: Path | None,
    record: bool,
    model: str,
    collection: Path | None,
    hippocampi: int,
    only: str,
) -> None:
    """Dice between accepted slices: a sweep from one side, from the other, and both; on the shared cases in FOLDER."""
    torch.set_num_threads(threads)
    every = cases_of(folder, collection, hippocampi, doubt.LEAST_SLICES, only)
    found = []
    for each in keyframes.between(trained(model), every):
        click.echo(f"{each.case}, {each.accepted} slices: {each.dice}", err=True)
        found.append(each)
    click.echo(keyframes.table(found))
    values = {
        f"{way}, {count} slices": statistics.fmean(one.dice[way] for one in found if one.accepted == count)
        for way in keyframes.WAYS
        for count in sorted({one.accepted for one in found})
    }
    _keep(out, record, "mean Dice to the truth", values, {"between": keyframes.to_json(found)})


@main.command("worker")
@_threads
@_kept
@click.option("--model", default="nano", show_default=True, help="A registered model.")
@click.option("--device", default="cpu", show_default=True, help="Of both sides.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Ten clicks, one propagation.")
def _worker(threads: int, out: Path | None, record: bool, model: str, device: str, rounds: int) -> None:
    """What a click and a propagation cost through a worker, beside the same in this process."""
    torch.set_num_threads(threads)
    found = worker.costs(model, device, rounds)
    click.echo(worker.table(found))
    values = {f"{c.work}, {name}": getattr(c, name) for c in found for name in ("best", "median", "cpu")}
    _keep(out, record, "times as long as in this process", values, {"costs": [c.to_json() for c in found]})


@main.command("train")
@_network
@_size
@_threads
@_kept
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
@click.option("--precision", default="auto", show_default=True, help="Of the network's arithmetic.")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that make the data.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="For each kind of stage.")
@click.argument("recipes", nargs=-1, type=click.Choice(training.NAMES))
def _train(
    network: str,
    size: int | None,
    threads: int,
    out: Path | None,
    record: bool,
    device: str,
    precision: str,
    workers: int,
    seconds: float,
    recipes: tuple[str, ...],
) -> None:
    """Images per second and GPU memory of training, for each kind of stage of each recipe."""
    torch.set_num_threads(threads)
    found: list[training.Measured] = []
    for each in training.measure(recipes or training.NAMES, network, size, device, precision, workers, seconds):
        click.echo(f"{time.strftime('%H:%M:%S')} {each.recipe}, stage {each.stage} done", err=True)
        found.append(each)
    click.echo(training.table(found))
    values = {f"{m.recipe}, stage {m.stage}": m.images_per_second for m in found}
    _keep(out, record, "images per second", values, {"stages": [asdict(m) for m in found]})


@main.command("cluster")
@_kept
@click.option("--cases", type=int, default=100, show_default=True, help="How many.")
@click.option("--workers", type=int, multiple=True, default=(2, 4), show_default=True, help="Repeat for more.")
@click.option("--trivial", is_flag=True, help="Cases that do nothing, to see what the scheduling costs.")
@click.option("--kill", type=int, default=0, show_default=True, help="Workers that are killed meanwhile.")
def _cluster(out: Path | None, record: bool, cases: int, workers: tuple[int, ...], trivial: bool, kill: int) -> None:
    """Segment a cohort on a Dask cluster of this computer, beside the same cases alone."""
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Any] = list(range(cases)) if trivial else cluster.cohort(cases, Path(folder))
        function = cluster.nothing if trivial else cluster.timed_row
        # The first one loads what all of them need.
        alone = statistics.fmean([function(row)[1] for row in rows[:11]][1:])
        ran = []
        for number, count in enumerate(workers):
            own = Path(folder) / str(number)
            own.mkdir()
            ran.append(cluster.run(function, rows, count, own, rows[: 4 * count], kill))
            click.echo(f"{time.strftime('%H:%M:%S')} {count} workers done", err=True)
    click.echo(cluster.table(alone, ran))
    values = {f"{one.workers} workers": 1000 * one.overhead_cpu for one in ran}
    _keep(
        out,
        record,
        "ms of the CPU that a case costs beyond itself",
        values,
        {"alone": alone, "ran": [r.to_json() for r in ran]},
    )


@main.command("history")
@click.option(
    "--folder",
    type=_FOLDER,
    default=results.FOLDER,
    help="Of the results.",
)
@click.option("-o", "--output", type=_FILE, help="Draw it too: .png, .svg or .pdf.")
def _history(folder: Path, output: Path | None) -> None:
    """What was recorded with --record, version by version."""
    found = results.history(folder)
    if not found:
        raise click.UsageError(f"{folder} holds no results; run a command with --record first")
    click.echo(results.table(found))
    if output is not None:
        results.draw(found, output)


def _keep(out: Path | None, record: bool, unit: str, values: dict[str, float], details: dict[str, Any]) -> None:
    """Print the machine, and write the figures where they are asked for."""
    context = click.get_current_context()
    given = {name: value for name, value in context.params.items() if name not in ("out", "record", "folder")}
    settings = {name: [text for text, _ in value] if name == "speeds" else value for name, value in given.items()}
    settings = {name: value.name if isinstance(value, Path) else value for name, value in settings.items()}
    machine = timing.machine()
    click.echo(f"\n{json.dumps(machine, ensure_ascii=False)}")
    run = results.Run(str(context.info_name), settings, unit, values, machine, details)
    if out is not None:
        with atomic_path(out) as path:
            path.write_text(json.dumps(msgspec.to_builtins(run), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if record:
        click.echo(f"recorded in {results.record(run)}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m bench")
