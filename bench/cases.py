"""Labelled targets to measure on: the shared volumes, and a collection's hippocampi."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from biosam2.datasets import open_case
from biosam2.errors import InputError
from biosam2.evaluation.cases import TargetCase, shared_cases, targets_of
from biosam2.training.collection import collection_cases, source_of

_SOURCE = "mr_hippocampus_msd"


def cases_of(
    shared: Path | None, collection: Path | None, hippocampi: int, least: int = 1, only: str = "*"
) -> Iterator[TargetCase]:
    """Targets on at least so many slices, the shared ones first.

    Args:
        shared: the folder of the shared volumes, or None.
        collection: a collection, see `biosam2.training.collection`, or None.
        hippocampi: so many of its cases, both parts of each, in an order that looks random.
        least: slices.
        only: pattern of their titles, as in ``*: lesion``.

    Raises:
        InputError: there is no such target.
    """
    first = shared_cases(shared) if shared is not None else iter(())
    more = _hippocampi(collection, hippocampi) if collection is not None else iter(())
    none = True
    for case in itertools.chain(first, more):
        if fnmatch(case.title, only) and case.mask.any(axis=(1, 2)).sum() >= least:
            none = False
            yield case
    if none:
        raise InputError(f"no target on {least} or more slices fits {only!r}; its title is 'case: target'")


def _hippocampi(folder: Path, count: int) -> Iterator[TargetCase]:
    cases = [case for case in collection_cases(folder) if source_of(case) == _SOURCE]
    for case in sorted(cases, key=lambda case: zlib.crc32(case.name.encode()))[:count]:
        yield from targets_of(open_case(case))
