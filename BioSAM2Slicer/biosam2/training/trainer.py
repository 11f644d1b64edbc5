"""The trainer: it takes a network through a recipe's stages, in one process or several under ``torchrun``.

A step is a fixed set of batches whatever the number of processes: each process takes its share, gradients are averaged
(Accelerate, DistributedDataParallel). Everything random follows from the seed, the step and the batch's number, so a
run that was killed goes on, from where it last saved, with the losses that it would have had.

What differs between runs is the recipe, and a `Task`: the network, the data, how it is measured, and what is left.
"""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from .. import devices
from ..datasets import Case
from ..errors import BioSAM2Error, InputError, TrainingError
from ..models.config import first_line
from .clips import Batch, Clip, SamplerIndices, to_device
from .files import digests, save_state
from .freezing import apply_recipe, check_recipe, frozen_digest
from .objective import Objective, answer
from .optimization import compute_anew, following, optimizer_of
from .pictures import clip_picture
from .recipes.recipe import Recipe
from .reporting import Means, Reporter
from .rounds import Answers
from .schedule import Stage, learning_rate, stage_at

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

STATE = "state.pt"
_REPORT_STEPS = 20
_AHEAD = 6  # batches that a process of data makes ahead, at least


@dataclass(frozen=True)
class RunSettings:
    """How a run goes on its machine. Only the seed and, in the last bits, device and precision shape the result.

    Args:
        seed: of data, prompts and first weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; under ``torchrun`` each process takes its own GPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        checkpointing: compute activations anew instead of keeping them; None: on a GPU.
        workers: processes that make the data, for each training process; 0 makes it in the training process.
        threads: of torch in each training process; None leaves its own choice.
        minutes: save and stop after this long; None goes on to the end.
        save_every: steps between saved states; None: only by time.
        save_minutes: time between saved states.
        validate_every: steps between validations; None: only by time.
        validate_minutes: time of training between validations; None: only by steps.
    """

    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    checkpointing: bool | None = None
    workers: int = 2
    threads: int | None = None
    minutes: float | None = None
    save_every: int | None = None
    save_minutes: float = 3.0
    validate_every: int | None = None
    validate_minutes: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("save_every", 1), ("validate_every", 1), ("threads", 1), ("seed", 0), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be {least} or more, not {value}")


class Task(Protocol):
    """What is trained, on what, and what is left of it."""

    @property
    def name(self) -> str:
        """Of the result."""

    @property
    def cases(self) -> Sequence[Case]:
        """Labelled cases to learn from."""

    @property
    def validation(self) -> Sequence[Case]:
        """Labelled cases to measure on."""

    def facts(self) -> dict[str, Any]:
        """What shapes the result beside recipe, seed, precision and cases; plain values for JSON."""

    def begin(self, size: int | None, seed: int) -> SAM2Base:
        """The network that the run begins with, on the CPU, for frames of a size; None for the task's own.

        Args:
            size: side of the network's input, in pixels; None for the task's own.
            seed: of random weights, where there are any.
        """

    def build(self, size: int | None) -> SAM2Base:
        """The same network for frames of another size, its weights not set."""

    def batches(self, stage: Stage, seed: int) -> Dataset[Batch | BioSAM2Error]:
        """A stage's batches by place (step, number within the step).

        Args:
            stage: of the run.
            seed: from which every batch follows.
        """

    def measure(self, trainer: Trainer, report: Reporter) -> dict[str, dict[str, float]]:
        """Group of cases → kind of answer → mean Dice of the averaged weights; empty where nothing is measured.

        Args:
            trainer: whose averaged weights are measured.
            report: told of the progress.
        """

    def saved(self, trainer: Trainer) -> None:
        """Told after each saved state, in the first process."""

    def finish(self, trainer: Trainer) -> Path:
        """Write the result of a run that has ended, in the first process."""


