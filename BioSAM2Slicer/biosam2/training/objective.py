"""A recipe's prompts and losses on one batch: what a step minimises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from .bank import ImageBank
from .clips import Clip
from .localization import localization_loss
from .losses import LOSSES
from .recipes.recipe import Recipe
from .rounds import Answers, PromptSimulation
from .schedule import Stage

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_FRAME_KINDS = ("box", "clicks", "click")
_CLIP_KINDS = ("click", "clicks", "box", "mask")


class Objective(nn.Module):
    """A network with a batch's prompts in front of it, as one call: what DistributedDataParallel needs.

    Args:
        network: that is trained.
        recipe: what is asked, and how answers are judged.
        shared: whether several processes train together, which need a gradient of every trained parameter.
    """

    def __init__(self, network: SAM2Base, recipe: Recipe, shared: bool = False) -> None:
        super().__init__()
        self.network = network
        self.bank = ImageBank(network, recipe.bank) if recipe.bank else None
        self._recipe = recipe
        self._shared = shared

    def forward(self, clip: Clip | None, seeds: tuple[int, ...], stage: Stage) -> Answers:
        """Answers to simulated prompts, with the loss over all of them.

        Args:
            clip: a batch on the network's device; None for prompts without images.
            seeds: of everything random.
            stage: of the run.
        """
        rng = np.random.default_rng(list(seeds))
        if clip is None:
            answers = [Answers(localization_loss(self.network, rng, stage.targets))]
        else:
            one = PromptSimulation(self.network, clip, rng, LOSSES[self._recipe.loss])
            if clip.images.shape[1] == 1:
                answers = self._answer_frame(one, rng)
            else:
                answers = [self._answer_clip(one, rng, stage, clip.prompted)]
        merged = _merged(answers)
        if self._shared:  # which parts a prompt uses differs between processes, and gradients are awaited for all
            merged.loss = merged.loss + 0.0 * sum(p.sum() for p in self.network.parameters() if p.requires_grad)
        return merged

    def _answer_frame(self, one: PromptSimulation, rng: np.random.Generator) -> list[Answers]:
        """A slice by itself: from a click, and from another prompt, each with corrections."""
        mix = self._recipe.prompts
        if self.bank is not None:
            return [one.answer_image(str(rng.choice(_FRAME_KINDS, p=mix.frames[::-1])), self.bank)]
        first, second = mix.corrections
        answers = []
        if mix.click_first:
            answers.append(one.answer_frame("click", corrections=int(rng.integers(0, first + 1))))
        kind = str(rng.choice(_FRAME_KINDS, p=mix.frames[::-1]))
        answers.append(one.answer_frame(kind, corrections=int(rng.integers(0, second + 1))))
        return answers

    def _answer_clip(self, one: PromptSimulation, rng: np.random.Generator, stage: Stage, prompted: int) -> Answers:
        """A prompt, swept both ways; corrected on the way, or afterwards and swept again, or not."""
        mix = self._recipe.prompts
        kind = str(rng.choice(_CLIP_KINDS, p=mix.clips))
        choice = rng.random()
        if choice < stage.again:
            return one.answer_again(kind, corrections=int(rng.integers(1, 3)))
        if choice < stage.again + stage.several:
            return one.answer_several(kind, int(rng.integers(2, 5)), swept_before=bool(rng.random() < 0.6))
        skip = int(rng.integers(1, 30)) if prompted == 0 and rng.random() < mix.skipped else 0
        correct, foreign = rng.random(2) < (mix.corrected, mix.foreign)
        return one.answer_clip(kind, bool(correct), skip, bool(foreign))


@torch.no_grad()
def answer(network: SAM2Base, clip: Clip, kind: str, seeds: Sequence[int]) -> Answers:
    """What a network makes of a batch from one prompt: a slice, or a clip swept both ways."""
    one = PromptSimulation(network, clip, np.random.default_rng(list(seeds)))
    return one.answer_frame(kind, 0) if clip.images.shape[1] == 1 else one.answer_clip(kind, correct=False)


def _merged(answers: list[Answers]) -> Answers:
    """Several answers as one: the mean loss, the means of its terms, all Dice and masks."""
    merged = Answers(torch.stack([answer.loss for answer in answers]).mean())
    for name in {name for answer in answers for name in answer.terms}:
        merged.terms[name] = float(np.mean([answer.terms[name] for answer in answers if name in answer.terms]))
    for answer in answers:
        merged.masks.update(answer.masks)
        for name, values in answer.dice.items():
            merged.dice.setdefault(name, []).extend(values)
    return merged
