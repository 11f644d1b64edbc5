"""What the writers of segmentations are given."""

from __future__ import annotations

from collections.abc import Sequence
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


def label_type(largest: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest type that holds labels up to `largest`."""
    return np.uint8 if largest <= 255 else np.uint16
