"""Labelled volumes to measure on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import Sample, load_dataset, open_case
from ..errors import InputError
from ..synthetic.anatomy import Grid, random_anatomy, random_rotation
from ..synthetic.images import random_image
from ..synthetic.views import plausible
from ..volume import Volume
from .user import middle_slice


@dataclass(frozen=True, eq=False)
class TargetCase:
    """One target in one volume.

    Attributes:
        name: of the volume.
        target: what is to be segmented.
        volume: the image.
        mask: bool (K, J, I), where the target truly is.
    """

    name: str
    target: str
    volume: Volume
    mask: NDArray[np.bool_]

    @property
    def title(self) -> str:
        """Volume and target in one line."""
        return f"{self.name}: {self.target}"


def shared_cases(folder: Path, right: bool = False) -> Iterator[TargetCase]:
    """The five labelled volumes of the project's shared data, target by target.

    Structures of the atlas that come in pairs are two targets, as a reader would mark them; the right ones are left
    out of the card to save time, and serve as a check.

    Args:
        folder: that holds a folder for each volume, with an image and a label file.
        right: give the atlas's right-hand structures instead of all others.

    Raises:
        InputError: the folder does not hold them.
    """
    manifest = Path(__file__).parent / "shared-cases.csv"
    for case in load_dataset(manifest, split="check" if right else "test", root=folder):
        if not case.image.parent.is_dir():
            raise InputError(f"{folder} holds no folder {case.image.parent.name}; give the folder of the shared cases")
        yield from targets_of(open_case(case))


def targets_of(sample: Sample) -> Iterator[TargetCase]:
    """Each target of an opened case."""
    for target, mask in sample.masks.items():
        yield TargetCase(sample.case.name, target, sample.volume, mask)


def synthetic_cases(seed: int, count: int) -> Iterator[TargetCase]:
    """Random anatomies with random scanners, as `nano` learns from, one target each; the same for the same seed.

    Volumes have 16 to 40 slices of 160 to 320 rows and columns, and show far more than the target.

    Args:
        seed: of the first case.
        count: how many.
    """
    for number in range(seed, seed + count):
        rng = np.random.default_rng([number, 911])
        while (made := _synthetic(rng, f"synthetic {number}")) is None:
            pass
        yield made


def _synthetic(rng: np.random.Generator, name: str) -> TargetCase | None:
    """A random case, None where its target is hardly in view or does not differ from what is around it."""
    anatomy = random_anatomy(rng)
    index = int(rng.choice([n for n, shape in enumerate(anatomy.shapes) if shape.target]))
    shape = anatomy.shapes[index]
    slices, rows, columns = (4 * int(n) for n in rng.integers((4, 40, 40), (11, 81, 81)))
    pixel = float(rng.uniform(0.8, 2.4)) / max(rows, columns)
    distance = max(pixel * float(np.exp(rng.uniform(0, np.log(8)))), 2.5 * float(shape.radii.min()) / slices)
    rotation = random_rotation(rng)
    step, row, column = rotation[0] * distance, rotation[1] * pixel, rotation[2] * pixel
    offset = rng.uniform(-0.3, 0.3, 3) * (slices, rows, columns)
    corner = shape.centre - np.stack([step, row, column]).T @ ((np.array([slices, rows, columns]) - 1) / 2 + offset)
    grid = Grid(_single(corner), _single(step), _single(row), _single(column), (slices, rows, columns))
    labels = anatomy.sample(grid)
    table = np.zeros(256, bool)
    table[np.array(anatomy.descendants(index)) + 1] = True
    mask = table[labels]
    if mask.any(axis=(1, 2)).sum() < 3:
        return None
    image = random_image(rng, anatomy, labels)
    if not plausible(mask[middle_slice(mask)], image[middle_slice(mask)]):
        return None
    volume = Volume(np.round(image * 4095).astype(np.int16), (1.0, 1.0, distance / pixel))
    return TargetCase(name, shape.kind, volume, mask)


def _single(vector: NDArray[Any]) -> NDArray[np.float32]:
    return vector.astype(np.float32)
