"""Names of the ways in which a simulated user marks a target; without torch, so that the command line lists them."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Pipeline: TypeAlias = Literal["image", "volume", "video"]
PIPELINES: tuple[Pipeline, ...] = get_args(Pipeline)
Kind: TypeAlias = Literal["click1", "click3", "box", "mask", "scribble", "lasso", "line"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STANDARD: tuple[Kind, ...] = ("click1", "click3", "box", "mask")
"""What is measured where nothing else is asked for."""
OWN_ANSWER: tuple[Kind, ...] = ("mask", "lasso")
"""Those that draw the target themselves."""
WORDS: dict[str, str] = {
    "click1": "one click",
    "click3": "three clicks",
    "box": "box",
    "mask": "mask",
    "scribble": "scribble",
    "lasso": "lasso",
    "line": "RECIST line",
}
