"""Many independent pieces of work at once: by processes of this computer, or on a cluster; both by joblib."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from .errors import DependencyError, DeviceError, InputError

# How long a scheduler may take to answer, in seconds.
_CONNECT_TIMEOUT = 5

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int = 1, cluster: str | None = None
) -> Iterator[Result]:
    """What a function makes of each item, in the order in which they are finished.

    Args:
        function: importable by its name, with arguments and results that can be pickled. An exception of it ends all;
            let it catch those of a single item.
        items: its arguments. On a cluster, paths in them must mean the same there.
        jobs: how many processes; 1 for this one.
        cluster: address of a Dask scheduler, ``tcp://HOST:PORT``, instead of own processes. What a lost worker had
            begun is done again by another.

    Raises:
        DependencyError: joblib, or for a cluster Dask, is not installed.
        InputError: there is no scheduler at the address, or it has no workers.
        DeviceError: one of the own processes was ended from outside, most often for want of memory.
    """
    if jobs == 1 and cluster is None:
        yield from map(function, items)
        return
    try:
        import joblib
    except ImportError as error:
        raise DependencyError("running several cases at once needs joblib: pip install 'biosam2[evaluate]'") from error
    if cluster is not None:
        yield from _on_cluster(function, items, cluster)
    else:
        try:
            yield from joblib.Parallel(jobs, batch_size=1, return_as="generator_unordered")(
                joblib.delayed(function)(item) for item in items
            )
        except joblib.externals.loky.process_executor.TerminatedWorkerError as error:
            raise DeviceError(
                "a process was ended from outside, most often for want of memory; run it again with fewer --jobs"
            ) from error


def _on_cluster(function: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[Result]:
    import joblib

    try:
        from distributed import Client
    except ImportError as error:
        raise DependencyError("a cluster needs Dask: pip install 'biosam2[cluster]'") from error
    try:
        client: Any = Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"there is no Dask scheduler at {address} ({error}); start one: dask scheduler") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise InputError(f"the Dask scheduler at {address} has no workers; start some: dask worker {address}")
        with joblib.parallel_config(backend="dask", client=client):
            yield from joblib.Parallel(batch_size=1, return_as="generator_unordered")(
                joblib.delayed(function)(item) for item in items
            )
