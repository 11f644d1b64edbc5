"""Fine-tune a SAM 2 network on labelled cases, by a recipe; one process, or several under ``torchrun``.

A step is a fixed set of batches whatever the number of processes: each process takes its share, gradients are averaged
(Accelerate, DistributedDataParallel). Everything random follows from the seed, the step and the batch's number, so a
run that was killed goes on, from where it last saved, with the losses that it would have had.
"""

from __future__ import annotations

import json
import logging
import math
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from .. import devices
from ..datasets import Case
from ..errors import BioSAM2Error, InputError, TrainingError
from ..io import atomic_path
from ..io.atomic import cannot_write
from ..models import Model
from ..models.config import first_line
from ..models.network import build_network, load_config
from .clips import Clip
from .cuts import Batch, CaseBatches, Cutting, Places
from .pictures import clip_picture
from .recipes import apply_recipe, check_recipe, frozen_digest, get_recipe
from .result import RunFacts, digests, write_result
from .rounds import Answers, Round
from .saving import save_state

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)
_STATE = "state.pt"
_LOSSES = "losses.jsonl"
_BOARD = "tensorboard"
_VALIDATION_SEED = 7_000_000
_LONGEST_VALIDATION = 4  # frames
_REPORT_STEPS = 20
# Settings that do not shape the result, so that they may change between the pieces of a run.
_PASSING = {"device", "checkpointing", "workers", "save_every", "minutes"}


@dataclass(frozen=True)
class FineTuneSettings:
    """How a network is fine-tuned.

    Args:
        recipe: a name of `recipes.RECIPES`.
        steps: optimiser steps.
        batch: clips in a step, over all processes.
        clips: clips that a device holds at once; all from one case.
        targets: targets in a clip.
        lengths: frames in a clip, drawn for every batch; empty: the recipe's.
        axes: index axes or anatomical names that slices are taken along, drawn for every batch.
        window: centre and width, or a CT preset's name; None for robust percentiles.
        size: rows and columns of a frame; None for the model's own.
        augment: whether clips are varied.
        learning_rate: the highest; reached after the warm-up, nought at the end (half a cosine).
        warm_up: steps until then.
        weight_decay: of matrices and kernels.
        clip_norm: gradients are scaled down to this norm.
        average: how much of the averaged weights (those that are kept) a step leaves, once the run is under way.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; under ``torchrun`` each process takes its own GPU.
        checkpointing: compute activations anew instead of keeping them; None: on a GPU.
        seed: of data, augmentation and prompts.
        workers: processes that make the data, for each training process; 0 makes it in the training process.
        save_every: steps between saved states.
        validate_every: steps between validations.
        validation_clips: clips of the validation cases.
        minutes: save and stop after this long.
    """

    recipe: str = "biosam2"
    steps: int = 1000
    batch: int = 8
    clips: int = 1
    targets: int = 2
    lengths: tuple[int, ...] = ()
    axes: tuple[str, ...] = ("k",)
    window: tuple[float, float] | str | None = None
    size: int | None = None
    augment: bool = True
    # Few labels: with 1e-4, as for training from nothing, it got worse where this got better (docs/finetuning.md).
    learning_rate: float = 1e-5
    warm_up: int = 50
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    average: float = 0.995
    precision: str = "auto"
    device: str = "auto"
    checkpointing: bool | None = None
    seed: int = 0
    workers: int = 2
    save_every: int = 100
    validate_every: int = 200
    validation_clips: int = 16
    minutes: float | None = None

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "clips", "targets", "save_every", "validate_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise InputError(f"average must be 0 or more and less than 1, not {self.average}")
        if any(length < 1 for length in self.lengths):
            raise InputError(f"clips have 1 frame or more, not {self.lengths}")
        if self.batch % self.clips:
            raise InputError(f"a step of {self.batch} clips cannot be cut into batches of {self.clips}")
        if self.size is not None and (self.size < 32 or self.size % 32):
            raise InputError(f"a frame's size must be a multiple of 32, not {self.size}")


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
        TrainingError: a loss is no number; the message names the batch, which is saved in the folder.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trainer = FineTuner(folder, model, cases, settings or FineTuneSettings(), validation=validation, name=name)
        return trainer.run(on_step)
    except OSError as error:
        raise cannot_write(folder / _STATE, error) from error


