"""Many independent pieces of work at once: by processes of this computer (joblib), or on a cluster (Dask)."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import DependencyError, DeviceError, InputError

# How long a scheduler may take to answer, in seconds.
_CONNECT_TIMEOUT = 5
# Seconds after which a cluster's workers are counted again.
_LOOK = 2.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int = 1,
    cluster: str | None = None,
    lost: Callable[[Item, str], Result] | None = None,
) -> Iterator[Result]:
    """What a function makes of each item, in the order in which they are finished.

    Args:
        function: importable by its name, with arguments and results that can be pickled. An exception of it ends all;
            let it catch those of a single item.
        items: its arguments. On a cluster, paths in them must mean the same there.
        jobs: how many processes; 1 for this one.
        cluster: address of a Dask scheduler, ``tcp://HOST:PORT``, instead of own processes. What a lost worker had
            begun is done again by another.
        lost: what is told of an item, with the reason, whose worker on the cluster ended every time that it was tried;
            without it, that ends all.

    Raises:
        DependencyError: joblib, or for a cluster Dask, is not installed.
        InputError: there is no scheduler at the address, or it has no workers.
        DeviceError: one of the own processes was ended from outside, most often for want of memory; or the scheduler
            is gone.
    """
    if jobs == 1 and cluster is None:
        yield from map(function, items)
        return
    if cluster is not None:
        yield from _on_cluster(function, items, cluster, lost)
    else:
        try:
            import joblib
        except ImportError as error:
            text = "running several cases at once needs joblib: pip install 'biosam2[evaluate]'"
            raise DependencyError(text) from error
        try:
            yield from joblib.Parallel(jobs, batch_size=1, return_as="generator_unordered")(
                joblib.delayed(function)(item) for item in items
            )
        except joblib.externals.loky.process_executor.TerminatedWorkerError as error:
            raise DeviceError(
                "a process was ended from outside, most often for want of memory; run it again with fewer --jobs"
            ) from error


def _on_cluster(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    address: str,
    lost: Callable[[Item, str], Result] | None,
) -> Iterator[Result]:
    try:
        from distributed import Client
    except ImportError as error:
        raise DependencyError("a cluster needs Dask: pip install 'biosam2[cluster]'") from error
    try:
        client: Any = Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"there is no Dask scheduler at {address} ({error}); start one: dask scheduler") from error
    with client:
        if not client.nthreads():
            raise InputError(f"the Dask scheduler at {address} has no workers; start some: dask worker {address}")
        # Items whose workers ended, for their sake or for that of others on the same workers.
        suspects = []
        for done in _some_at_a_time(client, function, items, _Room(client).now):
            if done.tries:
                suspects.append(done.item)
            else:
                yield done.result
        for done in _some_at_a_time(client, function, suspects, lambda: 1):
            if not done.tries:
                yield done.result
                continue
            why = f"its worker ended each of the {done.tries} times that it was tried; is its memory enough?"
            if lost is None:
                raise DeviceError(why)
            yield lost(done.item, why)


@dataclass(frozen=True)
class _Done:
    """An item and what became of it; `tries` are those after which a cluster gives it up, and 0 where it did not."""

    item: Any
    result: Any
    tries: int = 0


def _some_at_a_time(
    client: Any, function: Callable[[Item], Result], items: Iterable[Item], most: Callable[[], int]
) -> Iterator[_Done]:
    """Give a cluster some items at a time.

    Raises:
        DeviceError: the scheduler is gone.
    """
    from distributed import Future, KilledWorker, as_completed

    waiting = iter(items)
    running: dict[Future[Result], Item] = {}
    finished = as_completed(loop=client.loop, with_results=True, raise_errors=False)
    while True:
        for item in itertools.islice(waiting, max(0, most() - len(running))):
            # Without a key of its own, an item would be hashed, and equal ones done once.
            future = client.submit(function, item, pure=False)
            running[future] = item
            finished.add(future)
        if not running:
            return
        future, result = next(finished)
        item = running.pop(future)
        if future.status == "finished":
            yield _Done(item, result)
            continue
        if future.status != "error":
            raise DeviceError(f"the Dask scheduler {client.scheduler.addr} is gone; start it and run this again")
        _, problem, _ = result
        if not isinstance(problem, KilledWorker):
            raise problem
        yield _Done(item, None, problem.allowed_failures + 1)


class _Room:
    """How many items a cluster is given at a time, so that neither it nor this process holds all of them.

    Workers come and go; they are counted now and then.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._looked = -math.inf
        self._room = 0

    def now(self) -> int:
        """Two for each thread of a worker: none waits for the next one."""
        if time.monotonic() > self._looked + _LOOK:
            self._room = max(1, 2 * sum(self._client.nthreads().values()))
            self._looked = time.monotonic()
        return self._room
