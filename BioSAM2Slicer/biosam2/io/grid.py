"""Whether two volumes lie on the same voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Volume

TOLERANCE = 0.05
"""How far, in voxels of the first volume, a corner may be off. NIfTI keeps float32 matrices and DICOM decimal strings:
their errors stay below a thousandth of a voxel per hundred voxels; a real shift is seldom below a tenth."""


def same_grid(a: Volume, b: Volume, tolerance: float = TOLERANCE) -> bool:
    """Whether `b` has the shape of `a` and each of its corner voxels lies on that of `a`.

    Args:
        a: one volume.
        b: the other.
        tolerance: largest distance between corresponding corners along any index axis, in voxels.
    """
    if a.shape != b.shape:
        return False
    last = np.array(a.shape[::-1]) - 1.0
    corners = np.array(np.meshgrid(*((0.0, n) for n in last), indexing="ij")).reshape(3, -1).T
    return bool(np.abs(a.ijk_from_lps(b.lps_from_ijk(corners)) - corners).max() <= tolerance)


def placed(a: Volume, b: Volume, array: NDArray[Any], tolerance: float = TOLERANCE) -> NDArray[Any] | None:
    """An array that lies on the voxels of `b` put onto those of `a`, where both are parts of one grid.

    3D Slicer cuts a segmentation to what is drawn when it is told to. What lies outside `a` is dropped, what `b` does
    not cover is 0.

    Args:
        a: where the array is wanted.
        b: where it is.
        array: (K, J, I) of `b`.
        tolerance: as in `same_grid`.

    Returns:
        (K, J, I) of `a`; None where the voxels of the two do not coincide.
    """
    last = np.array(b.shape[::-1]) - 1.0
    corners = np.array(np.meshgrid(*((0.0, n) for n in last), indexing="ij")).reshape(3, -1).T
    here = a.ijk_from_lps(b.lps_from_ijk(corners))
    offset = np.rint(here[0] - corners[0]).astype(int)
    if np.abs(here - corners - offset).max() > tolerance:
        return None
    result = np.zeros(a.shape, array.dtype)
    inside, part = [], []
    for start, n, m in zip(offset[::-1], a.shape, b.shape, strict=True):
        low, high = max(start, 0), min(start + m, n)
        if low >= high:
            return result
        inside.append(slice(low, high))
        part.append(slice(low - start, high - start))
    result[tuple(inside)] = array[tuple(part)]
    return result


def difference(a: Volume, b: Volume) -> str:
    """In a few words, how the grid of `b` differs from that of `a`, for messages."""
    if a.shape != b.shape:
        return f"it has {_size(b)} voxels, not {_size(a)}"
    if not np.allclose(a.spacing, b.spacing, rtol=1e-3):
        return f"its spacing is {_numbers(b.spacing)} mm, not {_numbers(a.spacing)}"
    if not np.allclose(a.direction, b.direction, atol=1e-3):
        return "its axes point elsewhere"
    return f"its first voxel lies at {_numbers(b.origin)} mm (LPS), not {_numbers(a.origin)}"


def _size(volume: Volume) -> str:
    return "×".join(str(n) for n in volume.shape[::-1])


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.4g}" for v in values)
