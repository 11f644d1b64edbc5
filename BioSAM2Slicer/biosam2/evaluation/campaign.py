"""All cases, models, pipelines and prompts of one evaluation, as far as they are not measured yet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..datasets import Case
from ..errors import InputError
from ..io import atomic_path
from ..models import load_model
from ..parallel import in_parallel
from ..record import versions
from . import summary
from .runs import Pipeline, Settings
from .store import Store
from .tasks import Figures, Network, Outcome, Task, can_do, evaluate
from .user import Kind

FORMAT = "biosam2-evaluation-1"


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        cases: on what.
        networks: with what.
        ways: pipelines and prompts; of these, what makes sense for a case.
        settings: of the engine.
        tolerance: of the normalised surface Dice, in mm.
        threads: of torch in each process, None to leave it alone.
    """

    cases: tuple[Case, ...]
    networks: tuple[Network, ...]
    ways: tuple[tuple[Pipeline, Kind], ...]
    settings: Settings
    tolerance: float = 2.0
    threads: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        plan: what was to be.
        figures: in the plan's order, whatever order they were measured in.
        failures: cases that could not be measured: case, model, why.
        empty: targets that mark nothing: case, target.
    """

    plan: Plan
    figures: tuple[Figures, ...]
    failures: tuple[tuple[str, str, str], ...]
    empty: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON data: settings, versions, every figure, summaries, and what got worse."""
        return {
            "format": FORMAT,
            "models": [asdict(network) for network in self.plan.networks],
            "settings": asdict(self.plan.settings),
            "nsd_tolerance_mm": self.plan.tolerance,
            "versions": versions(),
            "figures": [one.to_json() for one in self.figures],
            "summary": [asdict(row) for row in summary.summarise(self.figures)],
            "remarks": summary.remarks(self.figures),
            "failures": [dict(zip(("case", "model", "why"), failure, strict=True)) for failure in self.failures],
            "empty": [dict(zip(("case", "target"), one, strict=True)) for one in self.empty],
        }

    def to_csv(self) -> str:
        """A row for each target, way and round."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        facts = ("case", "target", "modality", "split", "kind", "model", "pipeline", "prompt")
        values = ("dice", "nsd", "hd95", "iou")
        writer.writerow((*facts, "round", *values, "clicks_to_90", "seconds", "note"))
        for one in self.figures:
            own = [getattr(one, name) for name in facts]
            for n in range(len(one.dice)):
                # Six digits: more differ between processors.
                numbers = ["" if (v := getattr(one, name)[n]) is None else f"{v:.6f}" for name in values]
                clicks = "" if one.clicks_to_90 is None else one.clicks_to_90
                writer.writerow((*own, n, *numbers, clicks, f"{one.seconds:.2f}", one.note))
        return stream.getvalue()


def networks_of(names: Sequence[str], config: str | None, device: str) -> tuple[Network, ...]:
    """Models as results call them: by their names, or as they were typed where two have one name.

    Args:
        names: of the registry, or checkpoints' paths.
        config: of the checkpoints that have none beside them.
        device: where they will run.

    Raises:
        ModelError, DeviceError: a model cannot be loaded.
        InputError: a model is given twice.
    """
    found = []
    for name in names:
        is_file = Path(name).is_file()
        own = config if is_file and not Path(name).with_suffix(".yaml").is_file() else None
        model = load_model(name, device, config=own)
        typed = str(Path(name).absolute()) if is_file else name
        # A path, so that a process in another folder finds it.
        beside = str(Path(own).absolute()) if own and Path(own).is_file() else own
        found.append(Network(model.name, typed, beside, device, model.sha256))
    if len({network.name for network in found}) < len(found):
        raise InputError(f"a model is given twice ({', '.join(names)}); give each once")
    labels = [network.label for network in found]
    return tuple(
        replace(network, label=name) if labels.count(network.label) > 1 else network
        for network, name in zip(found, names, strict=True)
    )


def tasks_of(plan: Plan) -> list[Task]:
    """A task for each case and model that a pipeline and a prompt fit."""
    return [
        Task(case, network, ways, plan.settings, plan.tolerance, plan.threads)
        for case in plan.cases
        for network in plan.networks
        if (ways := tuple(way for way in plan.ways if can_do(case, *way)))
    ]


def measure_all(
    plan: Plan,
    folder: Path,
    jobs: int = 1,
    cluster: str | None = None,
    report: Callable[[Outcome], None] | None = None,
) -> Evaluation:
    """Measure what is not measured yet.

    Args:
        plan: what.
        folder: where figures and pictures are kept; what an earlier run measured of the same is taken from there.
        jobs: how many processes.
        cluster: see `in_parallel`.
        report: is told of each task as it is finished, those of earlier runs first.

    Raises:
        OutputError: the folder cannot be written, or another run is writing there.
        InputError, DeviceError, DependencyError: see `in_parallel`.
    """
    store = Store(folder)
    try:
        tasks = tasks_of(plan)
        if not tasks:
            raise InputError("none of the pipelines and prompts fits a case; 2D cases take --pipeline image, no masks")
        todo = []
        for task in tasks:
            left = tuple(way for way in task.ways if store.known(task, *way) is None)
            if left:
                todo.append(replace(task, ways=left))
            elif report is not None:
                report(Outcome(task))
        outcomes = []
        for outcome in in_parallel(evaluate, todo, jobs, cluster):
            if not outcome.failure:
                store.add(outcome)
            if report is not None:
                report(outcome)
            outcomes.append(outcome)
        known = [(task.case, store.known(task, *way)) for task in tasks for way in task.ways]
    finally:
        store.close()
    order = [case.name for case in plan.cases]
    failures = sorted(
        ((o.task.case.name, o.task.network.label, o.failure) for o in outcomes if o.failure),
        key=lambda failure: order.index(failure[0]),
    )
    figures = tuple(one for _, own in known for one in own or ())
    return Evaluation(plan, figures, tuple(failures), _empty(known))


def _empty(known: Iterable[tuple[Case, tuple[Figures, ...] | None]]) -> tuple[tuple[str, str], ...]:
    """Targets that mark nothing, whichever run found them so: those without a figure where their case was measured."""
    found = set()
    for case, figures in known:
        if figures is not None:
            found |= {(case.name, target.name) for target in case.targets} - {(f.case, f.target) for f in figures}
    return tuple(sorted(found))


def write_all(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write results.csv, results.json and report.html into a folder; each atomic.

    Raises:
        OutputError: they cannot be written.
        DependencyError: what draws the report is not installed.
    """
    from .report import html

    contents = {
        "results.csv": evaluation.to_csv(),
        "results.json": json.dumps(evaluation.to_json(), indent=1) + "\n",
        "report.html": html(evaluation, folder),
    }
    for name, text in contents.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in contents]
