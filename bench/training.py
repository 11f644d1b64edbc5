"""Images per second and GPU memory of each recipe's stages, on generated volumes and with random weights."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from biosam2.datasets import Case, Target
from biosam2.io import itk, write_labelmap
from biosam2.synthetic.phantom import ct_phantom
from biosam2.training.finetune import FineTuneSettings, finetuner
from biosam2.training.nano import nano_settings, nano_trainer
from biosam2.training.recipes import NANO_REAL, RECIPES
from biosam2.training.recipes.recipe import Recipe
from biosam2.training.schedule import Stage
from biosam2.training.trainer import Trainer

from .networks import network_of

NAMES = (*RECIPES, NANO_REAL.name)
_ENDLESS = 10**6  # steps
_WARM_UP = 2  # steps that are not counted, at least


@dataclass(frozen=True)
class Measured:
    """One stage of a recipe.

    Attributes:
        recipe: its name.
        stage: its number, from 1.
        network: that was trained.
        size: rows and columns of a frame.
        lengths: frames in a clip.
        steps: that were counted.
        images_per_second: with everything: data, both passes, optimiser.
        peak_gib: of GPU memory; None on a CPU.
        device: where it ran.
        precision: of the network's arithmetic.
    """

    recipe: str
    stage: int
    network: str
    size: int
    lengths: tuple[int, ...]
    steps: int
    images_per_second: float
    peak_gib: float | None
    device: str
    precision: str


def measure(
    names: Sequence[str], network: str, size: int | None, device: str, precision: str, workers: int, seconds: float
) -> Iterator[Measured]:
    """Train by each stage of each recipe for a while.

    Args:
        names: of `NAMES`.
        network: a configuration of sam2's, for the recipes that fine-tune.
        size: rows and columns of a frame; None for the recipe's or the network's.
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: as `biosam2.devices.precision_of` takes it.
        workers: processes that make the data.
        seconds: for each stage, beside the first steps.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cases = _cases(folder)
        for name in names:
            recipe = RECIPES.get(name, NANO_REAL)
            for number, stage in _kinds_of_stages(recipe):
                if size is not None:
                    stage = replace(stage, size=size)
                alone = replace(recipe, stages=(replace(stage, steps=_ENDLESS, hold=0),))
                run = Path(tempfile.mkdtemp(dir=folder))
                if recipe is NANO_REAL:
                    settings = nano_settings(device=device, precision=precision, workers=workers)
                    trainer = nano_trainer(run, settings, cases, begin="nano", recipe=alone)
                    named = "nano"
                else:
                    how = FineTuneSettings(name, device=device, precision=precision, workers=workers)
                    model = network_of(network, stage.size)
                    trainer, named = finetuner(run, model, cases, how, recipe=alone), network
                steps, rate = _timed(trainer, seconds)
                yield Measured(
                    recipe=name,
                    stage=number,
                    network=named,
                    size=trainer.network.image_size,
                    lengths=stage.lengths,
                    steps=steps,
                    images_per_second=rate,
                    peak_gib=trainer.peak_gib,
                    device=_device_name(trainer),
                    precision=trainer.precision,
                )


def table(found: Sequence[Measured]) -> str:
    """The figures as Markdown."""
    lines = [
        "| recipe | stage | network | size | frames | precision | images/s | GPU memory, GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for m in found:
        peak = "" if m.peak_gib is None else f"{m.peak_gib:.1f}"
        lengths = ", ".join(map(str, m.lengths))
        lines.append(
            f"| {m.recipe} | {m.stage} | {m.network} | {m.size} | {lengths} | {m.precision} "
            f"| {m.images_per_second:.2f} | {peak} |"
        )
    return "\n".join(lines)


def _kinds_of_stages(recipe: Recipe) -> list[tuple[int, Stage]]:
    """Stages that differ in more than steps and learning rate, by number."""
    kinds: dict[Stage, tuple[int, Stage]] = {}
    for number, stage in enumerate(recipe.stages, start=1):
        kinds.setdefault(replace(stage, steps=1, hold=0, learning_rates=(1e-5, 1e-5)), (number, stage))
    return list(kinds.values())


def _timed(trainer: Trainer, seconds: float) -> tuple[int, float]:
    """Counted steps, and images per second over them."""
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    times: list[tuple[float, int]] = []

    class _EnoughError(Exception):
        pass

    def on_step(step: int, loss: float) -> None:
        times.append((time.perf_counter(), trainer.images))  # the loss was read, so that the device is done
        if len(times) > _WARM_UP and times[-1][0] - times[_WARM_UP - 1][0] > seconds:
            raise _EnoughError

    try:
        trainer.run(on_step)
    except _EnoughError:
        (began, before), (ended, after) = times[_WARM_UP - 1], times[-1]
        return len(times) - _WARM_UP, (after - before) / (ended - began)
    raise RuntimeError("the run ended before it was measured")


def _cases(folder: Path) -> list[Case]:
    """Two generated CT volumes with a lesion."""
    cases = []
    for seed in range(2):
        phantom = ct_phantom(seed)
        image, label = folder / f"{seed}.nrrd", folder / f"{seed}-lesion.nrrd"
        itk.write(image, phantom.volume)
        write_labelmap(label, phantom.volume, phantom.lesion.astype(np.uint8))
        cases.append(Case(f"phantom/{seed}", image, (Target("lesion", (label,)),), "CT", "train"))
    return cases


def _device_name(trainer: Trainer) -> str:
    return torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else trainer.device.type
