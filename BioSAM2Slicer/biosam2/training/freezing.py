"""Let gradients into what a recipe trains, and watch that nothing else moves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from torch.nn import Module

from ..errors import InputError
from .recipes.recipe import ALL_PARTS, Recipe

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


def apply_recipe(network: SAM2Base, recipe: Recipe) -> None:
    """Let gradients into the trained parts and into nothing else.

    Raises:
        InputError: the network has a part that is unknown here, so that nobody decided whether it is trained.
    """
    for name, parameter in network.named_parameters():
        part = name.partition(".")[0]
        if part not in ALL_PARTS:
            raise InputError(f"the network has a part {part!r}, which recipe {recipe.name} does not know; use SAM 2's")
        parameter.requires_grad_(part in recipe.trained)
    check_recipe(network, recipe)


def check_recipe(network: SAM2Base, recipe: Recipe) -> None:
    """Assert that exactly the trained parts take gradients.

    Raises:
        RuntimeError: a frozen parameter takes gradients, or has one, or a trained one takes none.
    """
    for name, parameter in network.named_parameters():
        trained = name.partition(".")[0] in recipe.trained
        if parameter.requires_grad != trained or (not trained and parameter.grad is not None):
            raise RuntimeError(f"recipe {recipe.name}: {name} should be {'trained' if trained else 'frozen'}")


def frozen_digest(network: Module, recipe: Recipe) -> str:
    """SHA-256 of everything that the recipe must not change: frozen parameters, and buffers."""
    digest = hashlib.sha256()
    trained = {name for name, _ in network.named_parameters() if name.partition(".")[0] in recipe.trained}
    for name, tensor in sorted(network.state_dict().items()):
        if name not in trained:
            digest.update(name.encode())
            # Averaging turns -0 into 0, which is no change.
            digest.update((tensor.detach().cpu().contiguous().numpy() + 0).tobytes())
    return digest.hexdigest()
