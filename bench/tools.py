"""What Slicer's users would pick instead: *Grow from seeds* from the same prompts, *Fill between slices*."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from biosam2.evaluation.cases import TargetCase
from biosam2.evaluation.classical import Scene, segment
from biosam2.evaluation.runs import EvaluationSettings, run
from biosam2.evaluation.user import middle_slice
from biosam2.evaluation.ways import STANDARD, WORDS
from biosam2.frames import Frames
from biosam2.masks import dice
from biosam2.models.model import Model
from numpy.typing import NDArray

from . import slicer_tools

ENGINE, GROW, FILL = "BioSAM-2, cropped", "Grow from seeds", "Fill between slices"
_OUTLINES = "three outlines"


@dataclass(frozen=True)
class Outcome:
    """Dice of one target in its volume by one way."""

    case: str
    target: str
    way: str
    told: str
    dice: float

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def outcomes(model: Model, cases: Iterable[TargetCase], beyond: int = 20) -> Iterator[Outcome]:
    """Each target by the network and by Slicer's tools, from the same first prompts.

    Args:
        model: the network.
        cases: the targets.
        beyond: how many slices beyond the target's ends the network propagates, each way.

    Raises:
        InputError: Slicer's libraries are not there.
    """
    for case in cases:
        for kind in STANDARD:
            found = run(case, model, kind, EvaluationSettings(rounds=0, beyond=beyond))
            yield Outcome(case.name, case.target, ENGINE, WORDS[kind], found.dice(case)[0])
            grown = segment(_grown, Frames(case.volume, "k", None, model.image_size), found.prompts)
            yield Outcome(case.name, case.target, GROW, WORDS[kind], dice(grown, case.mask))
        yield Outcome(case.name, case.target, FILL, _OUTLINES, dice(_filled(case), case.mask))


def means(found: Sequence[Outcome]) -> dict[str, float]:
    """Mean Dice by way and by what was told."""
    groups = dict.fromkeys((each.way, each.told) for each in found)
    return {
        f"{way}, {told}": float(np.mean([each.dice for each in found if (each.way, each.told) == (way, told)]))
        for way, told in groups
    }


def _grown(scene: Scene) -> NDArray[np.bool_]:
    return slicer_tools.grow_from_seeds(scene.image, scene.spacing, scene.inside, scene.outside)


def _filled(case: TargetCase) -> NDArray[np.bool_]:
    """From the truth on the middle slice and on the target's first and last one."""
    present = np.flatnonzero(case.mask.any(axis=(1, 2)))
    drawn = np.zeros_like(case.mask)
    for k in (int(present[0]), middle_slice(case.mask), int(present[-1])):
        drawn[k] = case.mask[k]
    return slicer_tools.fill_between_slices(drawn, case.volume.spacing[::-1])
