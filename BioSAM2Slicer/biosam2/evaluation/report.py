"""The report: one HTML file with its pictures inside, for somebody who knows nothing of this program."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import require as require_extra
from . import summary
from .results import Evaluation
from .tasks import Metrics
from .ways import WORDS

_WORST = 8
# Mean Dice of SAM 2 and of BioSAM-2 as surveys quote the paper (arXiv 2408.03286), in percent.
PUBLISHED = (("AMOS MR", 54.9, 74.4), ("FLARE CT", 47.4, 76.3))
_MARKERS: dict[str, str] = {
    "click1": "o",
    "click3": "^",
    "box": "s",
    "mask": "*",
    "scribble": "x",
    "lasso": "D",
    "line": "|",
}
_LINES = {"image": ":", "volume": "-", "video": "--"}
_CLICKS = {
    "deepest": "in the middle of the target's largest piece",
    "random": "on any pixel of the target",
    "centroid": "on the pixel of the target's largest piece that is nearest to its centre of mass",
}


def require() -> None:
    """To be asked before hours of measuring: what surfaces are compared with and the report is drawn with is there.

    Raises:
        DependencyError: MONAI, Jinja2 or matplotlib is not installed.
    """
    require_extra("evaluate", "measuring with its report", "monai", "jinja2", "matplotlib")


def html(evaluation: Evaluation, folder: Path) -> str:
    """The report's text.

    Args:
        evaluation: what was measured.
        folder: that the pictures lie in.

    Raises:
        DependencyError: see `require`.
    """
    require()
    import jinja2

    metrics = evaluation.metrics
    rows = summary.summarise(metrics)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"interval": _interval, "number": _number, "prompt": lambda name: WORDS.get(name, name)}
    template = environment.from_string((Path(__file__).parent / "report.html.jinja").read_text(encoding="utf-8"))
    plots = [("Dice of each target", _png(lambda axes: _spread(axes, metrics))) if metrics else None]
    if metrics and len(metrics[0].dice) > 1:
        plots.append(("Mean Dice after each correction", _png(lambda axes: _curves(axes, rows))))
    worst = sorted((one for one in metrics if one.picture), key=lambda one: one.dice[0])[:_WORST]
    return template.render(
        evaluation=evaluation,
        rows=rows,
        first=[row for row in rows if row.round == 0],
        plots=[plot for plot in plots if plot],
        worst=[(one, _embedded(folder / one.picture)) for one in worst],
        remarks=summary.remarks(metrics),
        published=PUBLISHED,
        click=_CLICKS[evaluation.plan.protocol.marking.click],
        tolerances=_range([one.tolerance for one in metrics] or [evaluation.plan.protocol.tolerance]),
        sources=_tolerance_sources(evaluation),
        rounds=max((len(one.dice) for one in metrics), default=1),
    )


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g} (by target)"


def _tolerance_sources(evaluation: Evaluation) -> list[tuple[str, str]]:
    """The datasets that were measured, with where their tolerances come from."""
    known = evaluation.plan.protocol.tolerances
    datasets = dict.fromkeys(case.dataset for case in evaluation.plan.cases)
    return [(name, known[name].source) for name in datasets if name in known]


def _interval(mean: summary.Mean, digits: int = 3) -> str:
    """A mean with its interval."""
    if mean.mean is None:
        return "–"
    text = f"{mean.mean:.{digits}f}"
    return text if mean.low is None else f"{text} ({mean.low:.{digits}f} to {mean.high:.{digits}f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _png(draw: Callable[[Any], None]) -> str:
    """A plot as a data URL."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return _data_url(stream.getvalue())


def _embedded(path: Path) -> str:
    return _data_url(path.read_bytes()) if path.is_file() else ""


def _data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def _spread(axes: Any, metrics: Sequence[Metrics]) -> None:
    """Box plots over each target's points, models side by side."""
    models = list(dict.fromkeys(one.model for one in metrics))
    groups = list(dict.fromkeys((one.pipeline, one.prompt) for one in metrics))
    width = 0.8 / len(models)
    rng = np.random.default_rng(0)
    for number, model in enumerate(models):
        places = np.arange(len(groups)) + (number - (len(models) - 1) / 2) * width
        values = [[o.dice[0] for o in metrics if o.model == model and (o.pipeline, o.prompt) == g] for g in groups]
        colour = f"C{number}"
        axes.boxplot(
            values,
            positions=places,
            widths=0.8 * width,
            showfliers=False,
            manage_ticks=False,
            medianprops={"color": colour, "linewidth": 2},
            boxprops={"color": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
        )
        for place, some in zip(places, values, strict=True):
            axes.plot(place + rng.uniform(-0.2, 0.2, len(some)) * width, some, ".", color=colour, alpha=0.5)
        axes.plot([], [], color=colour, label=model)
    axes.set_xticks(range(len(groups)), [f"{WORDS.get(prompt, prompt)}\n({pipeline})" for pipeline, prompt in groups])
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("Dice")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()


def _curves(axes: Any, rows: Sequence[summary.Row]) -> None:
    """Mean Dice by round, a line for each model and way."""
    lines: dict[tuple[str, str, str], list[summary.Row]] = {}
    for row in rows:
        if row.scope == "all":
            lines.setdefault((row.model, row.pipeline, row.prompt), []).append(row)
    models = list(dict.fromkeys(model for model, _, _ in lines))
    for (model, pipeline, prompt), own in lines.items():
        axes.plot(
            [row.round for row in own],
            [row.dice.mean for row in own],
            marker=_MARKERS[prompt],
            linestyle=_LINES[pipeline],
            color=f"C{models.index(model)}",
            label=f"{model}, {WORDS.get(prompt, prompt)} ({pipeline})",
        )
    axes.axhline(0.9, color="grey", linestyle=":", linewidth=1)
    axes.set_xticks(range(max(len(own) for own in lines.values())))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("corrections")
    axes.set_ylabel("mean Dice")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
