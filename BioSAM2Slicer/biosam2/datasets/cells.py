"""Labels whose every value is an object of its own, as cells under the microscope: each a target, or a sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from . import label_pictures
from .case import Target
from .layout import DatasetOptions


def targets(labels: tuple[Path, ...], groups: Mapping[str, str], options: DatasetOptions) -> tuple[Target, ...]:
    """A target for each instance, or for `options.instances` of them, evenly spread over the values.

    Instances are numbered over the image, so that an even spread is one over the image as well.
    """
    (path,) = labels
    values = [int(value) for value in np.unique(label_pictures.read(path)) if value]
    if options.instances is not None and len(values) > options.instances:
        chosen = np.linspace(0, len(values) - 1, options.instances).round().astype(int)
        values = [values[n] for n in dict.fromkeys(chosen.tolist())]
    # An image without a cell is a case with an empty target, as other images without their target are.
    return tuple(Target(f"cell {value}", labels, (value,)) for value in values) or (Target("cell", labels),)
