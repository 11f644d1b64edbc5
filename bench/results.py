"""The figures of each release: one file for each version and machine in ``results/``, and their history."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import biosam2
import msgspec
from biosam2.errors import InputError, OutputError
from biosam2.io import atomic_path
from packaging.version import Version

FOLDER = Path(__file__).parent / "results"


class Run(msgspec.Struct, frozen=True):
    """One command, as it was run.

    Attributes:
        command: of the bench.
        settings: its options. Runs of one command with equal settings are compared.
        unit: of the values.
        values: the figures that are compared, by name.
        machine: load, threads and versions while it ran.
        details: everything that the command measured.
    """

    command: str
    settings: dict[str, Any]
    unit: str
    values: dict[str, float]
    machine: dict[str, Any]
    details: dict[str, Any]

    @property
    def title(self) -> str:
        """The command with its settings."""
        return " ".join([self.command, *(f"{name}={_text(value)}" for name, value in self.settings.items())])


class Release(msgspec.Struct, frozen=True):
    """What was measured of one version on one machine.

    Attributes:
        biosam2: the version.
        machine: see `machine_name`.
        runs: each command with each of its settings once, the last that was recorded.
    """

    biosam2: str
    machine: str
    runs: list[Run]


def machine_name(machine: Mapping[str, Any]) -> str:
    """A name for a kind of machine: its processor and the number of cores; no host's name."""
    words = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", " ", str(machine["cpu"]).lower())
    slug = "-".join(re.findall(r"[a-z0-9]+", words)) or "unknown"
    return f"{slug}-{str(machine['capability']).lower()}-{machine['cores']}-cores"


def record(run: Run, folder: Path = FOLDER) -> Path:
    """Keep a run under the present version and machine; an earlier one of the same settings is replaced.

    Args:
        run: what was measured.
        folder: of all results; made if there is none.

    Returns:
        The file, which is written atomically.

    Raises:
        OutputError: it cannot be written.
        InputError: the file that is there is damaged.
    """
    name = machine_name(run.machine)
    path = folder / f"{biosam2.__version__}-{name}.json"
    known = _read(path).runs if path.exists() else []
    same = (run.command, run.settings)
    runs = [*(other for other in known if (other.command, other.settings) != same), run]
    content = json.dumps(msgspec.to_builtins(Release(biosam2.__version__, name, runs)), indent=1, ensure_ascii=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}") from error
    with atomic_path(path) as temporary:
        temporary.write_text(content + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Course:
    """One command with its settings on one machine, version by version.

    Attributes:
        machine: see `machine_name`.
        title: of the run.
        unit: of the values.
        versions: in their order.
        values: for each figure one value a version, None where it was not measured.
    """

    machine: str
    title: str
    unit: str
    versions: tuple[str, ...]
    values: dict[str, tuple[float | None, ...]]


def history(folder: Path = FOLDER) -> list[Course]:
    """Everything that was recorded, version by version.

    Raises:
        InputError: a file is damaged.
    """
    releases = sorted((_read(path) for path in folder.glob("*.json")), key=lambda release: Version(release.biosam2))
    found: dict[tuple[str, str, str], dict[str, dict[str, float]]] = {}
    for release in releases:
        for run in release.runs:
            found.setdefault((release.machine, run.title, run.unit), {})[release.biosam2] = run.values
    courses = []
    for key, by_version in sorted(found.items()):
        names = dict.fromkeys(name for values in by_version.values() for name in values)
        values = {name: tuple(own.get(name) for own in by_version.values()) for name in names}
        courses.append(Course(*key, tuple(by_version), values))
    return courses


def table(courses: Iterable[Course]) -> str:
    """Markdown: for each machine and run a table, a row for each figure and a column for each version."""
    parts = []
    for course in courses:
        head = f"{course.machine}: {course.title} ({course.unit})"
        lines = [f"| | {' | '.join(course.versions)} |", "|---" * (len(course.versions) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(map(_cell, own))} |" for name, own in course.values.items()]
        parts.append("\n".join([head, "", *lines]))
    return "\n\n".join(parts)


def draw(courses: Sequence[Course], path: Path) -> None:
    """Draw a plot for each run, figures against versions, one below the other.

    Args:
        courses: at least one.
        path: .png, .svg or .pdf.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2 * len(courses)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, course in zip(figure.subplots(len(courses), squeeze=False)[:, 0], courses, strict=True):
        for name, own in course.values.items():
            shown = [(number, value) for number, value in enumerate(own) if value is not None]
            axes.plot(*zip(*shown, strict=True), marker="o", label=name)
        axes.set_xticks(range(len(course.versions)), course.versions)
        axes.set_title(textwrap.fill(f"{course.machine}: {course.title}", 110), fontsize="small")
        axes.set_ylabel(course.unit)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format=path.suffix[1:])


def _read(path: Path) -> Release:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Release)
    except msgspec.MsgspecError as error:
        raise InputError(f"{path} is damaged ({error}); restore it or delete it") from error


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
