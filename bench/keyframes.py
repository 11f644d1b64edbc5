"""What sweeps from both sides are worth between two accepted slices, and what their disagreement tells."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from biosam2 import Mask, Session, interpolation
from biosam2.engine.features import FeatureCache
from biosam2.errors import PromptError
from biosam2.evaluation.cases import TargetCase
from biosam2.masks import dice
from biosam2.models.model import Model
from scipy.special import expit
from scipy.stats import spearmanr

WAYS = {
    "first only": "one sweep, from the first accepted slice, which knows no other",
    "one side": "one sweep, from the first accepted slice on, which knows all of them: as it is now",
    "other side": "one sweep, from the last accepted slice back, which knows all of them",
    "fused": "both of these, their probabilities weighted by the distance to where each passed its last accepted slice",
    "one side, apart": "one sweep, which knows only the accepted slice that it has passed last, and what came since",
    "fused, apart": "such sweeps from both sides, fused",
    "interpolated": "no network: linear between the accepted masks' signed distances",
}
DOUBTS = ("score", "distance", "sides")
"""``sides``: 1 - Dice of one side to the other side."""


@dataclass(frozen=True)
class Between:
    """One target, of which a user has accepted some slices as they truly are.

    Attributes:
        case: what was segmented.
        accepted: how many slices.
        slices: how many lie between them.
        dice: of these slices together, by way.
        correlation: Spearman's, of a doubt with 1 - Dice of ``one side``; 0 where all are in the same doubt.
        fused_correlation: with 1 - Dice of ``fused``.
    """

    case: str
    accepted: int
    slices: int
    dice: dict[str, float]
    correlation: dict[str, float]
    fused_correlation: dict[str, float]


def between(model: Model, cases: Iterable[TargetCase], accepted: Sequence[int] = (2, 3, 5)) -> Iterator[Between]:
    """Each case with so many accepted slices, at equal distances from the first slice of the target to the last.

    The outermost ones lie a tenth of the extent within, where the target is not yet a tip.

    Args:
        model: the network.
        cases: on what.
        accepted: how many slices, each number by itself.
    """
    for case in cases:
        present = np.flatnonzero(case.mask.any(axis=(1, 2)))
        features = FeatureCache(), FeatureCache()
        for count in accepted:
            places = np.linspace(0.1, 0.9, count) * (present[-1] - present[0]) + present[0]
            slices = sorted({int(s) for s in np.round(places)})
            if len(slices) < count or min(b - a for a, b in itertools.pairwise(slices)) < 3:
                continue
            if not case.mask[slices].any(axis=(1, 2)).all():
                continue
            try:
                yield _between(model, case, slices, features)
            except PromptError:
                continue  # a slice of the target is too small to be shown to the network


def _between(
    model: Model, case: TargetCase, accepted: Sequence[int], features: tuple[FeatureCache, FeatureCache]
) -> Between:
    top = case.volume.shape[0] - 1
    turned = replace(case.volume, array=np.ascontiguousarray(case.volume.array[::-1]))

    def sweep(known: Sequence[int], first: int, last: int, backward: bool = False) -> tuple[Any, Any]:
        """Probabilities and scores of a sweep, (slices, rows, columns) and (slices,) from the lowest slice on."""
        volume = turned if backward else case.volume
        session = Session(model, volume, crop="auto", policy="path", features=features[backward])
        for s in known:
            session.add_prompt("target", Mask(top - s if backward else s, case.mask[s]))
        span = (top - last, top - first) if backward else (first, last)
        found = list(session.propagate(["target"], "forward", *span))
        # Where the target is absent logits are -1024, against which no other side could say anything.
        shown = [expit(session.logits("target", update.slice_index)) for update in found]
        order = slice(None, None, -1 if backward else 1)
        return np.stack(shown)[order], np.array([update.score for update in found])[order]

    first, last = accepted[0], accepted[-1]
    inner = np.array([s for s in range(first, last + 1) if s not in accepted])
    here = inner - first
    ahead, scores = sweep(accepted, first, last)
    back, _ = sweep(accepted, first, last, backward=True)
    alone, alone_ahead, alone_back = sweep([first], first, last)[0], ahead.copy(), back.copy()
    weights = np.zeros((last - first + 1, 1, 1), np.float32)
    for a, b in itertools.pairwise(accepted):
        part = slice(a - first, b - first + 1)
        weights[part, 0, 0] = np.linspace(1, 0, b - a + 1)
        alone_ahead[part] = sweep([a], a, b)[0]
        alone_back[part] = sweep([b], a, b, backward=True)[0]
    found = {
        "first only": alone > 0.5,
        "one side": ahead > 0.5,
        "other side": back > 0.5,
        "fused": weights * ahead + (1 - weights) * back > 0.5,
        "one side, apart": alone_ahead > 0.5,
        "fused, apart": weights * alone_ahead + (1 - weights) * alone_back > 0.5,
    }
    found["interpolated"] = np.zeros_like(found["fused"])
    for a, b in itertools.pairwise(accepted):
        masks = interpolation.between(case.mask[a], case.mask[b], b - a - 1, case.volume.spacing[1::-1])
        for s, mask in enumerate(masks, start=a + 1):
            found["interpolated"][s - first] = mask
    truth = case.mask[inner]
    sides = [1 - dice(found["one side"][n], found["other side"][n]) for n in here]
    nearest = [min(abs(int(s) - a) for a in accepted) for s in inner]
    doubts = {"score": 1 - scores[here], "distance": np.array(nearest), "sides": np.array(sides)}

    def correlations(way: str) -> dict[str, float]:
        wrong = np.array([1 - dice(mask, true) for mask, true in zip(found[way][here], truth, strict=True)])
        return {
            name: 0.0 if np.ptp(values) == 0 or np.ptp(wrong) == 0 else float(spearmanr(values, wrong).statistic)
            for name, values in doubts.items()
        }

    return Between(
        case.title,
        len(accepted),
        len(inner),
        {name: dice(mask[here], truth) for name, mask in found.items()},
        correlations("one side"),
        correlations("fused"),
    )


def table(found: Sequence[Between]) -> str:
    """Markdown: mean Dice between accepted slices by way, and how doubts order the slices there."""
    counts = sorted({one.accepted for one in found})
    lines = [f"| accepted slices | {' | '.join(map(str, counts))} |", f"|---|{'---|' * len(counts)}"]
    groups = [[one for one in found if one.accepted == count] for count in counts]
    lines.append(f"| *targets* | {' | '.join(str(len(own)) for own in groups)} |")
    for name in WAYS:
        means = [np.mean([one.dice[name] for one in own]) for own in groups]
        lines.append(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    gains = [[one.dice["fused"] - one.dice["one side"] for one in own] for own in groups]
    cells = [f"{sum(g > 0.005 for g in own)}, {sum(g < -0.005 for g in own)}" for own in gains]
    lines.append(f"| *fused better, worse than one side* | {' | '.join(cells)} |")
    for name in DOUBTS:
        for words, kind in (("one side", "correlation"), ("fused", "fused_correlation")):
            means = [np.mean([getattr(one, kind)[name] for one in own]) for own in groups]
            lines.append(f"| *{name} and 1 - Dice of {words}* | {' | '.join(f'{m:.2f}' for m in means)} |")
    return "\n".join(lines)


def to_json(found: Sequence[Between]) -> list[dict[str, Any]]:
    """As JSON data."""
    return [asdict(one) for one in found]
