"""Metrics put together: means with bootstrap intervals, and what got worse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import bootstrap

from .tasks import Metrics

Scope = Literal["all", "target", "modality"]
METRICS = ("dice", "nsd", "hd95", "iou")
CONFIDENCE = 0.95
_RESAMPLES = 2000
# Differences below this are not worth a remark.
_WORTH = 0.005


@dataclass(frozen=True)
class Mean:
    """A mean and its 95 % bootstrap interval.

    Attributes:
        mean: over all targets, None where there are none.
        low, high: ends of the interval, None where there are fewer than two cases.
        count: of the targets.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        scope, name: over what: everything, one target, or one modality.
        model, pipeline, prompt: of what.
        round: of corrections; 0 is before any.
        dice, nsd, hd95, iou: the metrics; `hd95` only of targets where neither mask is empty.
        clicks_to_90: median number of prompts until a Dice of 0.9 where it is reached, None where it never is.
        reached_90: how many targets reach it.
        seconds: mean.
    """

    scope: Scope
    name: str
    model: str
    pipeline: str
    prompt: str
    round: int
    dice: Mean
    nsd: Mean
    hd95: Mean
    iou: Mean
    clicks_to_90: float | None
    reached_90: int
    seconds: float


def summarise(metrics: Sequence[Metrics]) -> list[Row]:
    """Rows over everything for each round, and over each target and modality for the first result."""
    rows = []
    targets = dict.fromkeys(one.target for one in metrics)
    modalities = dict.fromkeys(one.modality for one in metrics)
    scopes: list[tuple[Scope, str, Sequence[Metrics]]] = [
        ("all", "", metrics),
        *(("target", name, [one for one in metrics if one.target == name]) for name in targets),
        *(("modality", name, [one for one in metrics if one.modality == name]) for name in modalities),
    ]
    for scope, name, some in scopes:
        for way in ways(some):
            own = [one for one in some if way_of(one) == way]
            rounds = len(own[0].dice) if scope == "all" else 1
            rows += [_row(scope, name, way, n, own) for n in range(rounds)]
    return rows


def way_of(one: Metrics) -> tuple[str, str, str]:
    """Pipeline, prompt and model."""
    return one.pipeline, one.prompt, one.model


def ways(metrics: Iterable[Metrics]) -> list[tuple[str, str, str]]:
    """Each pipeline, prompt and model that there are metrics of, in the order of the metrics."""
    return list(dict.fromkeys(way_of(one) for one in metrics))


def mean_of(values: Sequence[tuple[str, float | None]]) -> Mean:
    """Mean of (case, value), and its interval by drawing cases: targets of one image are not independent.

    The percentile bootstrap with a fixed seed; None among the values are left out.
    """
    kept = [(case, value) for case, value in values if value is not None]
    if not kept:
        return Mean(None, None, None, 0)
    mean = float(np.mean([value for _, value in kept]))
    cases = list(dict.fromkeys(case for case, _ in kept))
    if len(cases) < 2:
        return Mean(mean, None, None, len(kept))
    totals = np.array([sum(value for own, value in kept if own == case) for case in cases])
    counts = np.array([sum(own == case for own, _ in kept) for case in cases])
    found = bootstrap(
        (totals, counts),
        lambda t, n, axis: t.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Mean(mean, float(found.low), float(found.high), len(kept))


def remarks(metrics: Sequence[Metrics]) -> list[str]:
    """What got worse, by name: against the first model, and from one correction to the next."""
    return [*_against_the_first(metrics), *_harmful_rounds(metrics), *_refused(metrics)]


def _row(scope: Scope, name: str, way: tuple[str, str, str], n: int, own: Sequence[Metrics]) -> Row:
    means = {metric: mean_of([(one.case, getattr(one, metric)[n]) for one in own]) for metric in METRICS}
    clicks = [one.clicks_to_90 for one in own if one.clicks_to_90 is not None]
    pipeline, prompt, model = way
    return Row(
        scope,
        name,
        model,
        pipeline,
        prompt,
        n,
        **means,
        clicks_to_90=float(np.median(clicks)) if clicks else None,
        reached_90=len(clicks),
        seconds=float(np.mean([one.seconds for one in own])),
    )


def _against_the_first(metrics: Sequence[Metrics]) -> list[str]:
    models = list(dict.fromkeys(one.model for one in metrics))
    said = []
    for model in models[1:]:
        for title, name_of in (
            ("prompt", lambda one: f"{one.prompt} ({one.pipeline})"),
            ("case", lambda one: one.case),
            ("target", lambda one: one.target),
        ):
            for name in dict.fromkeys(name_of(one) for one in metrics):
                before, after = (
                    _mean([one.dice[0] for one in metrics if one.model == which and name_of(one) == name])
                    for which in (models[0], model)
                )
                if after < before - _WORTH:
                    said.append(f"{model} is worse than {models[0]}, {title} {name}: Dice {before:.3f} → {after:.3f}")
    return said


def _harmful_rounds(metrics: Sequence[Metrics]) -> list[str]:
    said = []
    for pipeline, prompt, model in ways(metrics):
        own = [one for one in metrics if way_of(one) == (pipeline, prompt, model)]
        what = f"{model}, {prompt} ({pipeline})"
        for n in range(1, len(own[0].dice)):
            before, after = (_mean([one.dice[m] for one in own]) for m in (n - 1, n))
            if after < before - _WORTH:
                said.append(f"{what}: correction {n} lowered the mean Dice, {before:.3f} → {after:.3f}")
            fell = [one for one in own if one.dice[n] < one.dice[n - 1] - _WORTH]
            if fell:
                worst = max(fell, key=lambda one: one.dice[n - 1] - one.dice[n])
                said.append(
                    f"{what}: correction {n} lowered Dice on {len(fell)} of {len(own)} targets, most on "
                    f"{worst.case}: {worst.target}, {worst.dice[n - 1]:.3f} → {worst.dice[n]:.3f}"
                )
    return said


def _refused(metrics: Sequence[Metrics]) -> list[str]:
    return [
        f"{one.model}, {one.prompt} ({one.pipeline}), {one.case}: {one.target} was refused: {one.note}"
        for one in metrics
        if one.note
    ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
