"""What the worker costs: a click and a propagation through it, beside the same in this process."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import biosam2
import numpy as np
import psutil
from biosam2 import Point
from biosam2.service import WorkerSession

_CLICKS = 10
_SEGMENT = "a"
Where = Literal["here", "there"]


@dataclass(frozen=True)
class Cost:
    """One kind of work, done in this process and through a worker.

    Attributes:
        work: ``click`` or ``propagation``.
        here, there: wall time of each repetition, seconds.
        here_cpu, there_cpu: mean CPU time of both processes together, seconds. A busy computer changes it less than
            the time that passes.
    """

    work: str
    here: tuple[float, ...]
    there: tuple[float, ...]
    here_cpu: float
    there_cpu: float

    @property
    def best(self) -> float:
        """Shortest wall time through the worker over the shortest in this process."""
        return min(self.there) / min(self.here)

    @property
    def median(self) -> float:
        """Median wall time through the worker over the median in this process."""
        return statistics.median(self.there) / statistics.median(self.here)

    @property
    def cpu(self) -> float:
        """CPU time through the worker over that in this process."""
        return self.there_cpu / self.here_cpu

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def costs(model: str, device: str, rounds: int) -> list[Cost]:
    """Click and propagate in turns, so that whatever else the computer does weighs on both sides.

    Args:
        model: a name of the registry or a checkpoint's path.
        device: of both sides.
        rounds: how often; each is ten clicks and one propagation. One more goes before, and is not counted.

    Raises:
        RuntimeError: the two sides give different masks.
    """
    volume = _ball()
    here = biosam2.Session(biosam2.load_model(model, device), volume)
    with WorkerSession(volume, model=model, device=device) as there:
        watch = _Watch([psutil.Process(), psutil.Process(there.process_id)])
        sides: dict[Where, Any] = {"here": here, "there": there}
        for number in range(rounds + 1):
            _round(sides, watch if number else _Watch([]))
            if not np.array_equal(here.mask(_SEGMENT), there.mask(_SEGMENT)):
                raise RuntimeError("the worker's mask differs from that of this process")
            for session in sides.values():
                session.clear(_SEGMENT)
    return [watch.cost(work) for work in ("click", "propagation")]


def table(found: Sequence[Cost]) -> str:
    """Markdown: milliseconds of both sides, and their ratios."""
    lines = ["| work | here, ms | worker, ms | best | median | CPU time |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {c.work} | {1000 * statistics.median(c.here):.1f} | {1000 * statistics.median(c.there):.1f} "
        f"| {c.best:.2f}× | {c.median:.2f}× | {c.cpu:.2f}× |"
        for c in found
    ]
    return "\n".join(lines)


class _Watch:
    """Wall and CPU times by work and side."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = processes
        self._wall: dict[tuple[str, Where], list[float]] = defaultdict(list)
        self._cpu: dict[tuple[str, Where], list[float]] = defaultdict(list)

    def measure(self, work: str, where: Where, do: Callable[[], object]) -> None:
        before, begun = self._cpu_time(), time.perf_counter()
        do()
        self._wall[work, where].append(time.perf_counter() - begun)
        self._cpu[work, where].append(self._cpu_time() - before)

    def cost(self, work: str) -> Cost:
        return Cost(
            work,
            tuple(self._wall[work, "here"]),
            tuple(self._wall[work, "there"]),
            statistics.mean(self._cpu[work, "here"]),
            statistics.mean(self._cpu[work, "there"]),
        )

    def _cpu_time(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)


def _round(sides: dict[Where, Any], watch: _Watch) -> None:
    for number in range(_CLICKS):
        for where, session in sides.items():
            watch.measure("click", where, lambda session=session, number=number: _click(session, number))  # type: ignore[misc]
            session.undo()
    for where, session in sides.items():
        session.add_prompt(_SEGMENT, Point((128, 128, 4)))
        watch.measure("propagation", where, lambda session=session: list(session.propagate()))  # type: ignore[misc]


def _click(session: Any, number: int) -> None:
    session.add_prompt(_SEGMENT, Point((100 + number % 50, 128, 4)))
    session.predict(_SEGMENT, 4)


def _ball() -> biosam2.Volume:
    k, j, i = np.ogrid[:8, :256, :256]
    ball = ((k - 4) / 4) ** 2 + ((j - 128) / 60) ** 2 + ((i - 128) / 60) ** 2 < 1
    noise = np.random.default_rng(1).normal(0, 30, ball.shape)
    return biosam2.Volume((noise + 200 * ball).astype(np.int16))
