"""Models side by side, as papers print them: modality × target × prompt × model, with intervals and a paired test."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test

from .summary import Mean, mean_of
from .tasks import Metrics
from .ways import WORDS

ALL = "all targets"
PERMUTATIONS = 9999
_TITLES = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95, mm", "iou": "IoU"}


@dataclass(frozen=True)
class Cell:
    """One model in one row.

    Attributes:
        means: by metric.
        p: of the paired test of the first metric against the first model; None for that model itself, and where fewer
            than two cases were measured with both.
    """

    means: dict[str, Mean]
    p: float | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """One row: what was measured, and each model's cell by the model's name.

    Attributes:
        dataset, modality, target, pipeline, prompt: on what and how; `target` is `ALL` for the mean over them.
        cases: how many images.
        cells: by model; one that was not measured here has none.
    """

    dataset: str
    modality: str
    target: str
    pipeline: str
    prompt: str
    cases: int
    cells: dict[str, Cell]


def compare(metrics: Sequence[Metrics], names: Sequence[str]) -> list[ComparisonRow]:
    """The rows: of each dataset and modality each target, then the mean over all; of each way by itself.

    Only the first result counts, not the corrections after it.

    Args:
        metrics: of one evaluation.
        names: of the metrics that are compared.
    """
    models = list(dict.fromkeys(one.model for one in metrics))
    lines = []
    for group in dict.fromkeys((one.dataset, one.modality) for one in metrics):
        own = [one for one in metrics if (one.dataset, one.modality) == group]
        targets = list(dict.fromkeys(one.target for one in own))
        for way in dict.fromkeys((one.pipeline, one.prompt) for one in own):
            here = [one for one in own if (one.pipeline, one.prompt) == way]
            for target in (*targets, ALL) if len(targets) > 1 else targets:
                some = [one for one in here if target in (ALL, one.target)]
                if some:
                    cells = _cells(some, models, names)
                    lines.append(ComparisonRow(*group, target, *way, len({one.case for one in some}), cells))
    return lines


def paired_p(first: dict[tuple[str, str], float], other: dict[tuple[str, str], float]) -> float | None:
    """The p value of the mean difference of two models, by SciPy's paired permutation test.

    Differences are averaged over each case first: targets of one image are not independent. Their signs are then turned
    at random (all ways where there are few cases), two-sided. Not corrected for the number of comparisons.

    Args:
        first: values of one model by (case, target).
        other: those of the other model.

    Returns:
        The p value; None where fewer than two cases have values of both.
    """
    both = [key for key in first if key in other]
    cases = list(dict.fromkeys(case for case, _ in both))
    if len(cases) < 2:
        return None
    pairs = [
        np.mean([(first[key], other[key]) for key in both if key[0] == case], axis=0)  # one case, all of its targets
        for case in cases
    ]
    before, after = np.array(pairs).T
    found = permutation_test(
        (after, before),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def markdown(lines: Sequence[ComparisonRow], names: Sequence[str]) -> str:
    """The rows as a table in Markdown.

    Args:
        lines: the rows.
        names: of the models, in the order of their columns.
    """
    head, rows = _text(lines, names, lambda mean, name: _interval(mean, name, " to "))
    rule = ["---"] * len(head)
    return (
        "\n".join("| " + " | ".join(_escaped(cell, "|") for cell in row) + " |" for row in (head, rule, *rows)) + "\n"
    )


def latex(lines: Sequence[ComparisonRow], names: Sequence[str]) -> str:
    """The rows as a ``tabular`` for LaTeX with the package booktabs.

    Args:
        lines: the rows.
        names: of the models, in the order of their columns.
    """
    head, rows = _text(lines, names, lambda mean, name: _interval(mean, name, "--"))
    columns = "l" * 5 + "r" * (len(head) - 5)
    body = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in rows]
    top = " & ".join(_tex(cell) for cell in head) + r" \\"
    return "\n".join(
        (rf"\begin{{tabular}}{{{columns}}}", r"\toprule", top, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", "")
    )


def table_csv(lines: Sequence[ComparisonRow], names: Sequence[str]) -> str:
    """The rows as CSV with a row for each model: means, ends of the intervals, p.

    Args:
        lines: the rows.
        names: of the models, in the order of their columns.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    facts = ("dataset", "modality", "target", "pipeline", "prompt", "cases")
    numbers = [f"{name}{part}" for name in names for part in ("", "_low", "_high", "_count")]
    writer.writerow((*facts, "model", *numbers, "p"))
    for line in lines:
        for model, cell in line.cells.items():
            values: list[object] = []
            for name in names:
                mean = cell.means[name]
                values += [*(_six(value) for value in (mean.mean, mean.low, mean.high)), mean.count]
            writer.writerow((*(getattr(line, fact) for fact in facts), model, *values, _six(cell.p)))
    return stream.getvalue()


def _cells(metrics: Sequence[Metrics], models: Sequence[str], names: Sequence[str]) -> dict[str, Cell]:
    cells = {}
    by_model = {model: [one for one in metrics if one.model == model] for model in models}
    values = {
        model: {(one.case, one.target): value for one in own if (value := getattr(one, names[0])[0]) is not None}
        for model, own in by_model.items()
    }
    for model, own in by_model.items():
        if own:
            means = {name: mean_of([(one.case, getattr(one, name)[0]) for one in own]) for name in names}
            cells[model] = Cell(means, None if model == models[0] else paired_p(values[models[0]], values[model]))
    return cells


def _text(
    lines: Sequence[ComparisonRow], names: Sequence[str], write: Callable[[Mean, str], str]
) -> tuple[list[str], list[list[str]]]:
    """Head and rows as words; columns of datasets or of p values that say nothing are left out."""
    models = list(dict.fromkeys(model for line in lines for model in line.cells))
    head = ["data set", "modality", "target", "pipeline", "prompt", "cases"]
    for number, model in enumerate(models):
        head += [f"{model}: {_TITLES[name]}" for name in names]
        head += [f"p against {models[0]}"] if number else []
    rows = []
    for line in lines:
        row = [
            line.dataset or "–",
            line.modality or "–",
            line.target,
            line.pipeline,
            WORDS.get(line.prompt, line.prompt),
            str(line.cases),
        ]
        for number, model in enumerate(models):
            cell = line.cells.get(model)
            row += [write(cell.means[name], name) if cell else "–" for name in names]
            row += [_p(cell.p if cell else None)] if number else []
        rows.append(row)
    return head, rows


def _interval(mean: Mean, name: str, between: str) -> str:
    if mean.mean is None:
        return "–"
    digits = 1 if name == "hd95" else 3
    text = f"{mean.mean:.{digits}f}"
    return text if mean.low is None else f"{text} ({mean.low:.{digits}f}{between}{mean.high:.{digits}f})"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _six(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _escaped(text: str, *characters: str) -> str:
    for character in characters:
        text = text.replace(character, f"\\{character}")
    return text


_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "–": "--",
        "<": "$<$",
        "~": r"\textasciitilde{}",
        "^": r"\^{}",
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)
