"""Which slices a propagation may reach: those that a region of interest covers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .VolumeGeometry import AXES, VolumeGeometry

# Rounding of places that were saved and read back.
_CLOSE = 1e-3


def slicesOfRoi(roiNode: Any, volumeNode: Any, axis: str) -> tuple[int, int] | None:
    """First and last slice whose middle lies in a region of interest; None if it covers none.

    Args:
        roiNode: a vtkMRMLMarkupsROINode, under any transform, turned or not.
        volumeNode: the volume.
        axis: the axis along which slices are counted.
    """
    geometry = VolumeGeometry(volumeNode)
    half = np.array(roiNode.GetSize()) / 2
    matrix = roiNode.GetObjectToWorldMatrix()
    corners = [
        geometry.ijkFromWorld(matrix.MultiplyPoint([*((np.array(signs) * 2 - 1) * half).tolist(), 1.0])[:3])
        for signs in np.ndindex(2, 2, 2)
    ]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    last = np.array(geometry.shape[::-1]) - 1
    if np.any(high < -0.5) or np.any(low > last + 0.5):
        return None
    a = AXES.index(axis)
    first, final = int(np.ceil(low[a] - _CLOSE)), int(np.floor(high[a] + _CLOSE))
    first, final = max(first, 0), min(final, int(last[a]))
    return (first, final) if first <= final else None
