"""What a cohort on a Dask cluster costs: a case there beside the same case alone, and what the scheduler holds."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import biosam2
import numpy as np
import psutil
from biosam2.cli.cohort import Row, read_table, segment_row
from biosam2.cli.segment import segment
from biosam2.parallel import in_parallel

_ROOT = Path(__file__).resolve().parent.parent
# Results between two looks at the scheduler.
_LOOK = 200


@dataclass(frozen=True)
class Ran:
    """Cases on a cluster.

    Attributes:
        workers: how many processes, of one thread each.
        cases: how many were done.
        wall: seconds from the first case to the last.
        case: seconds that a case took where it ran, the mean.
        held: tasks that the scheduler held, at most.
        scheduler_growth, client_growth: bytes that these processes had more at the end than after the first results.
        killed: workers that were killed with -9 meanwhile.
    """

    workers: int
    cases: int
    wall: float
    case: float
    held: int
    scheduler_growth: int
    client_growth: int
    killed: int

    @property
    def overhead(self) -> float:
        """Seconds of a worker that a case cost beyond itself."""
        return self.wall * self.workers / self.cases - self.case

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {**asdict(self), "overhead": self.overhead}


@contextlib.contextmanager
def cluster_of(workers: int, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A scheduler and workers as processes of this computer; gives its address, and the nanny of the workers."""
    described = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    base = [sys.executable, "-m"]
    local = ["--scheduler-file", str(described), "--no-dashboard"]
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *local]
    worker = ["distributed.cli.dask_worker", "--nworkers", str(workers), "--nthreads", "1", *local]
    with (
        subprocess.Popen([*base, *scheduler], **quiet) as one,
        subprocess.Popen([*base, *worker, "--local-directory", str(folder)], **quiet) as other,
    ):
        try:
            from distributed import Client

            with Client(_address(described, one), set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=300)
                yield client.scheduler.addr, psutil.Process(other.pid)
        finally:
            other.terminate()
            other.wait()
            one.terminate()


def run(
    function: Callable[[Any], float], items: Sequence[Any], workers: int, folder: Path, warm: Iterable[Any], kill: int
) -> Ran:
    """Do items on a cluster of its own.

    Args:
        function: does an item, and returns how many seconds it took.
        items: what is done.
        workers: how many processes.
        folder: for temporary files.
        warm: items that are done first and not counted, so that all is loaded.
        kill: how many workers are killed meanwhile; they are started again.
    """
    from distributed import Client

    with cluster_of(workers, folder) as (address, nanny), Client(address, set_as_default=False) as looking:
        list(in_parallel(function, warm, cluster=address))
        took: list[float] = []
        looks: list[tuple[int, int, int]] = []
        killed = 0
        begun = time.perf_counter()
        for seconds in in_parallel(function, items, cluster=address):
            took.append(seconds)
            if len(took) % _LOOK == 0 or len(took) in (1, len(items)):
                tasks, memory = looking.run_on_scheduler(_held)
                looks.append((tasks, memory, psutil.Process().memory_info().rss))
            if killed < kill and len(took) >= (killed + 1) * len(items) // (kill + 1):
                _workers(nanny)[killed % workers].kill()
                killed += 1
        wall = time.perf_counter() - begun
    assert len(took) == len(items)
    first, last = looks[min(1, len(looks) - 1)], looks[-1]
    held = max(tasks for tasks, *_ in looks)
    return Ran(workers, len(items), wall, statistics.fmean(took), held, last[1] - first[1], last[2] - first[2], killed)


def cohort(count: int, folder: Path) -> list[Row]:
    """Small cases as ``segment --cases`` reads them: 16 slices of 96 × 96, a ball in noise, a box, `nano`."""
    rng = np.random.default_rng(1)
    k, j, i = np.ogrid[:16, :96, :96]
    ball = ((k - 8) / 5) ** 2 + ((j - 50) / 20) ** 2 + ((i - 45) / 18) ** 2 < 1
    array = (rng.normal(100, 10, ball.shape) + 100 * ball).astype(np.uint16)
    biosam2.write_labelmap(folder / "image.nrrd", biosam2.Volume(array), array)
    table = folder / "cohort.csv"
    with open(table, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "output", "prompts"))
        writer.writerows(("image.nrrd", f"out-{n}.nrrd", "--box 27,30,8:63,70,8") for n in range(count))
    shared = {**segment.make_context("segment", ["x", "-o", "y", "--point", "0,0,0"]).params, "device": "cpu"}
    return read_table(segment, table, shared)


def timed_row(row: Row) -> float:
    """Segment a case; how many seconds it took."""
    begun = time.perf_counter()
    done = segment_row(row)
    if done.failure:
        raise RuntimeError(done.failure)
    return time.perf_counter() - begun


def nothing(item: object) -> float:
    """Do nothing, in no time."""
    return 0.0


def table(alone: float, ran: Sequence[Ran]) -> str:
    """The figures as a table; `alone` is a case in one process, in seconds."""
    lines = [
        "| workers | cases | case there, s | overhead, ms | of a case | tasks held | scheduler grew, MB | killed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in ran:
        share = f"{one.overhead / one.case:.1%}" if one.case else ""
        lines.append(
            f"| {one.workers} | {one.cases} | {one.case:.3f} | {1000 * one.overhead:.1f} | {share} | {one.held} "
            f"| {one.scheduler_growth / 1e6:.1f} | {one.killed} |"
        )
    return "\n".join([f"alone, in one process: {alone:.3f} s", "", *lines] if alone else lines)


def _held(dask_scheduler: Any) -> tuple[int, int]:
    return len(dask_scheduler.tasks), psutil.Process().memory_info().rss


def _workers(nanny: psutil.Process) -> list[psutil.Process]:
    """The processes that work: the nanny's children that run Python's spawned main."""
    return [child for child in nanny.children() if "spawn_main" in " ".join(child.cmdline())]


def _address(described: Path, scheduler: subprocess.Popen[bytes]) -> str:
    """Where the scheduler is, as soon as it says so."""
    until = time.monotonic() + 120
    while scheduler.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return str(json.loads(described.read_text())["address"])
        time.sleep(0.1)
    raise RuntimeError("the scheduler did not start")
