"""What a run tells while it goes on: losses, metrics and pictures, in TensorBoard's log and in files of lines."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from accelerate.utils import gather_object
from numpy.typing import NDArray

from ..io import atomic_path
from .rounds import Answers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)
LOSSES = "losses.jsonl"
VALIDATIONS = "validation.jsonl"
BOARD = "tensorboard"
MAIN_GROUP = "all"


class Means:
    """Values by name, gathered over batches and processes."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def add(self, values: Mapping[str, float | Sequence[float]]) -> None:
        """Take in values by name."""
        for name, value in values.items():
            self._values[name].extend(value if isinstance(value, Sequence) else [value])

    def take(self) -> dict[str, float]:
        """The means over all processes, which all must ask for; and begin anew."""
        joined: dict[str, list[float]] = defaultdict(list)
        for part in gather_object([dict(self._values)]):
            for name, numbers in part.items():
                joined[name].extend(numbers)
        self._values.clear()
        return {name: float(np.mean(numbers)) for name, numbers in sorted(joined.items()) if numbers}


class Reporter:
    """The files of a run; used as a context manager by its first process.

    Args:
        folder: of the run.
        step: that the run goes on from; what was told of later ones is dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._step = step

    def __enter__(self) -> Reporter:
        from torch.utils.tensorboard import SummaryWriter

        path = self._folder / LOSSES
        _write_lines(path, losses_of(self._folder)[: self._step])
        self._losses: IO[str] = path.open("a", encoding="utf-8")
        self._board: SummaryWriter = SummaryWriter(str(self._folder / BOARD), purge_step=self._step + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._losses.close()
        self._board.close()

    def loss(self, step: int, loss: float) -> None:
        """A step's loss, written at once."""
        self._losses.write(json.dumps({"step": step, "loss": loss}) + "\n")
        self._losses.flush()

    def means(
        self, step: int, values: Mapping[str, float], terms: Mapping[str, float], dice: Mapping[str, float]
    ) -> None:
        """Numbers of the last steps: by their own name, the loss's terms, and Dice by kind of answer."""
        for prefix, part in (("", values), ("loss/", terms), ("train dice/", dice)):
            for name, value in part.items():
                self._board.add_scalar(f"{prefix}{name}", value, step)
        shown = " ".join(f"{name}={value:.2f}" for name, value in dice.items())
        _log.info("step %d %s %s", step, " ".join(f"{name} {value:.3g}" for name, value in values.items()), shown)

    def picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """A picture (3, rows, columns)."""
        self._board.add_image(name, picture, step)

    def validations(self, validations: Sequence[Mapping[str, Any]]) -> None:
        """All validations so far; the last one goes into TensorBoard's log."""
        _write_lines(self._folder / VALIDATIONS, validations)
        last = validations[-1]
        for group, means in last["dice"].items():
            place = "validation dice" if group == MAIN_GROUP else f"validation dice {group}"
            for name, value in means.items():
                self._board.add_scalar(f"{place}/{name}", value, last["step"])
            _log.info("%s, step %d: %s", place, last["step"], " ".join(f"{n}={v:.3f}" for n, v in means.items()))


def losses_of(folder: Path) -> list[dict[str, Any]]:
    """The losses that a run wrote down, by step; a last line that a kill cut off is left out."""
    path = folder / LOSSES
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def mean_dice(answers: Sequence[Answers]) -> dict[str, float]:
    """Mean Dice by kind of answer."""
    dice: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        for name, values in answer.dice.items():
            dice[name].extend(values)
    return {name: float(np.mean(values)) for name, values in sorted(dice.items()) if values}


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