class Trainer:
    """The state of a run: weights, their average, the optimizer, the number of steps done.

    Attributes:
        step: steps done.
        seconds: of training, over all pieces.
        images: frames that were trained on.
        validations: ``{"step": …, "seconds": …, "dice": {group: {kind of answer: mean}}}``, in order.
        pieces: ``{"from": step, "device": …, "precision": …, "processes": …}``, where one of them changed.

    Args:
        folder: where the state lies or will lie; it must exist.
        recipe: how it is trained.
        task: see `Task`.
        settings: see `RunSettings`.

    Raises:
        InputError: the settings do not do, or the folder holds another run.
    """

    def __init__(self, folder: Path, recipe: Recipe, task: Task, settings: RunSettings) -> None:
        self.folder = folder
        self.recipe = recipe
        self.task = task
        self.settings = settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        chosen, _ = devices.choose(settings.device)
        self._accelerator = Accelerator(
            cpu=chosen.type == "cpu",
            mixed_precision="no",  # `devices.autocast` is this project's one place for it
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )
        self.device: torch.device = self._accelerator.device
        self.precision = devices.precision_of(self.device, settings.precision)
        self.is_main: bool = self._accelerator.is_main_process
        self.processes: int = self._accelerator.num_processes
        self._check_shares()

        first, last = recipe.stages[0].size, recipe.stages[-1].size
        self.network = task.begin(first, settings.seed)
        apply_recipe(self.network, recipe)
        self._frozen = frozen_digest(self.network, recipe)
        averaged = self.network if first == last else _in_size(task, self.network, last)
        self.network.to(self.device)
        self.average = AveragedModel(averaged.to(self.device), multi_avg_fn=following(recipe.average))
        self.average.requires_grad_(False)
        self.average.n_averaged.fill_(1)  # the weights that the run begins with count
        self._prepare()
        fused = self.device.type in {"cpu", "cuda"}
        self.optimizer, self._scales = optimizer_of(self.network, recipe, fused)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16")

        self.step = 0
        self.seconds = 0.0
        self.images = 0
        self.validations: list[dict[str, Any]] = []
        self.pieces: list[dict[str, Any]] = []
        self._dice, self._terms = Means(), Means()
        self.digests: dict[str, str] = {}
        self._identity = ""
        if self.is_main:
            self.digests = digests([*task.cases, *task.validation])
            self._identity = self._describe_run()
        if (folder / STATE).exists():
            self._load()
        here = {"device": self.device.type, "precision": self.precision, "processes": self.processes}
        if not self.pieces or {**self.pieces[-1], "from": 0} != {**here, "from": 0}:
            self.pieces.append({"from": self.step, **here})

    @property
    def averaged(self) -> SAM2Base:
        """The network with averaged weights, which is the result; its frames have the last stage's size."""
        return cast("SAM2Base", self.average.module)

    @property
    def stage(self) -> Stage:
        """The stage of the next step."""
        return stage_at(self.recipe.stages, self.step)[0]

    @property
    def peak_gib(self) -> float | None:
        """The most GPU memory that was taken, None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None

    def run(self, on_step: Callable[[int, float], None] | None = None) -> Path | None:
        """Train until the end or until the minutes are over.

        Args:
            on_step: told the number of steps done and the loss, after each.

        Returns:
            The result; None where the minutes were over first, and in all processes but the first.

        Raises:
            InputError: a case cannot be read.
            OutputError: the folder cannot be written; the last saved state is untouched.
            TrainingError: a loss is NaN or infinite; the message names the batch, which is saved in the folder.
        """
        settings, steps = self.settings, self.recipe.steps
        began = saved = time.monotonic()
        before = self.seconds
        with Reporter(self.folder, self.step) if self.is_main else nullcontext() as report:
            if self.step == 0:
                self._validate(report)
                self.save()
            for batches in self._batches():
                loss = self.train_step(batches)
                now = time.monotonic()
                self.seconds = before + now - began
                if report is not None:
                    report.loss(self.step, loss)
                over = settings.minutes is not None and self._agree(now - began > settings.minutes * 60)
                last = over or self.step == steps
                if self.step % _REPORT_STEPS == 0 or last:
                    self._report(report, loss)
                if self.step == steps or self._is_due_for_validation():
                    self._validate(report, batches[0].clip)
                if _every(settings.save_every, self.step) or now - saved > settings.save_minutes * 60 or last:
                    self.save()
                    saved = time.monotonic()
                if on_step is not None:
                    on_step(self.step, loss)
                if over:
                    break
        if not self.is_main or self.step < steps:
            return None
        if frozen_digest(self.averaged, self.recipe) != self._frozen:
            raise RuntimeError(f"recipe {self.recipe.name} changed weights that it freezes")
        return self.task.finish(self)

    def train_step(self, batches: Sequence[Batch]) -> float:
        """One step on this process's batches; returns the loss of all of them, in all processes.

        Raises:
            TrainingError: it is NaN or infinite.
        """
        stage = self.stage
        self._resize(stage.size)
        rate = learning_rate(self.recipe.stages, self.recipe.warm_up, self.step)
        for group, scale in zip(self.optimizer.param_groups, self._scales, strict=True):
            group["lr"] = rate * scale
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else self._accelerator.no_sync(self._objective):
                with devices.autocast(self.device, self.precision):
                    clip = None if batch.clip is None else to_device(batch.clip, self.device)
                    answers: Answers = self._objective(clip, self._seeds(number), stage)
                self._scaler.scale(answers.loss / len(batches)).backward()
            losses.append(float(answers.loss.detach()))
            self._dice.add(answers.dice)
            self._terms.add(answers.terms)
            if batch.clip is not None:
                self.images += math.prod(batch.clip.images.shape[:2]) * self.processes
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
            "images": self.images,
            "run": self._identity,
            "frozen": self._frozen,
            "validations": json.dumps(self.validations),
            "pieces": json.dumps(self.pieces),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "bank": self._core.bank.state() if self._core.bank is not None else [],
        }
        save_state(self.folder / STATE, state)
        self.task.saved(self)

    # The network -----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Put the objective in front of the network, shared by all processes."""
        if self.settings.checkpointing or (self.settings.checkpointing is None and self.device.type != "cpu"):
            compute_anew(self.network)
        self._core = Objective(self.network, self.recipe, shared=self.processes > 1)
        self._objective = self._accelerator.prepare_model(self._core)

    def _resize(self, size: int | None) -> None:
        """Go on with the same parameters in a network for frames of another size."""
        if size is None or self.network.image_size == size:
            return
        network = _in_size(self.task, self.network, size).to(self.device)
        for name, parameter in self.network.named_parameters():
            owner, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(owner), leaf, parameter)
        self.network = network
        self._accelerator.free_memory()
        self._prepare()

    def _prepare_gradients(self) -> float:
        """Clip the gradients' norm and return it; a parameter that nothing asked for is left alone, decay included."""
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norms = torch._foreach_norm([p.grad for p in parameters])
        # With several processes a gradient of 0 may be one that no prompt asked for.
        if not self.recipe.decay_idle or self.processes > 1:
            for parameter, norm in zip(parameters, torch.stack(norms).tolist(), strict=True):
                if norm == 0:
                    parameter.grad = None
        used = [p for p in parameters if p.grad is not None]
        if not used:
            return 0.0
        return float(torch.nn.utils.clip_grad_norm_(used, self.recipe.clip_norm or math.inf))

    # The run ---------------------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[list[Batch]]:
        """This process's batches of every step that is left, made ahead in other processes."""
        number = self.recipe.batches
        share = number // self.processes
        workers = self.settings.workers
        end = 0
        for stage in self.recipe.stages:
            begin, end = max(end, self.step), end + stage.steps
            if begin >= end:
                continue
            loader = DataLoader(
                self.task.batches(stage, self.settings.seed),
                batch_size=None,
                sampler=SamplerIndices(begin, end, number, self._accelerator.process_index, self.processes),
                num_workers=workers,
                prefetch_factor=max(_AHEAD, 2 * share) if workers else None,
            )
            gathered: list[Batch] = []
            for item in loader:
                if isinstance(item, BioSAM2Error):
                    raise item
                gathered.append(item)
                if len(gathered) == share:
                    yield gathered
                    gathered = []

    def _seeds(self, number: int) -> tuple[int, ...]:
        """Of what is random in a batch's prompts."""
        place = number * self.processes + self._accelerator.process_index
        return (self.settings.seed, 1, self.step, place) if place else (self.settings.seed, 1, self.step)

    def _give_up(self, batches: Sequence[Batch], losses: Sequence[float]) -> None:
        """Save this process's batches and stop, naming those of all processes whose loss is NaN or infinite."""
        path = self.folder / f"failed-step-{self.step}-process-{self._accelerator.process_index}.pt"
        content = [
            {"title": batch.title, "loss": loss, "clip": asdict(batch.clip) if batch.clip is not None else None}
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
        path = self.folder / STATE
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            if self.is_main and state["run"] != self._identity:
                other = _differences(json.loads(state["run"]), json.loads(self._identity))
                raise InputError(f"{self.folder} holds a run with {other}; choose another folder or remove it")
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            self.step, self.seconds, self.images = state["step"], state["seconds"], state["images"]
            self._frozen = state["frozen"]
            self.validations = json.loads(state["validations"])
            self.pieces = json.loads(state["pieces"])
            if self._core.bank is not None:
                self._core.bank.load(state["bank"], self.device)
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            if isinstance(error, BioSAM2Error):
                raise
            raise InputError(f"{path} is damaged ({first_line(error)}); remove it, or choose another folder") from error

    def _describe_run(self) -> str:
        """Everything that shapes the result, as JSON."""
        return json.dumps(
            {
                "recipe": self.recipe.shaping(),
                "seed": self.settings.seed,
                "name": self.task.name,
                **self.task.facts(),
                "cases": {case.name: self.digests[case.name] for case in self.task.cases},
                "validation cases": {case.name: self.digests[case.name] for case in self.task.validation},
            }
        )

    def _check_shares(self) -> None:
        batches, processes = self.recipe.batches, self.processes
        if batches % processes:
            raise InputError(
                f"{batches} batches in a step cannot be shared by {processes} processes; give a multiple of {processes}"
            )
        if self.recipe.bank and self.processes > 1:
            raise InputError(f"recipe {self.recipe.name} has one memory bank; run it in one process")

    def _mean(self, value: float) -> float:
        """The mean over all processes."""
        if self.processes == 1:
            return value
        mine = torch.tensor(value, device=self.device, dtype=torch.float32)
        return float(self._accelerator.reduce(mine, reduction="mean"))

    def _agree(self, decision: bool) -> bool:
        """Whether any process decided so."""
        return self._mean(float(decision)) > 0

    # What is told ----------------------------------------------------------------------------------------------------

    def _report(self, report: Reporter | None, loss: float) -> None:
        dice, terms = self._dice.take(), self._terms.take()
        if report is None:
            return
        seconds = max(self.seconds, 1e-9)
        values = {
            "loss": loss,
            "learning rate": learning_rate(self.recipe.stages, self.recipe.warm_up, self.step - 1),
            "images per second": self.images / seconds,
        }
        if self.peak_gib is not None:
            values["peak memory, GiB"] = self.peak_gib
        report.means(self.step, values, terms, dice)

    def _is_due_for_validation(self) -> bool:
        settings = self.settings
        if _every(settings.validate_every, self.step):
            return True
        if settings.validate_minutes is None:
            return False
        last = self.validations[-1]["seconds"] if self.validations else 0.0
        return self.seconds - last > settings.validate_minutes * 60

    def _validate(self, report: Reporter | None, clip: Clip | None = None) -> None:
        """Dice of the averaged weights, by the first process; and a picture of what is trained on."""
        if report is None or any(v["step"] == self.step for v in self.validations):
            return
        with torch.no_grad(), devices.autocast(self.device, self.precision):
            if clip is not None:
                answers = answer(self.network, to_device(clip, self.device), "click", (self.settings.seed, self.step))
                report.picture(self.step, "train/click", clip_picture(clip, answers))
            dice = self.task.measure(self, report)
        if dice:
            self.validations.append({"step": self.step, "seconds": self.seconds, "dice": dice})
            report.validations(self.validations)


def _in_size(task: Task, network: SAM2Base, size: int | None) -> SAM2Base:
    """A network's weights in a network of their own for frames of another size, on the CPU."""
    other = task.build(size)
    other.load_state_dict(network.state_dict())
    return other


def _every(steps: int | None, step: int) -> bool:
    return steps is not None and step % steps == 0


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """How two descriptions of a run differ, in words."""
    words = []
    names = sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
    others = [name for name in names if "cases" not in name]
    if others:
        words.append(f"another {', '.join(others)}")
    for name in names:
        if "cases" in name:
            one, other = a.get(name, {}), b.get(name, {})
            differing = sorted(case for case in {*one, *other} if one.get(case) != other.get(case))
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            words.append(f"other {name} ({', '.join(differing[:3])}{more})")
    return " and ".join(words) or "its cases in another order"
