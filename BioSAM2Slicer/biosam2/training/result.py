"""What a fine-tuning run leaves: a checkpoint, its configuration, and a model card with what went in and came out."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..datasets import Case
from ..io import atomic_path
from ..models import Model
from ..models.hashing import sha256_of
from .files import save_weights
from .recipes.recipe import Recipe

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from sam2.modeling.sam2_base import SAM2Base

_PACKAGES = ("torch", "rf-sam-2", "monai", "torchio", "accelerate", "numpy")
_LOSSES = {
    "all-masks": "Dice and cross-entropy of all candidate masks, cross-entropy of predicted quality and of presence",
    "dice-ce": "Dice and cross-entropy of the single mask",
    "sam2": "focal and Dice loss of the masks, absolute error of predicted quality, cross-entropy of presence",
}
_ENDS = 20  # steps that the first and the last loss are means of


@dataclass(frozen=True)
class RunFacts:
    """What a model card tells of a run.

    Args:
        name: of the result.
        model: what the run began with.
        recipe: what was trained.
        settings: by name.
        cases: learnt from.
        validation_cases: measured on.
        digests: case → SHA-256 of its files.
        losses: of every step.
        validations: step → kind of answer → mean Dice, in order.
        seconds: of training.
        images: frames that were trained on.
        pieces: where it ran; see `trainer.Trainer`.
        peak_gib: of GPU memory, None on a CPU.
    """

    name: str
    model: Model
    recipe: Recipe
    settings: dict[str, Any]
    cases: Sequence[Case]
    validation_cases: Sequence[Case]
    digests: dict[str, str]
    losses: Sequence[float]
    validations: dict[int, dict[str, float]]
    seconds: float
    images: int
    pieces: Sequence[dict[str, Any]]
    peak_gib: float | None


def write_result(folder: Path, network: SAM2Base, config: DictConfig, facts: RunFacts) -> Path:
    """Write ``NAME.safetensors``, ``NAME.yaml`` and ``NAME.md``; returns the first.

    Raises:
        OutputError: the folder cannot be written.
    """
    from omegaconf import OmegaConf

    checkpoint = folder / f"{facts.name}.safetensors"
    save_weights(
        network,
        checkpoint,
        {
            "model": facts.name,
            "from": facts.model.name,
            "from_sha256": facts.model.sha256,
            "recipe": facts.recipe.name,
            "steps": len(facts.losses),
            "settings": facts.settings,
        },
    )
    with atomic_path(checkpoint.with_suffix(".yaml")) as temporary:
        temporary.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    with atomic_path(checkpoint.with_suffix(".md")) as temporary:
        temporary.write_text(card(network, checkpoint, facts), encoding="utf-8")
    return checkpoint


def card(network: SAM2Base, checkpoint: Path, facts: RunFacts) -> str:
    """The model card, Markdown. It names cases and hashes, and no path of this computer."""
    model, recipe = facts.model, facts.recipe
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for n, p in network.named_parameters() if n.partition(".")[0] in recipe.trained)
    sections = [
        f"# {facts.name}",
        f"{model.name} fine-tuned by recipe *{recipe.name}*. **It is not a medical device, and nothing that it draws "
        "may be used without a person who looks at it.** This card was written by the run.",
        "## What it is",
        f"- **From**: {model.name}, SHA-256 `{model.sha256}`{_sentence(model.description)}\n"
        f"- **Recipe**: {recipe.purpose} ({recipe.source}). Trained: {trained:,} of {total:,} parameters "
        f"({', '.join(sorted({n.partition('.')[0] for n, _ in network.named_parameters()} & recipe.trained))}); the "
        "others are bit for bit those it began with.\n"
        f"- **File**: `{checkpoint.name}`, float32, {checkpoint.stat().st_size:,} bytes, SHA-256 "
        f"`{sha256_of(checkpoint)}`; its configuration is `{checkpoint.with_suffix('.yaml').name}`, frames of "
        f"{network.image_size} × {network.image_size} pixels. {_weights(recipe)}\n"
        f"- **Licence**: that of the weights it began with ({model.licence or 'not known'}) and of the data.",
        f"To list it with the other models:\n\n```\n{_command(checkpoint, facts)}\n```",
        "## Data",
        _data(facts),
        "## Training",
        _training(facts),
        "## Figures",
        _figures(facts),
    ]
    return "\n\n".join(sections) + "\n"


def add_command(checkpoint: Path, name: str, licence: str) -> str:
    """The command that takes the result into the user's models."""
    words = ["biosam2", "models", "add", str(checkpoint), "--config", str(checkpoint.with_suffix(".yaml"))]
    return shlex.join([*words, "--name", name, *(["--licence", licence] if licence else [])])


