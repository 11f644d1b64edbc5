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
from biosam2.cli.cohort import CohortRow, read_table, segment_row
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
        case_cpu: CPU seconds of the same.
        cpu: CPU seconds of scheduler, workers and client together, from the first case to the last. A busy computer
            changes them less than the time that passes; those of killed workers are not in them.
        held: tasks that the scheduler held, at most.
        scheduler_growth, client_growth: bytes that these processes had more at the end than after the first results.
        killed: workers that were killed with -9 meanwhile.
    """

    workers: int
    cases: int
    wall: float
    case: float
    case_cpu: float
    cpu: float
    held: int
    scheduler_growth: int
    client_growth: int
    killed: int

    @property
    def overhead(self) -> float:
        """Seconds of a worker that a case cost beyond itself."""
        return self.wall * self.workers / self.cases - self.case

    @property
    def overhead_cpu(self) -> float:
        """CPU seconds that a case cost beyond itself, in all processes."""
        return self.cpu / self.cases - self.case_cpu

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {**asdict(self), "overhead": self.overhead, "overhead_cpu": self.overhead_cpu}


@contextlib.contextmanager
def cluster_of(workers: int, folder: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """A scheduler and workers as processes of this computer; gives its address, and it and the workers' nanny."""
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
                yield client.scheduler.addr, [psutil.Process(one.pid), psutil.Process(other.pid)]
        finally:
            other.terminate()
            other.wait()
            one.terminate()


def run(
    function: Callable[[Any], tuple[float, float]],
    items: Sequence[Any],
    workers: int,
    folder: Path,
    warm: Iterable[Any],
    kill: int,
) -> Ran:
    """Do items on a cluster of its own.

    Args:
        function: does an item, and returns how many seconds it took, and how many of the CPU.
        items: what is done.
        workers: how many processes.
        folder: for temporary files.
        warm: items that are done first and not counted, so that all is loaded.
        kill: how many workers are killed meanwhile; they are started again.
    """
    from distributed import Client

    with cluster_of(workers, folder) as (address, processes), Client(address, set_as_default=False) as looking:
        list(in_parallel(function, warm, cluster=address))
        took: list[tuple[float, float]] = []
        looks: list[tuple[int, int, int]] = []
        killed = 0
        begun, cpu = time.perf_counter(), _cpu(processes)
        for seconds in in_parallel(function, items, cluster=address):
            took.append(seconds)
            if len(took) % _LOOK == 0 or len(took) in (1, len(items)):
                tasks, memory = looking.run_on_scheduler(_held)
                looks.append((tasks, memory, psutil.Process().memory_info().rss))
            if killed < kill and len(took) >= (killed + 1) * len(items) // (kill + 1):
                _workers(processes[1])[killed % workers].kill()
                killed += 1
        wall, cpu = time.perf_counter() - begun, _cpu(processes) - cpu
    assert len(took) == len(items)
    first, last = looks[min(1, len(looks) - 1)], looks[-1]
    held = max(tasks for tasks, *_ in looks)
    case, case_cpu = (statistics.fmean(each) for each in zip(*took, strict=True))
    grown = (last[1] - first[1], last[2] - first[2])
    return Ran(workers, len(items), wall, case, case_cpu, cpu, held, *grown, killed)


def cohort(count: int, folder: Path) -> list[CohortRow]:
    """Small cases as ``segment --cases`` reads them: five slices of 96 × 96, a ball in noise, a box, `nano`."""
    rng = np.random.default_rng(1)
    k, j, i = np.ogrid[:16, :96, :96]
    ball = ((k - 8) / 5) ** 2 + ((j - 50) / 20) ** 2 + ((i - 45) / 18) ** 2 < 1
    array = (rng.normal(100, 10, ball.shape) + 100 * ball).astype(np.uint16)
    biosam2.write_labelmap(folder / "image.nrrd", biosam2.Volume(array), array)
    table = folder / "cohort.csv"
    with open(table, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "output", "prompts"))
        writer.writerows(
            ("image.nrrd", f"out-{n}.nrrd", "--box 27,30,8:63,70,8 --first 6 --last 10") for n in range(count)
        )
    shared = {**segment.make_context("segment", ["x", "-o", "y", "--point", "0,0,0"]).params, "device": "cpu"}
    return read_table(segment, table, shared)


def timed_row(row: CohortRow) -> tuple[float, float]:
    """Segment a case; how many seconds it took, and how many of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = segment_row(row)
    if done.failure:
        raise RuntimeError(done.failure)
    return time.perf_counter() - wall, time.process_time() - cpu


def nothing(item: object) -> tuple[float, float]:
    """Do nothing, in no time."""
    return 0.0, 0.0


def table(alone: float, ran: Sequence[Ran]) -> str:
    """The figures as a table; `alone` is a case in one process, in CPU seconds."""
    lines = [
        "| workers | cases | wall, s | CPU of a case, s | CPU beyond it, ms | wall beyond it, ms "
        "| tasks held | scheduler grew, MB | client grew, MB | killed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.workers} | {one.cases} | {one.wall:.1f} | {one.case_cpu:.3f} | {1000 * one.overhead_cpu:.1f} "
        f"| {1000 * one.overhead:.1f} | {one.held} | {one.scheduler_growth / 1e6:.1f} "
        f"| {one.client_growth / 1e6:.1f} | {one.killed} |"
        for one in ran
    ]
    return "\n".join([f"alone, in one process: {alone:.3f} s of the CPU", "", *lines] if alone else lines)


def _cpu(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds of processes, those that they started, and this one."""
    found = [psutil.Process(), *processes, *(child for process in processes for child in process.children())]
    return sum(times.user + times.system for times in (process.cpu_times() for process in found))


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
