"""Work on a Dask cluster: items are given as there is room, and one that ends its worker ends nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from biosam2.errors import DeviceError
from biosam2.parallel import in_parallel
from distributed import Client, LocalCluster


@contextmanager
def cluster_of(count: int, folder: Path) -> Iterator[LocalCluster]:
    """A scheduler in this process, and workers with a nanny, which starts one again that ended."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    with LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as cluster:
        start = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nworkers", count]
        options = ["--nthreads", 1, "--no-dashboard", "--local-directory", folder]
        workers = subprocess.Popen(list(map(str, [*start, *options])), env=environment, stderr=subprocess.DEVNULL)
        try:
            with Client(cluster.scheduler_address, set_as_default=False) as client:
                client.wait_for_workers(count, timeout=300)
            yield cluster
        finally:
            workers.terminate()
            workers.wait()


def double_or_die(item: int) -> int:
    if item < 0:
        os._exit(9)
    return 2 * item


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[LocalCluster]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        cluster_of(2, tmp_path_factory.mktemp("dask")) as cluster,
    ):
        yield cluster


def test_a_cluster_is_given_a_few_items_at_a_time(cluster) -> None:
    """And each once, equal ones too; what is finished is not held."""
    taken, most = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(300):
            taken += 1
            yield number % 100

    told = []
    for result in in_parallel(double_or_die, items(), cluster=cluster.scheduler_address):
        told.append(result)
        most = max(most, len(cluster.scheduler.tasks))
        assert taken <= len(told) + 4
    assert sorted(told) == sorted(2 * (number % 100) for number in range(300))
    assert most <= 16  # those under way, and some of which it has not yet been told that they are not wanted any more


def test_an_item_that_ends_its_workers_is_named_and_the_others_are_done(cluster) -> None:
    """Also those that were on the same worker."""

    def lost(item: int, why: str) -> str:
        return f"{item}: {why}"

    told = list(in_parallel(double_or_die, [1, 2, -3, 4, 5], cluster=cluster.scheduler_address, lost=lost))
    (named,) = (result for result in told if isinstance(result, str))
    assert named.startswith("-3: its worker ended each of the 2 times")
    assert sorted(result for result in told if isinstance(result, int)) == [2, 4, 8, 10]


def test_an_error_ends_all(cluster) -> None:
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=300)
    with pytest.raises(TypeError):
        list(in_parallel(double_or_die, ["a"], cluster=cluster.scheduler_address))


@pytest.mark.soak
def test_a_lost_scheduler_is_named(tmp_path) -> None:
    with cluster_of(1, tmp_path) as cluster:
        results = in_parallel(double_or_die, range(10**6), cluster=cluster.scheduler_address)
        assert next(results) == 0
        cluster.close()
        with pytest.raises(DeviceError, match="is gone"):
            list(results)
