"""What the reading and writing tests share: random volumes, and a session made of given masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk
from biosam2.volume import Volume
from hypothesis import strategies as st
from numpy.typing import NDArray

LABELMAPS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")


class Segments:
    """Segments with given masks: the least that `write_segmentation` needs."""

    def __init__(self, volume: Volume, masks: Mapping[str, NDArray[np.bool_]]) -> None:
        self.volume = volume
        self.masks = dict(masks)

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.masks)

    def mask(self, name: str) -> NDArray[np.bool_]:
        return self.masks[name]

    def labelmap(self) -> NDArray[np.uint8]:
        labels = np.zeros(self.volume.shape, np.uint8)
        for label, mask in enumerate(self.masks.values(), start=1):
            labels[mask] = label
        return labels


def two_boxes(volume: Volume) -> Segments:
    """Two segments, one in the corner of the first voxel and one beside it."""
    k, j, i = volume.shape
    first, second = np.zeros((2, k, j, i), bool)
    first[: max(k // 2, 1), : max(j // 2, 1), : max(i // 3, 1)] = True
    second[: max(k // 3, 1), max(j // 2, 1) :, -max(i // 3, 1) :] = True
    return Segments(volume, {"first": first, "second": second})


@st.composite
def grids(draw: st.DrawFn, max_side: int = 6) -> Volume:
    """Volumes of zeros: any shape down to one voxel, oblique, flipped, anisotropic, with permuted axes."""
    side = st.integers(1, max_side)
    number = st.floats(-1, 1, allow_nan=False, width=32)
    quaternion = np.array([draw(number) for _ in range(4)])
    if np.linalg.norm(quaternion) < 0.1:
        quaternion = np.array([1.0, 0, 0, 0])
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    flips = np.diag([draw(st.sampled_from([1.0, -1.0])) for _ in range(3)])
    axes = np.eye(3)[list(draw(st.permutations(range(3))))]
    return Volume(
        np.zeros((draw(side), draw(side), draw(side)), np.uint8),
        spacing=tuple(draw(st.floats(0.05, 10)) for _ in range(3)),
        origin=tuple(draw(st.floats(-400, 400)) for _ in range(3)),
        direction=rotation @ axes @ flips,
    )


def image_on(grid: Volume, array: NDArray, *, colour: bool = False) -> sitk.Image:
    """A SimpleITK image of an array on a grid, made without the code under test."""
    image = sitk.GetImageFromArray(array, isVector=colour)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def corners(volume: Volume) -> NDArray[np.int_]:
    """The (i, j, k) of the eight corner voxels."""
    k, j, i = volume.shape
    return np.array([(a, b, c) for a in (0, i - 1) for b in (0, j - 1) for c in (0, k - 1)])
