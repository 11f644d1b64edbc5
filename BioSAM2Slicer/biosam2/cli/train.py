"""biosam2 train: nano, finetune."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import extras
from ..errors import InputError
from .options import Window
from .progress import ProgressBar

if TYPE_CHECKING:
    from ..datasets import Case

# training.recipes.RECIPES has them; importing it would import torch. A test compares the two.
RECIPES = ("biosam2", "decoder", "memory", "biosam2-reference", "medsam2")


@click.group(invoke_without_command=True)
@click.pass_context
def train(ctx: click.Context) -> None:
    """Train networks."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _run_options(function: Any) -> Any:
    """Options of every run, which say how it goes on this machine."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
        click.option("--minutes", type=click.FloatRange(min=0), help="Save and stop after this long; again to go on."),
        click.option("--threads", type=click.IntRange(min=1), help="Of each training process."),
        click.option("--workers", type=click.IntRange(min=0), help="Processes that make the data, for each."),
        click.option("--seed", type=click.IntRange(min=0), help="Of data, prompts and first weights."),
        click.option(
            "--checkpointing/--no-checkpointing", default=None, help="Save memory for time; by default on a GPU."
        ),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="[default: auto]"),
        click.option(
            "--precision", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), help="[default: auto]"
        ),
    ):
        function = option(function)
    return function


@train.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default="runs/nano", show_default=True, help="A folder.")
@click.option(
    "--data", "datasets", type=click.Path(path_type=Path), multiple=True, help="Of real cases: manifests, or packed."
)
@click.option("--from", "begin", metavar="NAME|PATH", help="What to go on from; with --data: nano.")
@click.option("--batches", type=click.IntRange(min=1), help="Batches in a step, over all processes.  [default: 1]")
@click.option(
    "--carry",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder that hands the run on to another machine: its state is taken from there, and left there.",
)
@_run_options
def nano(
    out: Path,
    datasets: tuple[Path, ...],
    begin: str | None,
    batches: int | None,
    carry: Path | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Train the shipped model from data that is generated on the way, and from real cases.

    Real cases come from a collection of many sources: python -m biosam2.training.collection writes its manifest. The
    split train is learnt from, all others are measured on.

    The folder holds the state, the TensorBoard log and nano.safetensors. Stopped or started again, the run goes on
    where it last saved. Several GPUs: put 'torchrun --nproc-per-node N -m biosam2.cli' in the place of 'biosam2', with
    --batches N or a multiple.

    In pieces on a machine that is lent for minutes: 'train nano --data cases.zip --minutes 9 --carry state' with what
    'data pack' wrote. The folder state then holds the run in parts of 15 MiB at most, in little more than float8; the
    same command goes on from there wherever it is taken.
    """
    extras.require("train", "training")
    from ..training.handover import hand_over, take_over
    from ..training.nano import nano_settings, train_nano
    from ..training.recipes import NANO, NANO_REAL

    first = _is_first()
    if first:
        click.echo(f"training in {out}; after Ctrl-C the same command goes on where it last saved", err=True)
    learnt, measured = _collected(datasets, out)
    recipe = NANO_REAL if learnt else NANO
    if batches is not None:
        recipe = replace(recipe, batches=batches)
    settings = nano_settings(**{name: value for name, value in given.items() if value is not None})
    if carry is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--carry hands on the run of one process; leave it out under torchrun")
    if carry is not None and take_over(carry, out):
        click.echo(f"going on from {carry}", err=True)
    with ProgressBar(recipe.steps, "training", "steps", quiet=quiet or not first) as progress:
        path = train_nano(out, settings, _counted(progress), learnt, measured, begin=begin or "", recipe=recipe)
    if first:
        if carry is not None:
            click.echo(f"wrote {', '.join(map(str, hand_over(out, carry)))}")
        click.echo(f"wrote {path}")


def _collected(datasets: tuple[Path, ...], out: Path) -> tuple[list[Case], list[Case]]:
    """Cases of collections to learn from, the split train, and to measure on, all others."""
    from ..datasets import load_dataset

    cases = [case for source in datasets for case in load_dataset(_unpacked(source, out))]
    learnt = [case for case in cases if case.split == "train"]
    if cases and not learnt:
        raise InputError("no case is of the split train; python -m biosam2.training.collection writes a manifest")
    return learnt, [case for case in cases if case.split != "train"]


def _unpacked(dataset: Path, out: Path) -> Path:
    """The manifest of a packed dataset, whose files are written beside the run; others as they are."""
    from ..datasets.packing import SUFFIX, unpack
    from ..models.hashing import sha256_of

    if dataset.suffix.lower() != SUFFIX:
        return dataset
    if not dataset.is_file():
        raise InputError(f"there is no file {dataset}; give what 'biosam2 data pack' wrote")
    return unpack(dataset, out / f"data-{sha256_of(dataset)[:12]}")


class Numbers(click.ParamType):  # type: ignore[type-arg]  # can be subscripted from click 8.3 on
    """``1,3,5``."""

    name = "numbers"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if not all(part.strip().isdigit() for part in value.split(",")):
            self.fail(f"{value!r} is not a list of numbers such as 1,3", param, ctx)
        return tuple(int(part) for part in value.split(","))


