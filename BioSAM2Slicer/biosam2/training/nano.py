"""Train `nano`, the network that is shipped, from synthetic cases and from real ones; and write its checkpoint.

Bare prompts come first, which teach the decoder where things are; then single frames, which teach the encoder; then
clips, which teach the memory too; all at half the size, where a step costs a quarter; then clips at full size; at last
clips that are corrected and swept again. With labelled cases of many sources (see `collection`) a network that is
there goes on: real images and synthetic ones are mixed, and clips are prompted on several frames. A run saves its whole
state every few minutes and, started again, goes on as if it had never stopped.

`biosam2 train nano` does it; the TensorBoard log in the folder tells losses and Dice.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..datasets import Case
from ..errors import InputError, OutputError
from ..models.hashing import sha256_of
from ..models.network import build_network, load_config
from .clips import Clip, ClipBatches
from .collection import source_of
from .localization import localization_loss, prepare_attention
from .real import RealBatches, validate_real
from .rounds import Answers, Round
from .saving import save_state, save_weights

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)
_STATE = "state.pt"
_VALIDATION = "validation.jsonl"
_VALIDATION_SEED = 7_000_000


@dataclass(frozen=True)
class Stage:
    """A part of a run, on one kind of data.

    Args:
        steps: optimiser steps.
        size: rows and columns of a frame.
        lengths: numbers of frames in a clip, drawn for every batch; 1 is single frames without memory, ``()`` is
            prompts without images.
        clips: clips in a batch, where they have the least number of frames; of longer ones there are fewer.
        targets: targets in a clip.
        learning_rates: at the beginning and the end, with cosine decay between them.
        again: share of the rounds on clips that go over their clip once more after corrections.
        several: share of the rounds on clips that are prompted on several frames.
        real: share of the batches that come from real cases.
    """

    steps: int
    size: int
    lengths: tuple[int, ...]
    clips: int
    targets: int
    learning_rates: tuple[float, float]
    again: float = 0.0
    several: float = 0.0
    real: float = 0.0


STAGES = (
    Stage(500, 128, (), 1, 20, (1e-3, 8e-4)),
    Stage(1500, 128, (1,), 8, 3, (8e-4, 6e-4)),
    Stage(1200, 128, (3, 4), 4, 4, (6e-4, 6e-4)),
    Stage(800, 256, (3, 4, 5), 1, 4, (4e-4, 1e-5)),
    Stage(500, 256, (1, 3, 4), 1, 4, (3e-4, 1e-5)),
    Stage(900, 128, (4, 6), 3, 4, (4e-4, 2e-4), again=0.5),
    Stage(500, 256, (1, 4, 5), 1, 4, (2e-4, 1e-5), again=0.5),
    Stage(450, 128, (6, 8), 2, 4, (3e-4, 2e-4), again=0.6),
    Stage(450, 256, (1, 5), 1, 4, (2e-4, 1e-5), again=0.6),
)

# From a trained network on, with real cases.
REAL_STAGES = (
    Stage(4000, 256, (1,), 4, 3, (3e-4, 3e-4), real=0.75),
    Stage(3000, 128, (1, 6, 8), 12, 3, (3e-4, 3e-4), again=0.25, several=0.35, real=0.6),
    Stage(4000, 256, (1, 4, 6), 5, 3, (3e-4, 2e-4), again=0.25, several=0.35, real=0.65),
    Stage(4000, 128, (1, 8, 10), 16, 3, (3e-4, 2e-4), again=0.25, several=0.4, real=0.6),
    Stage(12000, 256, (1, 4, 6), 6, 3, (3e-4, 5e-6), again=0.25, several=0.35, real=0.65),
)


@dataclass(frozen=True)
class NanoSettings:
    """How `nano` is trained.

    Args:
        stages: one after the other; with real cases `REAL_STAGES` by default, otherwise `STAGES`.
        begin: a model's name or a checkpoint of `nano`'s architecture to go on from; empty begins from nothing.
        seed: of the data, the prompts and the first weights.
        warm_up: steps until the first stage's learning rate is reached.
        weight_decay: of matrices and kernels.
        threads: of torch, in the training process; another process makes the data.
        minutes: stop (and save) after this long, whatever is left; None goes on to the end.
        save_minutes: time between saved states.
        validate_minutes: time between validations.
        validation_clips: held-out clips.
        workers: processes that make the data; 0 makes it in the training process.
    """

    stages: tuple[Stage, ...] = STAGES
    begin: str = ""
    seed: int = 20240806
    warm_up: int = 50
    weight_decay: float = 0.05
    threads: int = 1
    minutes: float | None = None
    save_minutes: float = 3.0
    validate_minutes: float = 25.0
    validation_clips: int = 5
    workers: int = 1


def train_nano(
    out: str | Path,
    settings: NanoSettings | None = None,
    on_step: Callable[[int, float], None] | None = None,
    cases: Sequence[Case] = (),
    validation: Sequence[Case] = (),
) -> Path:
    """Train; go on where an earlier run in the same folder stopped.

    Args:
        out: folder for the state, the TensorBoard log and, at the end of each piece, ``nano.safetensors``.
        settings: how; those that shape the result must not change between the pieces of one run.
        cases: real ones, of a collection, to learn from.
        validation: real ones that Dice is measured on, by source.
        on_step: told the number of steps done and the loss, after each.

    Returns:
        The exported checkpoint.

    Raises:
        InputError: the folder holds a run with other settings.
        OutputError: the folder cannot be written.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}; choose another folder") from error
    trainer = NanoTrainer(folder, settings or NanoSettings(), cases, validation)
    trainer.run(on_step)
    return trainer.export()


