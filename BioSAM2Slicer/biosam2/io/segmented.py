"""What the writers of segmentations are given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..volume import Volume


class Segmented(Protocol):
    """What is written: a session, or anything else that has these."""

    @property
    def volume(self) -> Volume:
        """The image that was segmented."""

    @property
    def segments(self) -> Sequence[str]:
        """Names, in order of creation."""

    def mask(self, name: str) -> NDArray[np.bool_]:
        """The segment's voxels, bool (K, J, I)."""

    def labelmap(self) -> NDArray[Any]:
        """uint8 or uint16 (K, J, I): 1 + the position of the segment in `segments`, the later one on overlap."""


def labelmap_of(
    shape: Sequence[int], names: Collection[str], mask_of: Callable[[str], NDArray[np.bool_]]
) -> NDArray[Any]:
    """Segments as labels: 1 and up in their order, the later one where they overlap.

    Args:
        shape: of the volume, (K, J, I).
        names: of the segments; one's mask is asked for at a time.
        mask_of: gives a segment's voxels, bool (K, J, I).

    Returns:
        uint8 or uint16 (K, J, I), 0 where there is no segment.
    """
    labels = np.zeros(shape, label_type(len(names)))
    for label, name in enumerate(names, start=1):
        labels[mask_of(name)] = label
    return labels


def label_type(largest: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest type that holds labels up to `largest`."""
    return np.uint8 if largest <= 255 else np.uint16
