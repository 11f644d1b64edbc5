"""What a fine-tuning recipe trains and what it leaves alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import Module

from ..errors import InputError

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_ENCODER = frozenset({"image_encoder"})
_DECODER = frozenset({"sam_mask_decoder"})
_PROMPTS = frozenset({"sam_prompt_encoder"})
# Everything that only memories pass through: what is kept of a frame, and how it is read on another.
_MEMORY = frozenset(
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


@dataclass(frozen=True)
class Recipe:
    """Which parts of a SAM 2 network are trained.

    Attributes:
        name: what the user types.
        purpose: in words, for the model card and the help.
        trained: top-level parts of the network; all others are frozen.
        lengths: frames in a clip, drawn for every batch; 1 is a slice by itself, without memory.
    """

    name: str
    purpose: str
    trained: frozenset[str]
    lengths: tuple[int, ...]


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "biosam2",
            "BioSAM-2's recipe: image encoder and mask decoder trained, prompt encoder and memory frozen",
            _ENCODER | _DECODER,
            (1, 3),
        ),
        Recipe("decoder", "mask decoder trained, everything else frozen: for few cases, and fast", _DECODER, (1, 3)),
        Recipe(
            "memory",
            "everything trained but the prompt encoder, on longer clips, so that sweeps are learnt too",
            _ENCODER | _DECODER | _MEMORY,
            (1, 4, 6),
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; use {', '.join(RECIPES)}")
    return RECIPES[name]


def apply_recipe(network: SAM2Base, recipe: Recipe) -> None:
    """Let gradients into the trained parts and into nothing else.

    Raises:
        InputError: the network has a part that is unknown here, so that nobody decided whether it is trained.
    """
    for name, parameter in network.named_parameters():
        part = name.partition(".")[0]
        if part not in _ENCODER | _DECODER | _PROMPTS | _MEMORY:
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