class FineTuner:
    """The state of a run; see `finetune` for the arguments."""

    def __init__(
        self,
        folder: Path,
        model: Model,
        cases: Sequence[Case],
        settings: FineTuneSettings,
        *,
        validation: Sequence[Case] = (),
        name: str | None = None,
    ) -> None:
        self.folder = folder
        self.model = model
        self.settings = settings
        self.cases, self.validation = list(cases), list(validation)
        self.recipe = get_recipe(settings.recipe)
        self._lengths = settings.lengths or self.recipe.lengths
        self.name = name or f"{model.name}-{self.recipe.name}"
        chosen, _ = devices.choose(settings.device)
        self._accelerator = Accelerator(
            cpu=chosen.type == "cpu",
            mixed_precision="no",  # `devices.autocast` is this project's one place for it
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )
        self.device: torch.device = self._accelerator.device
        self.precision = devices.precision_of(self.device, settings.precision)
        self.is_main: bool = self._accelerator.is_main_process
        self._check_shares()

        self.config = _resized(model.config, settings.size)
        self.network = build_network(self.config, initialise=False)
        self.network.load_state_dict(model.network.state_dict())
        apply_recipe(self.network, self.recipe)
        self._frozen = frozen_digest(self.network, self.recipe)
        self.network.to(self.device)
        self.average = AveragedModel(self.network, multi_avg_fn=_follow(settings.average))
        self.average.requires_grad_(False)
        if settings.checkpointing or (settings.checkpointing is None and self.device.type != "cpu"):
            compute_anew(self.network)
        self._rounds = self._accelerator.prepare_model(_Rounds(self.network))
        self.optimizer = torch.optim.AdamW(
            _groups(self.network, settings.weight_decay),
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=self.device.type in {"cpu", "cuda"},
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16")

        self.step = 0
        self.seconds = 0.0
        self.validations: list[dict[str, Any]] = []
        self._dice: dict[str, list[float]] = defaultdict(list)
        self._terms: dict[str, list[float]] = defaultdict(list)
        self._identity = ""
        if self.is_main:
            self._data = digests([*self.cases, *self.validation])
            self._identity = self._describe_run()
        if (folder / _STATE).exists():
            self._load()

    @property
    def averaged(self) -> SAM2Base:
        """The network with averaged weights, which is the result."""
        return cast("SAM2Base", self.average.module)

    def run(self, on_step: Callable[[int, float], None] | None = None) -> Path | None:
        """Train until the end or until the minutes are over; see `finetune`."""
        settings = self.settings
        began = time.monotonic()
        before = self.seconds
        with self._board() as board, self._losses() as losses:
            if self.step == 0:
                self._validate(board)
                self.save()
            for batches in self._steps():
                loss = self.train_step(batches)
                self.seconds = before + time.monotonic() - began
                if losses is not None:
                    losses.write(json.dumps({"step": self.step, "loss": loss}) + "\n")
                    losses.flush()
                over = settings.minutes is not None and self._agree(self.seconds - before > settings.minutes * 60)
                last = over or self.step == settings.steps
                if self.step % _REPORT_STEPS == 0 or last:
                    self._report(board, loss, batches)
                if self.step % settings.validate_every == 0 or self.step == settings.steps:
                    self._validate(board)
                if self.step % settings.save_every == 0 or last:
                    self.save()
                if on_step is not None:
                    on_step(self.step, loss)
                if over:
                    break
        if not self.is_main or self.step < settings.steps:
            return None
        return self._finish()

    def train_step(self, batches: Sequence[Batch]) -> float:
        """One step on this process's batches; returns the loss of all of them, in all processes.

        Raises:
            TrainingError: it is no number.
        """
        settings = self.settings
        rate = learning_rate(self.step, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            seeds = (settings.seed, self.step, self._number(number))
            with nullcontext() if last else self._accelerator.no_sync(self._rounds):
                with devices.autocast(self.device, self.precision):
                    answers = self._rounds(to_device(batch.clip, self.device), seeds)
                self._scaler.scale(answers.loss / len(batches)).backward()
            losses.append(float(answers.loss.detach()))
            for name, values in answers.dice.items():
                self._dice[name].extend(values)
            for name, value in answers.terms.items():
                self._terms[name].append(value)
        loss = self._mean(sum(losses) / len(losses))
        self._scaler.unscale_(self.optimizer)
        norm = self._prepare_gradients()
        # In float16 gradients may overflow now and then: the scaler leaves such a step out.
        if not (math.isfinite(loss) and (math.isfinite(norm) or self._scaler.is_enabled())):
            self._give_up(batches, losses)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.average.update_parameters(self.network)
        self.step += 1
        return loss

    def save(self) -> None:
        """Write the whole state, atomically: where that fails the last one is still there.

        Raises:
            OutputError: the folder cannot be written.
        """
        check_recipe(self.network, self.recipe)
        if not self.is_main:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "run": self._identity,
            "validations": json.dumps(self.validations),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        save_state(self.folder / _STATE, state)

    # The run ---------------------------------------------------------------------------------------------------------

    def _steps(self) -> Iterator[list[Batch]]:
        """This process's batches of every step that is left, made ahead in other processes."""
        settings, accelerator = self.settings, self._accelerator
        cutting = Cutting(
            self.network.image_size,
            settings.clips,
            settings.targets,
            self._lengths,
            settings.axes,
            settings.window,
            settings.augment,
        )
        number = settings.batch // settings.clips
        share = number // accelerator.num_processes
        loader = DataLoader(
            CaseBatches(self.cases, cutting, settings.seed),
            batch_size=None,
            sampler=Places(self.step, settings.steps, number, accelerator.process_index, accelerator.num_processes),
            num_workers=settings.workers,
            prefetch_factor=2 * share if settings.workers else None,
            persistent_workers=False,
        )
        gathered: list[Batch] = []
        for item in loader:
            if isinstance(item, BioSAM2Error):
                raise item
            gathered.append(item)
            if len(gathered) == share:
                yield gathered
                gathered = []

    def _number(self, number: int) -> int:
        """A batch's number within the step, over all processes."""
        return number * self._accelerator.num_processes + self._accelerator.process_index

    def _prepare_gradients(self) -> float:
        """Clip the gradients' norm and return it; a parameter that nothing asked for is left alone, decay included."""
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm([p.grad for p in parameters])).tolist()
        for parameter, norm in zip(parameters, norms, strict=True):
            if norm == 0:
                parameter.grad = None
        used = [p for p in parameters if p.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(used, self.settings.clip_norm)) if used else 0.0

    def _give_up(self, batches: Sequence[Batch], losses: Sequence[float]) -> None:
        """Save this process's batches and stop, naming those of all processes whose loss is no number."""
        path = self.folder / f"failed-step-{self.step}-process-{self._accelerator.process_index}.pt"
        content = [
            {"title": batch.title, "loss": loss, "clip": asdict(batch.clip)}
            for batch, loss in zip(batches, losses, strict=True)
        ]
        save_state(path, content)
        bad = [batch.title for batch, loss in zip(batches, losses, strict=True) if not math.isfinite(loss)]
        named = gather_object(bad) or [batch.title for batch in batches]
        raise TrainingError(
            f"step {self.step}: the loss or its gradient is not a number for {' / '.join(named)} (saved as {path}); "
            "look at that case, lower the learning rate or use float32, and run again to go on from the last state"
        )

    def _load(self) -> None:
        try:
            state = torch.load(self.folder / _STATE, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                f"{self.folder / _STATE} is damaged ({first_line(error)}); remove it, or choose another folder"
            ) from error
        if self.is_main and state["run"] != self._identity:
            other = _differences(json.loads(state["run"]), json.loads(self._identity))
            raise InputError(f"{self.folder} holds a run with another {other}; choose another folder or remove it")
        self.step, self.seconds = state["step"], state["seconds"]
        self.validations = json.loads(state["validations"])
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def _describe_run(self) -> str:
        """Everything that shapes the result, as JSON."""
        settings = {key: value for key, value in asdict(self.settings).items() if key not in _PASSING}
        settings["precision"] = self.precision
        return json.dumps(
            {
                **settings,
                "name": self.name,
                "model": self.model.sha256,
                "data": self._data,
                "validation": [case.name for case in self.validation],
            }
        )

    def _check_shares(self) -> None:
        batches, processes = self.settings.batch // self.settings.clips, self._accelerator.num_processes
        if batches % processes:
            raise InputError(f"{batches} batches in a step cannot be shared by {processes} processes; change batch")

    def _mean(self, value: float) -> float:
        """The mean over all processes."""
        if self._accelerator.num_processes == 1:
            return value
        mine = torch.tensor(value, device=self.device, dtype=torch.float32)
        return float(self._accelerator.reduce(mine, reduction="mean"))

    def _agree(self, decision: bool) -> bool:
        """Whether any process decided so."""
        return self._mean(float(decision)) > 0

    # What is told ----------------------------------------------------------------------------------------------------

    def _board(self) -> Any:
        if not self.is_main:
            return nullcontext()
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / _BOARD), purge_step=self.step + 1)

    def _losses(self) -> Any:
        """The file of losses, cut off where the state is."""
        if not self.is_main:
            return nullcontext()
        path = self.folder / _LOSSES
        kept = path.read_text(encoding="utf-8").splitlines()[: self.step] if path.exists() else []
        with atomic_path(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        return path.open("a", encoding="utf-8")

    def _report(self, board: SummaryWriter | None, loss: float, batches: Sequence[Batch]) -> None:
        dice, terms = self._gathered(self._dice), self._gathered(self._terms)
        self._dice.clear()
        self._terms.clear()
        if board is None:
            return
        board.add_scalar("loss", loss, self.step)
        board.add_scalar("learning rate", learning_rate(self.step - 1, self.settings), self.step)
        board.add_scalar("clips per second", self.settings.batch * self.step / max(self.seconds, 1e-9), self.step)
        if self.device.type == "cuda":
            board.add_scalar("peak memory, GiB", torch.cuda.max_memory_allocated(self.device) / 2**30, self.step)
        for name, value in terms.items():
            board.add_scalar(f"loss/{name}", value, self.step)
        for name, value in dice.items():
            board.add_scalar(f"train dice/{name}", value, self.step)
        if self.step % self.settings.validate_every == 0 or self.step == self.settings.steps:
            answers = self._answers(self.network, batches[0].clip, "click", (self.settings.seed, self.step))
            board.add_image("train/click", clip_picture(batches[0].clip, answers), self.step)
        line = " ".join(f"{name}={value:.2f}" for name, value in dice.items())
        _log.info("step %d %.0f s loss %.3f %s", self.step, self.seconds, loss, line)

    def _gathered(self, values: dict[str, list[float]]) -> dict[str, float]:
        """Means over all processes."""
        joined: dict[str, list[float]] = defaultdict(list)
        for part in gather_object([dict(values)]):
            for name, numbers in part.items():
                joined[name].extend(numbers)
        return {name: float(np.mean(numbers)) for name, numbers in sorted(joined.items()) if numbers}

    def _validate(self, board: SummaryWriter | None) -> None:
        """Dice of the averaged weights on the validation cases, by the first process."""
        if not self.is_main or not self.validation or any(v["step"] == self.step for v in self.validations):
            return
        network = self.averaged if self.step else self.network
        length = min(max(self._lengths), _LONGEST_VALIDATION)
        cutting = Cutting(network.image_size, 1, 1, (length,), self.settings.axes, self.settings.window, augment=False)
        source = CaseBatches(self.validation, cutting, _VALIDATION_SEED)
        dice: dict[str, list[float]] = defaultdict(list)
        for index in range(self.settings.validation_clips):
            clip = source.batch(0, index).clip
            for kind in ("click", "clicks", "box", "mask"):
                if kind == "mask" and clip.images.shape[1] == 1:
                    continue  # the mask is the answer
                answers = self._answers(network, clip, kind, (_VALIDATION_SEED, index))
                for name, values in answers.dice.items():
                    dice[name].extend(values)
                if board is not None and kind == "click" and index < 4:
                    board.add_image(f"validation/{index}", clip_picture(clip, answers), self.step)
        means = {name: float(np.mean(values)) for name, values in sorted(dice.items()) if values}
        self.validations.append({"step": self.step, "dice": means})
        if board is not None:
            for name, value in means.items():
                board.add_scalar(f"validation dice/{name}", value, self.step)
        _log.info("validation %d %s", self.step, " ".join(f"{name}={value:.3f}" for name, value in means.items()))

    @torch.no_grad()
    def _answers(self, network: SAM2Base, clip: Clip, kind: str, seeds: tuple[int, ...]) -> Answers:
        """What a network makes of a clip from one prompt."""
        with devices.autocast(self.device, self.precision):
            one = Round(network, to_device(clip, self.device), np.random.default_rng(list(seeds)))
            return one.answer_frame(kind, 0) if clip.images.shape[1] == 1 else one.answer_clip(kind, correct=False)

    def _finish(self) -> Path:
        """Check what must not have moved, and write the result."""
        network = self.averaged.to("cpu")
        if frozen_digest(network, self.recipe) != self._frozen:
            raise RuntimeError(f"recipe {self.recipe.name} changed weights that it freezes")
        losses = [json.loads(line)["loss"] for line in (self.folder / _LOSSES).read_text().splitlines()]
        memory = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None
        facts = RunFacts(
            name=self.name,
            model=self.model,
            recipe=self.recipe,
            settings={**asdict(self.settings), "lengths": self._lengths},
            cases=self.cases,
            validation_cases=self.validation,
            digests=self._data,
            losses=losses,
            validations=self.validations,
            seconds=self.seconds,
            processes=self._accelerator.num_processes,
            device=str(self.device),
            precision=self.precision,
            peak_gib=memory,
        )
        return write_result(self.folder, network, self.config, facts)


class _Rounds(nn.Module):
    """A network with the prompts of a batch in front of it, as one call: what DistributedDataParallel needs."""

    def __init__(self, network: SAM2Base) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: Clip, seeds: tuple[int, int, int]) -> Answers:
        """The answers to simulated prompts; their loss depends on every trained parameter, if only by nought."""
        rng = np.random.default_rng([*seeds, 1])
        one = Round(self.network, clip, rng)
        answers = _frame_answers(one, rng) if clip.images.shape[1] == 1 else [_clip_answers(one, clip, rng)]
        merged = Answers(torch.stack([a.loss for a in answers]).mean())
        for name in {name for each in answers for name in each.terms}:
            merged.terms[name] = float(np.mean([each.terms[name] for each in answers if name in each.terms]))
        for each in answers:
            merged.masks.update(each.masks)
            for name, values in each.dice.items():
                merged.dice.setdefault(name, []).extend(values)
        # Which parts a prompt uses differs between processes, and gradients are awaited for all.
        merged.loss = merged.loss + 0.0 * sum(p.sum() for p in self.network.parameters() if p.requires_grad)
        return merged


