"""Train `nano`, the network that is shipped, by its recipe (`recipes.nano`): on generated cases, and on real ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..datasets import Case
from ..errors import BioSAM2Error, InputError
from ..io.atomic import cannot_write
from ..models.network import build_network, load_config
from .clips import Batch, ClipBatches, GeneratedClips, to_device
from .collection import source_of
from .files import save_weights
from .localization import prepare_attention
from .pictures import clip_picture
from .real import RealClips, validate_real
from .recipes import NANO, NANO_REAL
from .recipes.recipe import Recipe
from .reporting import MAIN_GROUP, Reporter
from .rounds import PromptSimulation
from .schedule import Stage
from .trainer import STATE, RunSettings, Trainer

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

SEED = 20240806
EXPORT = "nano.safetensors"
_VALIDATION_SEED = 7_000_000


def nano_settings(**given: Any) -> RunSettings:
    """How a run of `nano` goes unless it is given otherwise: validated by time, one thread."""
    usual: dict[str, Any] = {"seed": SEED, "workers": 1, "threads": 1, "validate_minutes": 25.0, "checkpointing": False}
    return RunSettings(**{**usual, **given})


def train_nano(
    out: str | Path,
    settings: RunSettings | None = None,
    on_step: Callable[[int, float], None] | None = None,
    cases: Sequence[Case] = (),
    validation: Sequence[Case] = (),
    *,
    begin: str = "",
    recipe: Recipe | None = None,
) -> Path:
    """Train; go on where an earlier run in the same folder stopped.

    Args:
        out: folder for the state, the losses, the TensorBoard log and ``nano.safetensors``, which is written with
            each saved state.
        settings: how the run goes; `nano_settings` by default.
        on_step: told the number of steps done and the loss, after each.
        cases: real ones, of a collection, to learn from.
        validation: real ones that Dice is measured on, by source.
        begin: a model's name or a checkpoint of `nano`'s architecture to go on from; empty: the recipe's.
        recipe: `NANO_REAL` by default where there are cases, else `NANO`.

    Returns:
        The exported checkpoint, of whatever step.

    Raises:
        InputError: the folder holds another run, or the recipe needs cases and there are none.
        OutputError: the folder cannot be written.
        TrainingError: a loss is NaN; the message names the batch, which is saved in the folder.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        nano_trainer(folder, settings, cases, validation, begin=begin, recipe=recipe).run(on_step)
    except OSError as error:
        raise cannot_write(folder / STATE, error) from error
    return folder / EXPORT


def nano_trainer(
    folder: Path,
    settings: RunSettings | None = None,
    cases: Sequence[Case] = (),
    validation: Sequence[Case] = (),
    *,
    begin: str = "",
    recipe: Recipe | None = None,
    validation_clips: int = 5,
) -> Trainer:
    """The trainer of a run.

    Args:
        folder: of the run; it must exist.
        settings: how the run goes; `nano_settings` by default.
        cases: real ones, of a collection, to learn from.
        validation: real ones that Dice is measured on, by source.
        begin: a model's name or a checkpoint of `nano`'s architecture to go on from; empty: the recipe's.
        recipe: `NANO_REAL` by default where there are cases, else `NANO`.
        validation_clips: generated clips that Dice is measured on.

    Raises:
        InputError: the folder holds another run, or the recipe needs cases and there are none.
    """
    recipe = recipe or (NANO_REAL if cases else NANO)
    if not cases and any(stage.real for stage in recipe.stages):
        raise InputError("these stages learn from real cases, and none are given; name a manifest")
    task = _NanoTask(cases, validation, begin or recipe.begin, validation_clips)
    return Trainer(folder, recipe, task, settings or nano_settings())


