"""Both sides timed alternately, and what came of it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import biosam2
import psutil
import torch

from .phases import Course, Phase
from .sides import Side

Clock = Literal["cpu", "wall"]
_CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


@dataclass(frozen=True)
class Timing:
    """One phase done by one side.

    Attributes:
        phase: its name.
        side: ``sam2``, or which optimisations the engine used.
        seconds: each repetition's.
        ratios: each repetition's time of `sam2` over this side's.
    """

    phase: str
    side: str
    seconds: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median ratio: how many times as fast as `sam2`."""
        return statistics.median(self.ratios)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {**asdict(self), "ratio": self.ratio}


def measure(
    name: str, phase: Phase, sides: Mapping[str, Side], volume: biosam2.Volume, repetitions: int, clock: Clock
) -> list[Timing]:
    """Time a phase on all sides, one after the other, and so again.

    Every second round goes the other way round, so that a machine that grows slower favours nobody.

    Args:
        name: the phase's.
        phase: what to do.
        sides: by name; the first is the one that ratios refer to.
        volume: what it is done on.
        repetitions: how often.
        clock: ``cpu``, the process's CPU time, for a machine that others use too; or ``wall``.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for n in range(repetitions):
        for side in sorted(sides, reverse=bool(n % 2)):
            seconds[side].append(_time(phase.course(sides[side], volume), _CLOCKS[clock]))
    reference = seconds[next(iter(sides))]
    return [
        Timing(name, side, tuple(own), tuple(r / t for r, t in zip(reference, own, strict=True)))
        for side, own in seconds.items()
    ]


def _time(course: Course, clock: Callable[[], float]) -> float:
    next(course)
    start = clock()
    next(course)
    return clock() - start


def machine() -> dict[str, Any]:
    """What was measured on."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load": [round(n, 1) for n in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(timings: Sequence[Timing], titles: Mapping[str, str]) -> str:
    """Markdown: a row for each phase, a column for each side."""
    sides = list(dict.fromkeys(t.side for t in timings))
    known = {(t.phase, t.side): t for t in timings}
    lines = [f"| phase | {' | '.join(sides)} |", "|---" * (len(sides) + 1) + "|"]
    for phase in dict.fromkeys(t.phase for t in timings):
        cells = [_cell(known.get((phase, side)), side == sides[0]) for side in sides]
        lines.append(f"| {titles[phase]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(timing: Timing | None, reference: bool) -> str:
    if timing is None:
        return ""
    if reference:
        return f"{statistics.median(timing.seconds):.3g} s"
    return f"{timing.ratio:.2f}× ({min(timing.ratios):.2f}–{max(timing.ratios):.2f})"
