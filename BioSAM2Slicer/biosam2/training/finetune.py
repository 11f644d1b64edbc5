"""Fine-tune a SAM 2 network on labelled cases, by a recipe."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from ..datasets import Case
from ..errors import BioSAM2Error, InputError
from ..io.atomic import cannot_write
from ..models import Model
from ..models.network import build_network, load_config
from .clips import Batch, to_device
from .cuts import CaseBatches, Cutting
from .objective import answer
from .pictures import clip_picture
from .recipes import get_recipe
from .recipes.recipe import Recipe
from .reporting import MAIN_GROUP, Reporter, losses_of
from .result import RunFacts, write_result
from .schedule import Stage, stretched
from .trainer import STATE, RunSettings, Trainer

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_VALIDATION_SEED = 7_000_000
_LONGEST_VALIDATION = 4  # frames


@dataclass(frozen=True)
class FineTuneSettings:
    """How a network is fine-tuned: a recipe, what is done otherwise than it says, and how the run goes.

    Args:
        recipe: a name of `recipes.RECIPES`. Where an argument below is None or empty, the recipe's value holds.
        steps: optimiser steps.
        batch: clips in a step, over all processes.
        clips: clips that a device holds at once; all from one case.
        targets: targets in a clip.
        lengths: frames in a clip, drawn for every batch.
        axes: index axes or anatomical names that slices are taken along, drawn for every batch.
        window: centre and width, or a CT preset's name; None for robust percentiles.
        size: rows and columns of a frame; None for the recipe's, or else the model's own.
        augment: whether clips are varied.
        learning_rate: the highest; the recipe's stages are scaled to it.
        warm_up: steps until then.
        weight_decay: of matrices and kernels.
        clip_norm: gradients are scaled down to this norm.
        average: how much of the averaged weights (those that are kept) a step leaves, once the run is under way.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; under ``torchrun`` each process takes its own GPU.
        checkpointing: compute activations anew instead of keeping them; None: on a GPU.
        seed: of data, augmentation and prompts.
        workers: processes that make the data, for each training process; 0 makes it in the training process.
        threads: of torch in each training process; None leaves its own choice.
        save_every: steps between saved states; besides, one is saved every few minutes.
        validate_every: steps between validations.
        validation_clips: clips of the validation cases.
        minutes: save and stop after this long.

    Raises:
        InputError: a number is out of its range, or there is no such recipe.
    """

    recipe: str = "biosam2"
    steps: int | None = None
    batch: int | None = None
    clips: int | None = None
    targets: int | None = None
    lengths: tuple[int, ...] = ()
    axes: tuple[str, ...] = ("k",)
    window: tuple[float, float] | str | None = None
    size: int | None = None
    augment: bool = True
    learning_rate: float | None = None
    warm_up: int | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    average: float | None = None
    precision: str = "auto"
    device: str = "auto"
    checkpointing: bool | None = None
    seed: int = 0
    workers: int = 2
    threads: int | None = None
    save_every: int = 100
    validate_every: int = 200
    validation_clips: int = 16
    minutes: float | None = None

    def __post_init__(self) -> None:
        self.resolved()
        self.run()
        if not self.axes:
            raise InputError("axes must name one axis at least")
        if self.validation_clips < 1:
            raise InputError(f"validation_clips must be 1 or more, not {self.validation_clips}")

    def resolved(self) -> Recipe:
        """The recipe with what is done otherwise.

        Raises:
            InputError: a number is out of its range, or there is no such recipe.
        """
        recipe = get_recipe(self.recipe)
        changes = {
            name: value
            for name in ("weight_decay", "clip_norm", "average")
            if (value := getattr(self, name)) is not None
        }
        stages = self._stages(recipe)
        batch = self.batch or recipe.batches * recipe.stages[0].clips
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch must be 1 or more, not {self.batch}")
        if batch % stages[0].clips:
            raise InputError(f"a step of {batch} clips cannot be cut into batches of {stages[0].clips}")
        warm_up = recipe.warm_up if self.warm_up is None else self.warm_up
        return replace(recipe, stages=stages, batches=batch // stages[0].clips, warm_up=warm_up, **changes)

    def run(self) -> RunSettings:
        """How the run goes."""
        names = {field.name for field in fields(RunSettings)} & {field.name for field in fields(self)}
        return RunSettings(**{name: getattr(self, name) for name in names})

    def _stages(self, recipe: Recipe) -> tuple[Stage, ...]:
        stages = recipe.stages
        if self.steps is not None:
            if self.steps < 1:
                raise InputError(f"steps must be 1 or more, not {self.steps}")
            stages = stretched(stages, self.steps)
        if self.warm_up is not None:  # the learning rate decays once it was reached
            stages = (replace(stages[0], hold=min(self.warm_up, stages[0].steps)), *stages[1:])
        if self.learning_rate is not None:
            highest, new = max(max(stage.learning_rates) for stage in stages), self.learning_rate
            shares = [(s.learning_rates[0] / highest, s.learning_rates[1] / highest) for s in stages]
            stages = tuple(
                replace(s, learning_rates=(a * new, b * new)) for s, (a, b) in zip(stages, shares, strict=True)
            )
        same: dict[str, Any] = {
            name: value for name in ("clips", "targets", "size") if (value := getattr(self, name)) is not None
        }
        if self.lengths:
            same["lengths"] = self.lengths
        return tuple(replace(stage, **same) for stage in stages)


def finetune(
    out: str | Path,
    model: Model,
    cases: Sequence[Case],
    settings: FineTuneSettings | None = None,
    *,
    validation: Sequence[Case] = (),
    name: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Path | None:
    """Fine-tune a model; go on where an earlier run in the same folder stopped.

    Args:
        out: folder for the state, the losses, the TensorBoard log and the result: a checkpoint with its
            configuration and its model card beside it.
        model: to begin with; it is not changed.
        cases: to learn from.
        settings: how; those that shape the result must not change between the pieces of one run.
        validation: cases that Dice is measured on, before, in between and after.
        name: of the result's files; by default the model's and the recipe's.
        on_step: told the step and its loss after each.

    Returns:
        The checkpoint; None where the minutes were over first, and in all processes but the first.

    Raises:
        InputError: the settings or the cases do not do, or the folder holds another run.
        OutputError: the folder cannot be written; the last saved state is untouched.
        TrainingError: a loss is NaN; the message names the batch, which is saved in the folder.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return finetuner(folder, model, cases, settings, validation=validation, name=name).run(on_step)
    except OSError as error:
        raise cannot_write(folder / STATE, error) from error


