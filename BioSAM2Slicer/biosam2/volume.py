"""A volume: voxels and where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry; immutable.

    Attributes:
        array: voxels, shape (K, J, I), or (K, J, I, 3) for colour (RGB); i runs fastest, as SimpleITK gives them.
            Bool voxels become uint8.
        spacing: distance between voxel centres along i, j, k, in mm.
        origin: position of the centre of voxel (0, 0, 0), LPS, in mm.
        direction: 3×3, orthonormal; column a is the LPS direction of index axis a (i, j, k).
        metadata: facts about the source that writers need (for example the DICOM files' paths); never sent anywhere.

    Raises:
        InputError: the array is not 3D (or 3D with three colours), is empty, or the geometry is not usable.
    """

    array: NDArray[Any]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.ndim == 4 and array.shape[-1] != 3:
            raise InputError(f"a colour volume has shape (K, J, I, 3), not {array.shape}")
        if array.ndim not in (3, 4):
            raise InputError(f"a volume has shape (K, J, I) or (K, J, I, 3), not {array.shape}")
        if array.size == 0:
            raise InputError(f"the volume is empty: shape {array.shape}")
        if array.dtype.kind not in "buif":
            raise InputError(f"voxels of type {array.dtype} cannot be segmented; use integers or real numbers")
        if array.dtype.kind == "b":
            array = array.astype(np.uint8)
        if not array.dtype.isnative:  # torch takes the machine's own byte order only
            array = array.astype(array.dtype.newbyteorder("="))
        spacing = tuple(float(s) for s in self.spacing)
        origin = tuple(float(o) for o in self.origin)
        direction = np.array(self.direction, dtype=np.float64)
        if len(spacing) != 3 or not all(np.isfinite(spacing)) or min(spacing) <= 0:
            raise InputError(f"spacing must be three positive numbers in mm, not {spacing}")
        if len(origin) != 3 or not all(np.isfinite(origin)):
            raise InputError(f"origin must be three finite numbers in mm, not {origin}")
        if direction.shape != (3, 3) or not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
            raise InputError("direction must be an orthonormal 3×3 matrix (a sheared volume must be resampled first)")
        direction.setflags(write=False)
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "direction", direction)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along k, j, i."""
        k, j, i = self.array.shape[:3]
        return k, j, i

    @property
    def is_colour(self) -> bool:
        """Whether voxels are RGB triples."""
        return self.array.ndim == 4

    @property
    def ijk_to_lps(self) -> NDArray[np.float64]:
        """4×4 matrix from voxel indices (i, j, k, 1) to LPS millimetres."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def lps_from_ijk(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """LPS millimetres of voxel indices; (..., 3) in, (..., 3) out."""
        matrix = self.ijk_to_lps
        return np.asarray(ijk, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]

    def ijk_from_lps(self, lps: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices of LPS millimetres; (..., 3) in, (..., 3) out."""
        inverse = np.linalg.inv(self.ijk_to_lps)
        return np.asarray(lps, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def ijk_from_ras(self, ras: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices of RAS millimetres; (..., 3) in, (..., 3) out."""
        return self.ijk_from_lps(np.asarray(ras, dtype=np.float64) * (-1.0, -1.0, 1.0))

    def reversed_slices(self) -> Volume:
        """The same voxels where they are, with k counted from the other end."""
        k = self.shape[0] - 1
        origin = self.lps_from_ijk((0.0, 0.0, k))
        direction = np.array(self.direction)
        direction[:, 2] *= -1
        return Volume(self.array[::-1], self.spacing, tuple(origin.tolist()), direction, self.metadata)

    def with_array(self, array: NDArray[Any]) -> Volume:
        """Other voxels on the same grid, for example a labelmap.

        Raises:
            InputError: the array has another (K, J, I) shape.
        """
        if array.shape[:3] != self.shape:
            raise InputError(f"an array of shape {array.shape} does not lie on a grid of {self.shape}")
        return Volume(array, self.spacing, self.origin, self.direction, self.metadata)