def _command(checkpoint: Path, facts: RunFacts) -> str:
    return add_command(Path(checkpoint.name), facts.name, facts.model.licence)


def _data(facts: RunFacts) -> str:
    rows = [
        [case.name, role, case.kind, case.modality, ", ".join(t.name for t in case.targets), facts.digests[case.name]]
        for role, cases in (("training", facts.cases), ("validation", facts.validation_cases))
        for case in cases
    ]
    table = _table(["case", "for", "kind", "modality", "targets", "SHA-256 over its files"], rows)
    return f"{len(facts.cases)} cases to learn from, {len(facts.validation_cases)} to measure on.\n\n{table}"


def _training(facts: RunFacts) -> str:
    steps, recipe = len(facts.losses), facts.recipe
    rate = facts.images / max(facts.seconds, 1e-9)
    clips = recipe.batches * recipe.stages[-1].clips
    lines = [
        f"- {steps} steps of {clips} clips in {facts.seconds / 60:.1f} minutes, {rate:.2f} images per second, on "
        + "; ".join(_piece(piece) for piece in facts.pieces)
        + (f", {facts.peak_gib:.1f} GiB of GPU memory at most." if facts.peak_gib is not None else "."),
        "- Prompts: simulated clicks with corrections where the answer is wrong, boxes off by up to a tenth, masks; "
        "clips of neighbouring slices in either direction, some of them beyond the target's end.",
        f"- Losses: {_LOSSES[recipe.loss]}.",
        f"- Written with biosam2 {__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
        + ".",
    ]
    settings = _table(["setting", "value"], [[k, f"`{_plain(v)}`"] for k, v in facts.settings.items()])
    return "\n".join(lines) + "\n\n" + settings


def _figures(facts: RunFacts) -> str:
    first, last = (float(np.mean(part)) for part in (facts.losses[:_ENDS], facts.losses[-_ENDS:]))
    few = min(_ENDS, len(facts.losses))
    text = f"Mean loss of the first {few} steps {first:.3f}, of the last {few} {last:.3f}."
    if not facts.validations:
        return (
            text
            + "\n\nNothing was kept for validation; `biosam2 evaluate` measures models on cases that they never saw."
        )
    (first_step, before), *_ = facts.validations.items()
    last_step, after = list(facts.validations.items())[-1]
    rows = []
    for kind in sorted({*before, *after}):
        a, b = before.get(kind, float("nan")), after.get(kind, float("nan"))
        rows.append([kind, f"{a:.3f}", f"{b:.3f}", "worse" if b < a else ""])
    table = _table(["answer", f"before (step {first_step})", f"after (step {last_step})", ""], rows)
    return (
        f"{text}\n\nMean Dice on clips of the validation cases, at a quarter of the frame's size; *absent* is the "
        f"share of slices without the target that were left empty.\n\n{table}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _piece(piece: dict[str, Any]) -> str:
    number = piece["processes"]
    where = f"{piece['device']} in {piece['precision']}, {number} process{'es' if number > 1 else ''}"
    return f"{where} from step {piece['from']}" if piece["from"] else where


def _weights(recipe: Recipe) -> str:
    return "The weights are averages over the last steps." if recipe.average else "The weights are the last step's."


def _sentence(text: str) -> str:
    return f" ({text})" if text else ""
