"""The stages of a run, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InputError


@dataclass(frozen=True)
class Stage:
    """A part of a run, on one kind of data.

    Args:
        steps: optimiser steps.
        size: rows and columns of a frame, in pixels; None for the model's own.
        lengths: numbers of frames in a clip, drawn for every batch; 1 is a slice by itself, without memory; ``()`` is
            prompts without images.
        clips: clips in a batch, where they have the least number of frames; of longer ones there may be fewer.
        targets: targets in a clip.
        learning_rates: at the beginning and the end, with cosine decay between them.
        hold: steps before the learning rate decays.
        again: share of the batches of clips that are swept once more after corrections.
        several: share of the batches of clips that are prompted on several frames.
        real: share of the batches that come from labelled cases; the others are generated.

    Raises:
        InputError: a number is out of its range.
    """

    steps: int
    size: int | None
    lengths: tuple[int, ...]
    clips: int
    targets: int
    learning_rates: tuple[float, float]
    again: float = 0.0
    several: float = 0.0
    real: float = 1.0
    hold: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "clips", "targets"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if any(length < 1 for length in self.lengths):
            raise InputError(f"clips have 1 frame or more, not {self.lengths}")
        if self.size is not None and (self.size < 32 or self.size % 32):
            raise InputError(f"a frame's size must be a multiple of 32, not {self.size}")
        if not all(math.isfinite(rate) and rate >= 0 for rate in self.learning_rates) or not any(self.learning_rates):
            raise InputError(f"learning_rate must be positive, not {self.learning_rates[0]}")


def steps_of(stages: Sequence[Stage]) -> int:
    """Steps of all stages."""
    return sum(stage.steps for stage in stages)


def stage_at(stages: Sequence[Stage], step: int) -> tuple[Stage, int]:
    """The stage of a step, counted from 0, and how many of the stage's steps come before it.

    Args:
        stages: of the run, in their order.
        step: counted from 0.
    """
    done = step
    for stage in stages:
        if done < stage.steps:
            return stage, done
        done -= stage.steps
    return stages[-1], stages[-1].steps


def learning_rate(stages: Sequence[Stage], warm_up: int, step: int) -> float:
    """Of a step, counted from 0: the stage's cosine decay, reached by a linear warm-up in the first steps.

    Args:
        stages: of the run.
        warm_up: steps of the warm-up.
        step: the step.
    """
    stage, done = stage_at(stages, step)
    first, last = stage.learning_rates
    decayed = max(done - stage.hold, 0) / max(stage.steps - stage.hold, 1)
    rate = last + (first - last) * 0.5 * (1 + math.cos(math.pi * decayed))
    return rate * min(1.0, (step + 1) / warm_up) if warm_up else rate


def stretched(stages: Sequence[Stage], steps: int) -> tuple[Stage, ...]:
    """The same stages in another number of steps, each with its share of them and one step at least.

    Args:
        stages: of the run, in their order.
        steps: of all of them together.
    """
    total, end, given = steps_of(stages), 0, 0
    parts: list[Stage] = []
    for number, stage in enumerate(stages):
        end += stage.steps
        left = len(stages) - number - 1
        count = max(1, min(round(steps * end / total) - given, steps - given - left))
        given += count
        parts.append(replace(stage, steps=count, hold=min(stage.hold, count)))
    if given != steps:
        raise InputError(f"{steps} steps are too few for {len(stages)} stages; give as many steps at least")
    return tuple(parts)
