"""Recipes by name, each in a file that reads like the methods section of its source.

`recipe` says what a recipe is.
"""

from __future__ import annotations

from ...errors import InputError
from . import biosam2, biosam2_reference, few_cases, medsam2, nano
from .recipe import Recipe

# Those that fine-tune a model on labelled cases.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        biosam2.RECIPE,
        few_cases.DECODER_ONLY,
        few_cases.WITH_MEMORY,
        biosam2_reference.RECIPE,
        medsam2.RECIPE,
    )
}

# Those of the shipped model, which learn from generated cases too.
NANO = nano.FROM_NOTHING
NANO_REAL = nano.WITH_CASES


def get_recipe(name: str) -> Recipe:
    """A fine-tuning recipe by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; use {', '.join(RECIPES)}")
    return RECIPES[name]