class _NanoTask:
    """`nano` on generated and real clips, as a `trainer.Task`."""

    name = "nano"

    def __init__(self, cases: Sequence[Case], validation: Sequence[Case], begin: str, validation_clips: int) -> None:
        self.cases, self.validation = tuple(cases), tuple(validation)
        self._begin = begin
        self._clips = validation_clips

    def facts(self) -> dict[str, Any]:
        return {"begin": self._begin}

    def begin(self, size: int | None, seed: int) -> SAM2Base:
        if self._begin:
            network = self.build(size)
            network.load_state_dict(_weights(self._begin))
            return network
        torch.manual_seed(seed)
        network = build_network(_config(size))
        prepare_attention(network)
        return network

    def build(self, size: int | None) -> SAM2Base:
        return build_network(_config(size), initialise=False)

    def batches(self, stage: Stage, seed: int) -> Dataset[Batch | BioSAM2Error]:
        size = stage.size or 256
        real = RealClips(self.cases, stage.targets, size) if stage.real else None
        return ClipBatches(seed, stage.clips, stage.lengths, GeneratedClips(stage.targets, size), real, stage.real)

    def measure(self, trainer: Trainer, report: Reporter) -> dict[str, dict[str, float]]:
        if not trainer.step:
            return {}
        found = {MAIN_GROUP: validate(trainer.averaged, self._clips, report, trainer.step)}
        return {**found, **(validate_real(trainer.averaged, self.validation) if self.validation else {})}

    def saved(self, trainer: Trainer) -> None:
        """Write the averaged weights as a float16 checkpoint."""
        seed, recipe = trainer.settings.seed, trainer.recipe
        facts = {
            "model": "nano",
            "steps": trainer.step,
            "seed": seed,
            "settings": {**recipe.shaping(), "begin": self._begin},
            "command": f"biosam2 train nano --seed {seed}",
            "sources": sorted({source_of(case) for case in self.cases}),
        }
        save_weights(trainer.averaged, trainer.folder / EXPORT, facts, torch.float16)

    def finish(self, trainer: Trainer) -> Path:
        return trainer.folder / EXPORT


@torch.no_grad()
def validate(network: SAM2Base, clips: int, report: Reporter | None = None, step: int = 0) -> dict[str, float]:
    """Mean Dice on held-out generated clips by kind of answer; ``absent`` is the share of empty frames left empty.

    Args:
        network: in evaluation mode; its own frame size is used.
        clips: how many.
        report: where pictures of the first ones go.
        step: of the run.
    """
    device = network.no_mem_embed.device
    batches = ClipBatches(_VALIDATION_SEED, 1, (8,), GeneratedClips(3, network.image_size))
    dice: dict[str, list[float]] = defaultdict(list)
    for index in range(clips):
        clip = to_device(batches.clip(index), device)
        rng = np.random.default_rng([_VALIDATION_SEED, 1, index])
        for kind in ("click", "clicks", "box", "mask"):
            answers = PromptSimulation(network, clip, rng).answer_clip(kind, correct=False)
            again = PromptSimulation(network, clip, rng).answer_again(kind, corrections=1)
            for name, values in [*answers.dice.items(), *again.dice.items()]:
                dice[name].extend(values)
            if report is not None and kind == "click" and index < 4:
                report.picture(step, f"validation/{index}", clip_picture(clip, answers))
    return {name: float(np.mean(values)) for name, values in sorted(dice.items())}


def _weights(begin: str) -> dict[str, torch.Tensor]:
    """The weights of a model by name, or of a checkpoint."""
    from ..models import load_model, registry

    # The folder of the run may have the model's name.
    if Path(begin).exists() and not registry.is_known(begin):
        return load_model(checkpoint=begin, config="nano", device="cpu").network.state_dict()
    return load_model(begin, device="cpu").network.state_dict()


def _config(size: int | None) -> Any:
    """`nano`'s configuration for frames of a size: the third and fourth stage attend to the whole frame."""
    if size is None:
        return load_config("nano")
    windows = f"[8,4,{size // 16},{size // 32}]"
    return load_config("nano", [f"image_size={size}", f"image_encoder.trunk.window_spec={windows}"])