def _frame_answers(one: Round, rng: np.random.Generator) -> list[Answers]:
    """A slice by itself: from a click, and from a box or several clicks, each with corrections."""
    return [
        one.answer_frame("click", corrections=int(rng.integers(0, 4))),
        one.answer_frame(str(rng.choice(["box", "clicks"])), corrections=int(rng.integers(0, 3))),
    ]


def _clip_answers(one: Round, clip: Clip, rng: np.random.Generator) -> Answers:
    """A prompt, swept both ways, sometimes corrected on the way."""
    kind = str(rng.choice(["click", "clicks", "box", "mask"], p=[0.25, 0.2, 0.3, 0.25]))
    skip = int(rng.integers(1, 30)) if clip.prompted == 0 and rng.random() < 0.3 else 0
    return one.answer_clip(kind, correct=bool(rng.random() < 0.4), skip=skip)


def learning_rate(step: int, settings: FineTuneSettings) -> float:
    """Of a step, counted from 0: a linear warm-up, then half a cosine to nought."""
    warm_up = min(settings.warm_up, settings.steps)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(settings.steps - warm_up, 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def compute_anew(network: SAM2Base) -> None:
    """Gradient checkpointing: the encoder's blocks and the memory attention's layers keep their inputs only."""
    for layer in [*network.image_encoder.trunk.blocks, *network.memory_attention.layers]:
        layer.forward = _checkpointed(layer.forward)


def _checkpointed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def inner(*args: Any, **kwargs: Any) -> Tensor:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return inner


def to_device(clip: Clip, device: torch.device) -> Clip:
    """The same clip on a device."""
    moved: dict[str, Any] = {
        f.name: value.to(device) for f in fields(clip) if isinstance(value := getattr(clip, f.name), Tensor)
    }
    return replace(clip, **moved)


def _resized(config: Any, size: int | None) -> Any:
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config)
    return load_config(plain, None if size is None else [f"image_size={size}"])


def _follow(most: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average that follows closely at first, and keeps at most a share of itself."""

    @torch.no_grad()
    def average(averaged: list[Tensor], present: list[Tensor], number: Tensor | int) -> None:
        torch._foreach_lerp_(averaged, present, 1 - min(most, (1 + int(number)) / (10 + int(number))))

    return average


def _groups(network: SAM2Base, weight_decay: float) -> list[dict[str, Any]]:
    trained = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _differences(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The names under which two mappings differ."""
    return ", ".join(sorted(key for key in {*a, *b} if a.get(key) != b.get(key)))
