"""What a recipe says: everything that shapes a trained network but the data, the seed and the precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...errors import InputError
from ..schedule import Stage

# Top-level parts of a SAM 2 network.
ENCODER = frozenset({"image_encoder"})
DECODER = frozenset({"sam_mask_decoder"})
PROMPTS = frozenset({"sam_prompt_encoder"})
# Everything that only memories pass through: what is kept of a frame, and how it is read on another.
MEMORY = frozenset(
    {
        "memory_attention",
        "memory_encoder",
        "maskmem_tpos_enc",
        "mask_downsample",
        "no_mem_embed",
        "no_mem_pos_enc",
        "no_obj_embed_spatial",
        "no_obj_ptr",
        "obj_ptr_proj",
        "obj_ptr_tpos_proj",
    }
)
ALL_PARTS = ENCODER | DECODER | PROMPTS | MEMORY


@dataclass(frozen=True)
class PromptMix:
    """How often simulated prompts are of which kind.

    Args:
        clips: shares of click, clicks, box and mask as the first prompt of a clip.
        frames: shares of click, clicks and box as the prompt of a slice by itself; each slice is prompted twice, and
            the first time by a click where ``click_first``.
        click_first: whether a slice is prompted by a click first.
        corrections: most correcting clicks on a slice, after the first and after the second prompt.
        corrected: share of the clips in which a click corrects one frame as soon as it is swept.
        skipped: share of the clips whose prompted frame is said to lie up to 29 frames further away.
        foreign: share of the batches in which the sweep ends in another clip, where no target is.
    """

    clips: tuple[float, float, float, float] = (0.25, 0.2, 0.3, 0.25)
    frames: tuple[float, float, float] = (0.0, 0.5, 0.5)
    click_first: bool = True
    corrections: tuple[int, int] = (3, 2)
    corrected: float = 0.4
    skipped: float = 0.3
    foreign: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Args:
        name: what the user types.
        purpose: in words, for the model card and the help.
        source: where it comes from.
        begin: the model that it is meant to begin with; empty: from nothing.
        trained: top-level parts of the network that are trained; all others are frozen.
        stages: one after the other.
        batches: batches in a step, over all processes.
        loss: a name of `losses.LOSSES`.
        prompts: what is asked.
        optimizer: AdamW, or Adam without weight decay.
        betas: of the optimizer.
        warm_up: steps until the learning rate is reached.
        weight_decay: of matrices and kernels.
        clip_norm: gradients are scaled down to this norm; None leaves them.
        rates: a part's name → factor of its learning rate; the longest name that fits counts.
        average: how much of the averaged weights, which are the result, a step leaves once the run is under way; 0
            gives the last weights as they are.
        decay_idle: whether a parameter whose gradient is 0 throughout is decayed and moved by its momentum. A
            parameter that no prompt reached is left alone in any case.
        bank: entries of a memory bank across images, which every image is conditioned on; 0: none.

    Raises:
        InputError: a number is out of its range.
    """

    name: str
    purpose: str
    source: str
    trained: frozenset[str]
    stages: tuple[Stage, ...]
    begin: str = ""
    batches: int = 8
    loss: str = "all-masks"
    prompts: PromptMix = PromptMix()
    optimizer: Literal["adamw", "adam"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    warm_up: int = 50
    weight_decay: float = 0.05
    clip_norm: float | None = 1.0
    rates: tuple[tuple[str, float], ...] = ()
    average: float = 0.995
    decay_idle: bool = False
    bank: int = 0

    def __post_init__(self) -> None:
        if self.batches < 1:
            raise InputError(f"batch must be 1 or more, not {self.batches}")
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise InputError(f"clip_norm must be positive, not {self.clip_norm}")
        if self.warm_up < 0:
            raise InputError(f"warm_up must be 0 or more, not {self.warm_up}")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"weight_decay must be 0 or more, not {self.weight_decay}")
        if not 0 <= self.average < 1:
            raise InputError(f"average must be 0 or more and less than 1, not {self.average}")

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def lengths(self) -> tuple[int, ...]:
        """All numbers of frames that its clips have."""
        return tuple(sorted({length for stage in self.stages for length in stage.lengths}))

    def rate_of(self, parameter: str) -> float:
        """The factor of a parameter's learning rate."""
        fitting = [(len(part), factor) for part, factor in self.rates if f"{parameter}.".startswith(f"{part}.")]
        return max(fitting)[1] if fitting else 1.0

    def shaping(self) -> dict[str, Any]:
        """What shapes the result, as plain values for JSON."""
        plain = asdict(self)
        for text in ("purpose", "source", "begin"):
            del plain[text]
        return {**plain, "trained": sorted(self.trained)}