def finetuner(
    folder: Path,
    model: Model,
    cases: Sequence[Case],
    settings: FineTuneSettings | None = None,
    *,
    validation: Sequence[Case] = (),
    name: str | None = None,
    recipe: Recipe | None = None,
) -> Trainer:
    """The trainer of a run.

    Args:
        folder: of the run; it must exist.
        model: to begin with; it is not changed.
        cases: to learn from.
        settings: how.
        validation: cases that Dice is measured on, before, in between and after.
        name: of the result's files; by default the model's and the recipe's.
        recipe: in the place of the one that the settings name.

    Raises:
        InputError: the settings or the cases do not do, or the folder holds another run.
    """
    settings = settings or FineTuneSettings()
    recipe = recipe or settings.resolved()
    return Trainer(folder, recipe, _FineTuning(model, cases, validation, settings, name), settings.run())


class _FineTuning:
    """A model on labelled cases, as a `trainer.Task`."""

    def __init__(
        self,
        model: Model,
        cases: Sequence[Case],
        validation: Sequence[Case],
        settings: FineTuneSettings,
        name: str | None,
    ) -> None:
        self.cases, self.validation = tuple(cases), tuple(validation)
        self.name = name or f"{model.name}-{settings.recipe}"
        self._model = model
        self._settings = settings

    def facts(self) -> dict[str, Any]:
        asked = asdict(self._settings)
        return {"model": self._model.sha256, **{name: asked[name] for name in ("axes", "window", "augment")}}

    def begin(self, size: int | None, seed: int) -> SAM2Base:
        network = self.build(size)
        network.load_state_dict(self._model.network.state_dict())
        return network

    def build(self, size: int | None) -> SAM2Base:
        return build_network(self._config(size), initialise=False)

    def batches(self, stage: Stage, seed: int) -> Dataset[Batch | BioSAM2Error]:
        asked = self._settings
        size = stage.size or self._model.image_size
        shape = (size, stage.clips, stage.targets, stage.lengths)
        return CaseBatches(self.cases, Cutting(*shape, asked.axes, asked.window, asked.augment), seed)

    def measure(self, trainer: Trainer, report: Reporter) -> dict[str, dict[str, float]]:
        if not self.validation:
            return {}
        network = trainer.averaged if trainer.step else trainer.network
        length = min(max(trainer.recipe.lengths), _LONGEST_VALIDATION)
        cutting = Cutting(
            network.image_size, 1, 1, (length,), self._settings.axes, self._settings.window, augment=False
        )
        source = CaseBatches(self.validation, cutting, _VALIDATION_SEED)
        dice: dict[str, list[float]] = defaultdict(list)
        for index in range(self._settings.validation_clips):
            clip = source.cut(0, index)
            for kind in ("click", "clicks", "box", "mask"):
                if kind == "mask" and clip.images.shape[1] == 1:
                    continue  # the mask is the answer
                answers = answer(network, to_device(clip, trainer.device), kind, (_VALIDATION_SEED, index))
                for name, values in answers.dice.items():
                    dice[name].extend(values)
                if kind == "click" and index < 4:
                    report.picture(trainer.step, f"validation/{index}", clip_picture(clip, answers))
        return {MAIN_GROUP: {name: float(np.mean(values)) for name, values in sorted(dice.items()) if values}}

    def saved(self, trainer: Trainer) -> None:
        """Nothing is exported before the end."""

    def finish(self, trainer: Trainer) -> Path:
        recipe, network = trainer.recipe, trainer.averaged.to("cpu")
        facts = RunFacts(
            name=self.name,
            model=self._model,
            recipe=recipe,
            settings=_table_of(recipe, self._settings),
            cases=self.cases,
            validation_cases=self.validation,
            digests=trainer.digests,
            losses=[row["loss"] for row in losses_of(trainer.folder)],
            validations={v["step"]: v["dice"][MAIN_GROUP] for v in trainer.validations},
            seconds=trainer.seconds,
            images=trainer.images,
            pieces=trainer.pieces,
            peak_gib=trainer.peak_gib,
        )
        return write_result(trainer.folder, network, self._config(recipe.stages[-1].size), facts)

    def _config(self, size: int | None) -> Any:
        from omegaconf import OmegaConf

        plain: Any = OmegaConf.to_container(self._model.config)
        return load_config(plain, None if size is None else [f"image_size={size}"])


def _table_of(recipe: Recipe, settings: FineTuneSettings) -> dict[str, Any]:
    """The settings as they were in force."""
    stage = recipe.stages[0]
    in_force = {
        "steps": recipe.steps,
        "batch": recipe.batches * stage.clips,
        "clips": stage.clips,
        "targets": stage.targets,
        "lengths": recipe.lengths,
        "learning_rate": max(max(s.learning_rates) for s in recipe.stages),
        **{name: getattr(recipe, name) for name in ("warm_up", "weight_decay", "clip_norm", "average")},
    }
    return {**asdict(settings), **in_force}
