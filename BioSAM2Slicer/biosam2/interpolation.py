"""Masks between two slices: shape-based interpolation. Needs no torch.

The signed distance to the outline is interpolated, and what lies inside of it is the mask between (Raya and Udupa 1990,
Shape-based interpolation of multidimensional objects, IEEE Transactions on Medical Imaging 9(1)).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

# A pixel whose centre lies on the outline is outside, whichever way it was computed; in units of `pixel_size`.
_ROUNDING = 1e-5


def between(
    before: NDArray[np.bool_], after: NDArray[np.bool_], count: int, pixel_size: tuple[float, float] = (1.0, 1.0)
) -> Iterator[NDArray[np.bool_]]:
    """The masks of the slices between two slices.

    Args:
        before: (rows, columns).
        after: (rows, columns).
        count: how many slices lie between them, at equal distances.
        pixel_size: along rows and columns.

    Yields:
        bool (rows, columns), from the one next to `before` on; empty where `before` or `after` is.
    """
    if not (before.any() and after.any()):
        for _ in range(count):
            yield np.zeros_like(before)
        return
    together = before | after
    rows, columns = np.flatnonzero(together.any(axis=1)), np.flatnonzero(together.any(axis=0))
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    first, last = (_signed_distance(mask[inside], pixel_size) for mask in (before, after))
    for n in range(1, count + 1):
        mask = np.zeros_like(before)
        mask[inside] = first + (last - first) * (n / (count + 1)) < -_ROUNDING
        yield mask


def _signed_distance(mask: NDArray[np.bool_], pixel_size: tuple[float, float]) -> NDArray[np.float32]:
    """Distance of each pixel to the mask's outline, which runs between pixels; negative within.

    Args:
        mask: (rows, columns), not empty.
        pixel_size: along rows and columns.
    """
    # A border, so that a mask which fills the array has an outline.
    image = sitk.GetImageFromArray(np.pad(mask, 1).view(np.uint8))
    image.SetSpacing(pixel_size[::-1])
    options = {"squaredDistance": False, "useImageSpacing": True}
    within = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, **options))
    # The filter counts from the pixels on the outline's inner side: with those of both sides the outline is halfway.
    without = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(1 - image, **options))
    return ((within - without) / 2)[1:-1, 1:-1]