class NanoTrainer:
    """The state of a run: weights, their average, the optimiser, the number of steps done.

    Args:
        folder: where the state lies or will lie.
        settings: see `NanoSettings`.
        cases, validation: see `train_nano`.
    """

    def __init__(
        self, folder: Path, settings: NanoSettings, cases: Sequence[Case] = (), validation: Sequence[Case] = ()
    ) -> None:
        if not cases and any(stage.real for stage in settings.stages):
            raise InputError("these stages learn from real cases, and none are given; name a manifest")
        self._cases, self._validation = tuple(cases), tuple(validation)
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.folder = folder
        self.step = 0
        self.seconds = 0.0
        self.network = _network(settings.stages[0].size)
        if settings.begin:
            self.network.load_state_dict(_weights(settings.begin))
        else:
            prepare_attention(self.network)
        self.average = _network(settings.stages[-1].size)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(_groups(self.network, settings.weight_decay), betas=(0.9, 0.98), fused=True)
        self._dice: dict[str, list[float]] = defaultdict(list)
        if (folder / _STATE).exists():
            self._load()

    @property
    def stage(self) -> Stage:
        """The stage of the next step."""
        return self._place()[0]

    def run(self, on_step: Callable[[int, float], None] | None = None) -> None:
        """Train until the end or until the minutes are over; see `train_nano`."""
        from torch.utils.tensorboard import SummaryWriter

        settings = self.settings
        began = saved = validated = time.monotonic()
        with SummaryWriter(str(self.folder)) as board:
            for clip in self._batches():
                loss = self.train_step(clip)
                if on_step is not None:
                    on_step(self.step, loss)
                now = time.monotonic()
                if self.step % 20 == 0:
                    self._report(board, loss, now - began)
                if now - saved > settings.save_minutes * 60:
                    self.save(now - began)
                    saved = now
                if now - validated > settings.validate_minutes * 60:
                    self._validate(board)
                    validated = time.monotonic()
                if settings.minutes is not None and now - began > settings.minutes * 60:
                    break
            self.save(time.monotonic() - began)
            self._validate(board)

    def train_step(self, clip: Clip | None) -> float:
        """One step on one batch, None where the stage needs none; returns its loss."""
        rng = np.random.default_rng([self.settings.seed, 1, self.step])
        stage, done = self._place()
        self._resize(stage.size)
        first, last = stage.learning_rates
        rate = last + (first - last) * 0.5 * (1 + math.cos(math.pi * done / stage.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (self.step + 1) / self.settings.warm_up)
        answers: list[Answers] = []
        if clip is None:
            loss = localization_loss(self.network, rng, stage.targets)
        else:
            if clip.images.shape[1] == 1:
                answers = _frame_answers(self.network, clip, rng)
            else:
                answers = _clip_answers(self.network, clip, rng, stage)
            loss = torch.stack([a.loss for a in answers]).mean()
        self.optimizer.zero_grad(set_to_none=True)  # a parameter without a gradient is left alone, decay included
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        for answer in answers:
            for name, values in answer.dice.items():
                self._dice[name].extend(values)
        return float(loss.detach())

    def save(self, seconds: float = 0.0) -> None:
        """Write the whole state, atomically.

        Raises:
            OutputError: the folder cannot be written.
        """
        state = {
            "step": self.step,
            "seconds": self.seconds + seconds,
            "settings": _lasting(self.settings),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_state(self.folder / _STATE, state)
        self.export()

    def export(self) -> Path:
        """Write the averaged weights as a float16 checkpoint; returns its path.

        Raises:
            OutputError: the folder cannot be written.
        """
        path = self.folder / "nano.safetensors"
        settings = self.settings
        facts = {
            "model": "nano",
            "steps": self.step,
            "seed": settings.seed,
            "settings": _lasting(settings),
            "command": f"biosam2 train nano --seed {settings.seed}",
            "sources": sorted({source_of(case) for case in self._cases}),
        }
        save_weights(self.average, path, facts, torch.float16)
        _log.info("%s: sha256 %s, step %d", path, sha256_of(path), self.step)
        return path

    def _load(self) -> None:
        state = torch.load(self.folder / _STATE, map_location="cpu", weights_only=True)
        if state["settings"] != _lasting(self.settings):
            raise InputError(f"{self.folder} holds a run with other settings; choose another folder or remove it")
        self.step, self.seconds = state["step"], state["seconds"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _place(self) -> tuple[Stage, int]:
        """The stage of the next step, and how many of its steps are done."""
        done = self.step
        for stage in self.settings.stages:
            if done < stage.steps:
                return stage, done
            done -= stage.steps
        return self.settings.stages[-1], self.settings.stages[-1].steps

    def _resize(self, size: int) -> None:
        """Go on with the same parameters in a network for frames of another size."""
        if self.network.image_size == size:
            return
        network = _network(size)
        network.load_state_dict(self.network.state_dict())
        for name, parameter in self.network.named_parameters():
            owner, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(owner), leaf, parameter)
        self.network = network

    def _batches(self) -> Iterator[Clip | None]:
        """The batches of the steps that are left, made ahead in another process."""
        end = 0
        for stage in self.settings.stages:
            begin, end = end, end + stage.steps
            if not stage.lengths:
                yield from [None] * max(end - self.step, 0)
            elif self.step < end:
                dataset = _Mixed(self._cases, self.settings.seed, stage)
                workers = self.settings.workers
                steps = _Steps(max(begin, self.step), end)
                yield from DataLoader(
                    dataset,
                    batch_size=None,
                    sampler=steps,
                    num_workers=workers,
                    prefetch_factor=6 if workers else None,
                )

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights towards the present ones."""
        share = 1 - min(0.998, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), share)

    def _report(self, board: SummaryWriter, loss: float, seconds: float) -> None:
        board.add_scalar("loss", loss, self.step)
        means = {name: float(np.mean(values)) for name, values in sorted(self._dice.items()) if values}
        for name, value in means.items():
            board.add_scalar(f"train dice/{name}", value, self.step)
        self._dice.clear()
        line = " ".join(f"{name}={value:.2f}" for name, value in means.items())
        _log.info("step %d %.0f s loss %.3f %s", self.step, seconds, loss, line)

    def _judge_real(self, board: SummaryWriter) -> None:
        """Dice on real cases, by source, into a file of its own: a line for each validation."""
        found = validate_real(self.average, self._validation)
        with (self.folder / _VALIDATION).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": self.step, "dice": found}) + "\n")
        for group, means in found.items():
            for name, value in means.items():
                board.add_scalar(f"validation {group}/{name}", value, self.step)
            _log.info("%s %s", group, " ".join(f"{name}={value:.3f}" for name, value in means.items()))

    @torch.no_grad()
    def _validate(self, board: SummaryWriter) -> None:
        means = validate(self.average, self.settings, board=board, step=self.step)
        if self._validation:
            self._judge_real(board)
        for name, value in means.items():
            board.add_scalar(f"validation dice/{name}", value, self.step)
        _log.info("validation %d %s", self.step, " ".join(f"{name}={value:.3f}" for name, value in means.items()))


@torch.no_grad()
def validate(
    network: SAM2Base, settings: NanoSettings, board: SummaryWriter | None = None, step: int = 0
) -> dict[str, float]:
    """Mean Dice on held-out synthetic clips by kind of answer; ``absent`` is the share of empty frames left empty."""
    batches = ClipBatches(_VALIDATION_SEED, 1, 3, (8,), network.image_size)
    dice: dict[str, list[float]] = defaultdict(list)
    for index in range(settings.validation_clips):
        clip = batches[index]
        rng = np.random.default_rng([_VALIDATION_SEED, 1, index])
        for kind in ("click", "clicks", "box", "mask"):
            answers = Round(network, clip, rng).answer_clip(kind, correct=False)
            again = Round(network, clip, rng).answer_again(kind, corrections=1)
            for name, values in [*answers.dice.items(), *again.dice.items()]:
                dice[name].extend(values)
            if board is not None and kind == "click" and index < 6:
                board.add_image(f"clip {index}", _picture(clip, answers), step)
    return {name: float(np.mean(values)) for name, values in sorted(dice.items())}


# Parts --------------------------------------------------------------------------------------------------------------


def _frame_answers(network: SAM2Base, clip: Clip, rng: np.random.Generator) -> list[Answers]:
    """Two rounds on single frames: from a click, and from a box or several clicks, each with corrections."""
    one = Round(network, clip, rng)
    return [
        one.answer_frame("click", corrections=int(rng.integers(0, 4))),
        one.answer_frame(str(rng.choice(["box", "clicks"], p=[0.7, 0.3])), corrections=int(rng.integers(0, 3))),
    ]


def _clip_answers(network: SAM2Base, clip: Clip, rng: np.random.Generator, stage: Stage) -> list[Answers]:
    """One round on clips: a prompt, swept both ways; corrected on the way, or afterwards and swept again, or not."""
    kind = str(rng.choice(["click", "clicks", "box", "mask"], p=[0.15, 0.15, 0.35, 0.35]))
    choice = rng.random()
    if choice < stage.again:
        return [Round(network, clip, rng).answer_again(kind, corrections=int(rng.integers(1, 3)))]
    if choice < stage.again + stage.several:
        several = Round(network, clip, rng)
        return [several.answer_several(kind, int(rng.integers(2, 5)), swept_before=bool(rng.random() < 0.6))]
    skip = int(rng.integers(1, 30)) if clip.prompted == 0 and rng.random() < 0.3 else 0
    correct, foreign = rng.random(2) < (0.4, 0.5)
    return [Round(network, clip, rng).answer_clip(kind, bool(correct), skip, bool(foreign))]


def _weights(begin: str) -> dict[str, torch.Tensor]:
    """The weights of a model by name, or of a checkpoint."""
    from ..models import load_model

    if Path(begin).exists():
        return load_model(checkpoint=begin, config="nano", device="cpu").network.state_dict()
    return load_model(begin, device="cpu").network.state_dict()


def _network(size: int) -> SAM2Base:
    """`nano` for frames of a size, in evaluation mode: what it remembers is what it will remember in use."""
    # The third and fourth stage attend to the whole frame, at any size.
    windows = f"[8,4,{size // 16},{size // 32}]"
    return build_network(load_config("nano", [f"image_size={size}", f"image_encoder.trunk.window_spec={windows}"]))


def _groups(network: SAM2Base, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _lasting(settings: NanoSettings) -> dict[str, Any]:
    """The settings that shape the result."""
    passing = {"threads", "minutes", "save_minutes", "validate_minutes", "validation_clips", "workers"}
    return json.loads(json.dumps({name: value for name, value in asdict(settings).items() if name not in passing}))


class _Mixed(Dataset[Clip]):
    """The batches of a stage by index: real or synthetic."""

    def __init__(self, cases: Sequence[Case], seed: int, stage: Stage) -> None:
        self._seed, self._share = seed, stage.real
        shape = (stage.clips, stage.targets, stage.lengths, stage.size)
        self._synthetic = ClipBatches(seed, *shape)
        self._real = RealBatches(cases, seed, *shape) if stage.real else None

    def __getitem__(self, index: int) -> Clip:
        if self._real is not None and np.random.default_rng([self._seed, 2, index]).random() < self._share:
            return self._real[index]
        return self._synthetic[index]


class _Steps(Sampler[int]):
    """The steps from one to another, in order."""

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def _picture(clip: Clip, answers: Answers) -> np.ndarray:
    """(3, S, F·S) uint8: the first clip's frames, the target in green, the answer in red."""
    tiles = []
    for frame in sorted(answers.masks):
        grey = clip.images[0, frame].numpy()
        picture = np.stack([grey] * 3)
        true = np.kron(clip.masks[0, 0, frame].numpy() > 0.5, np.ones((4, 4), bool))
        shown = np.kron(answers.masks[frame][0].numpy() > 0, np.ones((4, 4), bool))
        picture[0][shown] = 255 - (255 - picture[0][shown]) // 2
        picture[1][true] = 255 - (255 - picture[1][true]) // 2
        tiles.append(picture)
    return np.concatenate(tiles, axis=2)
