"""All cases, models, pipelines and prompts of one evaluation, as far as they are not measured yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..datasets import Case
from ..errors import InputError
from ..io import atomic_path
from ..models import load_model
from ..parallel import in_parallel
from . import comparison
from .report import html
from .results import Evaluation, Plan
from .store import Store
from .tasks import Metrics, Network, Outcome, Task, can_do, evaluate
from .ways import Kind, Pipeline


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
        Task(case, network, ways, plan.settings, plan.protocol, plan.threads)
        for case in plan.cases
        for network in plan.networks
        if (ways := _ways(plan, case))
    ]


def _ways(plan: Plan, case: Case) -> tuple[tuple[Pipeline, Kind], ...]:
    """What is measured of a case."""
    allowed = plan.protocol.ways.get(case.kind, ()) if plan.protocol.ways else plan.ways
    return tuple(way for way in plan.ways if way in allowed and can_do(case, *way))


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
        folder: where metrics and pictures are kept; what an earlier run measured of the same is taken from there.
        jobs: how many processes.
        cluster: see `in_parallel`.
        report: is told of each task as it is finished, those of earlier runs first.

    Raises:
        InputError: a bank that goes across images, whose cases follow each other, in several processes.
        OutputError: the folder cannot be written, or another run is writing there.
        InputError, DeviceError, DependencyError: see `in_parallel`.
    """
    if plan.settings.scope == "images" and (jobs > 1 or cluster is not None):
        raise InputError("a bank across images sees the cases one after another; leave out --jobs and --cluster")
    store = Store(folder)
    try:
        tasks = tasks_of(plan)
        if not tasks:
            raise InputError("none of the pipelines and prompts fits a case; 2D cases take --pipeline image, no masks")
        todo = []
        # What a bank that goes across images finds depends on all cases before: it is measured as a whole.
        across = plan.settings.scope == "images"
        for task in tasks:
            left = tuple(way for way in task.ways if across or store.known(task, *way) is None)
            if left:
                todo.append(replace(task, ways=left))
            elif report is not None:
                report(Outcome(task))
        failed = []
        work = partial(evaluate, banks={}) if across else evaluate
        for outcome in in_parallel(work, todo, jobs, cluster, lost=lambda task, why: Outcome(task, failure=why)):
            if outcome.failure:
                failed.append((outcome.task.case.name, outcome.task.network.label, outcome.failure))
            else:
                # Metrics are a few hundred bytes and stay; pictures are in their files by now.
                store.add(outcome)
            if report is not None:
                report(outcome)
        known = [(task.case, store.known(task, *way)) for task in tasks for way in task.ways]
    finally:
        store.close()
    order = {case.name: number for number, case in enumerate(plan.cases)}
    failures = sorted(failed, key=lambda failure: order[failure[0]])
    metrics = tuple(one for _, own in known for one in own or ())
    return Evaluation(plan, metrics, tuple(failures), _empty(known))


def _empty(known: Iterable[tuple[Case, tuple[Metrics, ...] | None]]) -> tuple[tuple[str, str], ...]:
    """Targets that mark nothing, whichever run found them so: those without a figure where their case was measured."""
    found = set()
    for case, metrics in known:
        if metrics is not None:
            found |= {(case.name, target.name) for target in case.targets} - {(f.case, f.target) for f in metrics}
    return tuple(sorted(found))


def write_all(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write results.csv, results.json and report.html into a folder; each atomic.

    Args:
        evaluation: what was measured.
        folder: that exists.

    Returns:
        The files.

    Raises:
        OutputError: they cannot be written.
        DependencyError: what draws the report is not installed.
    """
    contents = {
        "results.csv": evaluation.to_csv(),
        "results.json": json.dumps(evaluation.to_json(), indent=1) + "\n",
        "report.html": html(evaluation, folder),
    }
    return _written(contents, folder)


def write_table(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write table.md, table.csv and table.tex, the models side by side, into a folder; each atomic.

    Args:
        evaluation: what was measured.
        folder: that exists.

    Returns:
        The files.

    Raises:
        OutputError: they cannot be written.
    """
    names = evaluation.plan.protocol.metrics
    lines = comparison.compare(evaluation.metrics, names)
    contents = {
        "table.md": comparison.markdown(lines, names),
        "table.csv": comparison.table_csv(lines, names),
        "table.tex": comparison.latex(lines, names),
    }
    return _written(contents, folder)


def _written(contents: Mapping[str, str], folder: Path) -> list[Path]:
    for name, text in contents.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in contents]
