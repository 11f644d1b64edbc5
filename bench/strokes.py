"""What strokes are best reduced to: scribbles and rulers on one slice, as points and boxes of several kinds."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from biosam2 import Box, Line, Point, Session
from biosam2.datasets import open_case
from biosam2.evaluation.strokes import simulate_ruler, simulate_scribble
from biosam2.evaluation.user import largest_piece, middle, middle_slice, to_ijk
from biosam2.frames import Frames
from biosam2.masks import dice
from biosam2.models.model import Model
from biosam2.prompts import Prompt
from biosam2.prompts.stroke import Way, along
from biosam2.training.collection import collection_cases, source_of
from biosam2.volume import Volume
from numpy.typing import NDArray

# Targets that nothing was trained on; so many of each source, each largely one piece and large enough for a stroke.
_SPLITS = ("val", "unseen")
_OF_EACH, _ONE_PIECE, _LEAST = 4, 0.8, 60
_COUNTS = (1, 2, 3, 5, 8)
# Where on a ruler points are taken, besides its box or instead.
_ON_RULER = {"centre": (0.5,), "quarters": (0.25, 0.75), "ends": (0.0, 1.0), "five": (0.1, 0.3, 0.5, 0.7, 0.9)}


@dataclass(frozen=True)
class Agreement:
    """Dice on the prompted slice of one target, by what was told."""

    case: str
    target: str
    dice: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def agreements(model: Model, folder: Path, crop: str | None, most: int | None = None) -> Iterator[Agreement]:
    """Each target by each reduction, on the slice alone.

    Args:
        model: the network.
        folder: a collection, see `biosam2.training.collection`.
        crop: ``auto`` or None, see `Session`.
        most: how many targets at most.
    """
    for number, (case, target, volume, mask) in enumerate(targets(folder)):
        if number == most:
            return
        session = Session(model, volume, crop=crop)
        slices = session.frames.unstack(mask)
        k = middle_slice(slices)
        found = {}
        for name, prompts in _ways(session.frames, k, slices[k], zlib.crc32(case.encode())).items():
            for prompt in prompts:
                session.add_prompt(name, prompt)
            found[name] = dice(session.predict(name, k), slices[k])
        yield Agreement(case, target, found)


def targets(folder: Path) -> Iterator[tuple[str, str, Volume, NDArray[np.bool_]]]:
    """(case, target, volume, mask): of each case the largest target that suits, in an order that looks random."""
    seen: Counter[str] = Counter()
    cases = [case for case in collection_cases(folder) if case.split in _SPLITS and case.kind != "video"]
    for case in sorted(cases, key=lambda case: zlib.crc32(case.name.encode())):
        if seen[source_of(case)] == _OF_EACH:
            continue
        sample = open_case(case)
        for target, mask in sorted(sample.masks.items(), key=lambda item: -int(item[1].sum())):
            if not mask.any():
                continue
            here = mask[middle_slice(mask)]
            if here.sum() >= _LEAST and largest_piece(here).sum() >= _ONE_PIECE * here.sum():
                seen[source_of(case)] += 1
                yield case.name, target, sample.volume, mask
                break


def means(found: Sequence[Agreement]) -> dict[str, float]:
    """Mean Dice by reduction."""
    return {name: float(np.mean([each.dice[name] for each in found])) for name in found[0].dice}


def _ways(frames: Frames, k: int, here: NDArray[np.bool_], seed: int) -> dict[str, list[Prompt]]:
    """What is told, by name."""
    piece = largest_piece(here)
    scribble = _way(simulate_scribble(np.random.default_rng(seed), piece))
    ruler = Line(k, simulate_ruler(np.random.default_rng(seed), piece, frames.pixel_size))

    def points(way: Way, fractions: Sequence[float]) -> list[Prompt]:
        return [Point(to_ijk(frames, k, *place)) for place in along(way, fractions, frames.pixel_size)]

    def box(row0: float, column0: float, row1: float, column1: float) -> Prompt:
        return Box(to_ijk(frames, k, row0, column0), to_ijk(frames, k, row1, column1))

    rows, columns = np.nonzero(here)
    ways = {
        "click": points((middle(here),) * 2, (0.0,)),
        "box": [box(rows.min(), columns.min(), rows.max(), columns.max())],
        "ruler": [box(*ruler.box(frames))],
    }
    for count in _COUNTS:
        ways[f"scribble, {count} inside"] = points(scribble, [(n + 0.5) / count for n in range(count)])
        if count > 1:
            ways[f"scribble, {count} from end to end"] = points(scribble, np.linspace(0, 1, count).tolist())
    for name, fractions in _ON_RULER.items():
        ways[f"ruler and {name}"] = [*ways["ruler"], *points(ruler.ends, fractions)]
        ways[f"{name} of the ruler alone"] = points(ruler.ends, fractions)
    return ways


def _way(vertices: NDArray[np.float64]) -> Way:
    return tuple((row, column) for row, column in vertices.tolist())
