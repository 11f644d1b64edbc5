"""How weights are moved and averaged as a recipe says, and how memory is saved on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .recipes.recipe import Recipe

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


def following(most: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average that follows closely at first, and keeps at most a share of itself."""

    @torch.no_grad()
    def average(averaged: list[Tensor], present: list[Tensor], number: Tensor | int) -> None:
        torch._foreach_lerp_(averaged, present, 1 - min(most, (1 + int(number)) / (10 + int(number))))

    return average


def optimizer_of(network: SAM2Base, recipe: Recipe, fused: bool) -> tuple[torch.optim.Optimizer, list[float]]:
    """The optimizer of a network's trained parameters, and the factor of each of its groups' learning rate.

    Args:
        network: what is trained of it takes gradients.
        recipe: see `Recipe`.
        fused: whether the device has torch's fused kernels.
    """
    found: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            found.setdefault((recipe.rate_of(name), parameter.ndim <= 1), []).append(parameter)
    ordered = sorted(found, key=lambda key: (-key[0], key[1]))
    groups = [{"params": found[key], "weight_decay": 0.0 if key[1] else recipe.weight_decay} for key in ordered]
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimizer]
    highest = recipe.stages[0].learning_rates[0]
    return kind(groups, lr=highest, betas=recipe.betas, fused=fused), [key[0] for key in ordered]


def compute_anew(network: SAM2Base) -> None:
    """Gradient checkpointing: the encoder's blocks and the memory attention's layers keep their inputs only."""
    for layer in [*network.image_encoder.trunk.blocks, *network.memory_attention.layers]:
        layer.forward = _checkpointed(layer.forward)


def _checkpointed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def inner(*args: Any, **kwargs: Any) -> Tensor:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return inner