@train.command()
@click.option(
    "--data",
    "datasets",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="A manifest (.csv, .json), a folder of labelled images, or what 'data pack' wrote; may be repeated.",
)
@click.option("--from", "model", default="nano", show_default=True, metavar="NAME|PATH", help="What to begin with.")
@click.option("--config", metavar="NAME|PATH", help="The configuration of a checkpoint given as PATH.")
@click.option("--recipe", type=click.Choice(RECIPES), default="biosam2", show_default=True, help="What is trained.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A folder for everything.")
@click.option("--name", help="Of the new model; default: the old one's and the recipe's.")
@click.option("--split", help="Learn from the cases of this split; default: train, or those without a split.")
@click.option("--validation", metavar="SPLIT", help="Measure on the cases of this split; default: val.")
@click.option("--leave-out", metavar="PATTERN", multiple=True, help="Cases not to learn from, as in 'mr-*'.")
@click.option(
    "--root", type=click.Path(path_type=Path), help="What a manifest's paths start from; default: its folder."
)
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps; default: the recipe's.")
@click.option("--batch", type=click.IntRange(min=1), help="Clips in a step, over all processes; default: the recipe's.")
@click.option("--clips", type=click.IntRange(min=1), help="Clips that a device holds at once; default: the recipe's.")
@click.option("--targets", type=click.IntRange(min=1), help="Targets in a clip; default: the recipe's.")
@click.option(
    "--frames", "lengths", type=Numbers(), help="Slices in a clip, drawn for every batch; default: the recipe's."
)
@click.option("--axis", "axes", multiple=True, help="Along which clips are cut; may be repeated.  [default: k]")
@click.option("--window", type=Window(), help="What is shown; default: robust percentiles.")
@click.option(
    "--size", type=click.IntRange(min=32), help="Rows and columns of a frame; default: the recipe's, or the model's."
)
@click.option("--augment/--no-augment", default=None, help="Vary the clips (the default).")
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), help="The highest; default: the recipe's."
)
@click.option("--warm-up", type=click.IntRange(min=0), help="Steps until then; default: the recipe's.")
@click.option("--weight-decay", type=click.FloatRange(min=0), help="Of matrices and kernels; default: the recipe's.")
@click.option("--average", type=click.FloatRange(0, 1, max_open=True), help="Of the weights kept.")
@click.option("--save-every", type=click.IntRange(min=1), metavar="STEPS", help="[default: 100]")
@click.option("--validate-every", type=click.IntRange(min=1), metavar="STEPS", help="[default: 200]")
@click.option("--validation-clips", type=click.IntRange(min=1), help="That Dice is measured on.  [default: 16]")
@_run_options
def finetune(
    datasets: tuple[Path, ...],
    model: str,
    config: str | None,
    out: Path,
    name: str | None,
    split: str | None,
    validation: str | None,
    leave_out: tuple[str, ...],
    root: Path | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Fine-tune a model on your own labelled images.

    The folder holds the state, the TensorBoard log and at the end the model, its configuration and its card. Stopped
    or started again, the run goes on where it last saved. Several GPUs: put 'torchrun --nproc-per-node N -m
    biosam2.cli' in the place of 'biosam2'.
    """
    extras.require("train", "training")
    from ..models import load_model
    from ..training.finetune import FineTuneSettings
    from ..training.finetune import finetune as run
    from ..training.result import add_command

    settings = FineTuneSettings(**{key: value for key, value in given.items() if value is not None and value != ()})
    manifests = tuple(_unpacked(dataset, out) for dataset in datasets)
    learnt, measured = choose_cases(manifests, root, split, validation, leave_out)
    begun = (
        load_model(model, device="cpu") if config is None else load_model(checkpoint=model, config=config, device="cpu")
    )
    first = _is_first()
    if first:
        click.echo(
            f"{begun.name}, recipe {settings.recipe}: {len(learnt)} cases to learn from, {len(measured)} to measure "
            f"on; after Ctrl-C the same command goes on where it last saved in {out}",
            err=True,
        )
    with ProgressBar(settings.resolved().steps, "training", "steps", quiet=quiet or not first) as progress:
        path = run(out, begun, learnt, settings, validation=measured, name=name, on_step=_counted(progress))
    if path is not None:
        click.echo(f"wrote {path} and its card {path.with_suffix('.md')}")
        click.echo(f"to list it with the other models: {add_command(path, path.stem, begun.licence)}", err=True)
    elif first:
        click.echo("the minutes are over; run the same command again to go on", err=True)


def _is_first() -> bool:
    """Whether this is the first of several training processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _counted(progress: ProgressBar) -> Callable[[int, float], None]:
    """What counts a run's steps; one that goes on begins where it stopped."""
    begun = False

    def on_step(step: int, loss: float) -> None:
        nonlocal begun
        if not begun:
            progress.resume(step - 1)
            begun = True
        progress.advance()

    return on_step


def choose_cases(
    datasets: tuple[Path, ...], root: Path | None, split: str | None, validation: str | None, leave_out: tuple[str, ...]
) -> tuple[list[Case], list[Case]]:
    """Cases to learn from, and to measure on.

    Raises:
        InputError: a dataset cannot be read, two cases have one name, there is no such split, or nothing is left.
    """
    from ..datasets import load_dataset

    found: dict[str, Case] = {}
    for source in datasets:
        for case in load_dataset(source, root=root):
            if found.setdefault(case.name, case) is not case:
                raise InputError(f"two cases are called {case.name}, one of them in {source}; rename one")
    splits = {case.split for case in found.values()}
    for asked in (split, validation):
        if asked is not None and asked not in splits:
            raise InputError(f"there is no split {asked!r}; there are {', '.join(map(repr, sorted(splits)))}")
    measured = [case for case in found.values() if case.split == (validation or "val")]
    if split is None:
        split = "train" if "train" in splits else ""
    left_out = [case for case in found.values() if any(fnmatch(case.name, pattern) for pattern in leave_out)]
    learnt = [case for case in found.values() if case.split == split and case not in (*measured, *left_out)]
    if not learnt:
        raise InputError(f"no case of the split {split!r} is left to learn from; give --split or less to --leave-out")
    return learnt, measured
