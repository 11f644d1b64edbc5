"""What is timed: the phases of a user's work, each done by one side on a volume that it has just opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import biosam2
import numpy as np

from .sides import Side

# A phase prepares, yields, does what is timed, and yields once more.
Course = Iterator[None]


@dataclass(frozen=True)
class Phase:
    """A phase of work.

    Attributes:
        title: what the table calls it.
        course: what a side does; what lies between the two yields is timed.
        present: whether segments are to be found on every slice, or on none but the prompted one.
    """

    title: str
    course: Callable[[Side, biosam2.Volume], Course]
    present: bool = True


def noise(slices: int, rows: int, columns: int) -> biosam2.Volume:
    """A volume to time on; int16, always the same."""
    rng = np.random.default_rng(0)
    array = np.empty((slices, rows, columns), dtype=np.int16)
    for each in array:  # slice by slice: the floats of a whole volume would be the peak of memory
        each[:] = rng.normal(0, 100, (rows, columns))
    return biosam2.Volume(array, spacing=(1.0, 1.0, 1.0))


def _middle(volume: biosam2.Volume) -> tuple[int, float, float]:
    slices, rows, columns = volume.shape
    return slices // 2, rows * 0.45, columns * 0.55


def _open(side: Side, volume: biosam2.Volume) -> Course:
    yield
    side.open()
    side.click(1, *_middle(volume))
    yield


def _first(side: Side, volume: biosam2.Volume) -> Course:
    side.open()
    side.click(1, *_middle(volume))
    yield
    side.propagate()
    yield


def _rested(side: Side, volume: biosam2.Volume) -> Course:
    side.open()
    side.click(1, *_middle(volume))
    side.rest()
    yield
    side.propagate()
    yield


def _corrected(side: Side, volume: biosam2.Volume) -> Course:
    side.open()
    s, row, column = _middle(volume)
    side.click(1, s, row, column)
    side.propagate()
    yield
    side.click(1, (s + volume.shape[0]) // 2, row * 0.8, column * 0.8)
    side.propagate()
    yield


def _several(count: int) -> Callable[[Side, biosam2.Volume], Course]:
    def course(side: Side, volume: biosam2.Volume) -> Course:
        side.open()
        s, row, column = _middle(volume)
        for n in range(count):
            side.click(n + 1, s, row * (0.4 + 0.1 * n), column * (0.4 + 0.1 * n))
        yield
        side.propagate()
        yield

    return course


def _click(side: Side, volume: biosam2.Volume) -> Course:
    side.open()
    s, row, column = _middle(volume)
    side.click(1, s, row, column)
    side.click(2, s - 1, row, column)
    yield
    side.click(3, s, row * 0.8, column * 0.8)
    yield


def _same_click(side: Side, volume: biosam2.Volume) -> Course:
    side.open()
    s, row, column = _middle(volume)
    side.click(1, s, row, column)
    yield
    side.click(2, s, row * 0.8, column * 0.8)
    yield


def _lesion(side: Side, volume: biosam2.Volume) -> Course:
    side.open()
    slices, rows, columns = volume.shape
    mask = np.zeros((rows, columns), dtype=bool)
    mask[rows * 3 // 8 : rows * 5 // 8, columns * 3 // 8 : columns * 5 // 8] = True
    side.paint(1, slices // 2, mask)
    yield
    side.propagate()
    yield


PHASES = {
    "open": Phase("open a volume, to the first mask", _open),
    "first": Phase("first propagation, both ways", _first),
    "rested": Phase("first propagation, after idle time", _rested),
    "correct": Phase("propagation after one correction", _corrected),
    "two": Phase("two segments on one slice", _several(2)),
    "four": Phase("four segments on one slice", _several(4)),
    "eight": Phase("eight segments on one slice", _several(8)),
    "click": Phase("click on a slice seen before", _click),
    "again": Phase("click on the slice seen last", _same_click),
    "lesion": Phase("a lesion on one slice of a long volume", _lesion, present=False),
}
