"""Where the voxels of a volume node lie: voxel indices, the node's own RAS, and the world's RAS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from biosam2.volume import Volume

AXES = "ijk"
# Of a volume that holds the frames of a sequence: what is known of the frames, as JSON.
VIDEO_ATTRIBUTE = "BioSAM2Slicer.video"
Three: TypeAlias = tuple[float, float, float]
# A view further off a voxel axis than this shows no slice of the volume.
OBLIQUE_DEGREES = 1.0


def matrixAsArray(matrix: Any) -> NDArray[np.float64]:
    """A vtkMatrix4x4 as an array (4, 4)."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


class VolumeGeometry:
    """Conversions for one volume node as it is now; make a new one when the node's geometry or transform changes.

    Voxel (i, j, k) is centred on the integers. *Local* is RAS before the node's transform, *world* after it.
    Prompts and segmentations stand under the same transform as their volume, so that all three move together.

    Args:
        volumeNode: a scalar or vector volume with image data.
    """

    def __init__(self, volumeNode: Any) -> None:
        matrix = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(matrix)
        self.ijkToLocal = matrixAsArray(matrix)
        self._localToIjk = np.linalg.inv(self.ijkToLocal)
        # The matrix itself is the truth: rounding of stored spacings and directions does not come in.
        self.spacing = _three(np.linalg.norm(self.ijkToLocal[:3, :3], axis=0))
        i, j, k = volumeNode.GetImageData().GetDimensions()
        self.shape = (k, j, i)
        self._toWorld = vtk.vtkGeneralTransform()
        self._toLocal = vtk.vtkGeneralTransform()
        parent = volumeNode.GetParentTransformNode()
        if parent is not None:
            parent.GetTransformToWorld(self._toWorld)
            parent.GetTransformFromWorld(self._toLocal)

    def ijkFromLocal(self, local: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) in, (..., 3) out; fractional."""
        return np.asarray(local, float) @ self._localToIjk[:3, :3].T + self._localToIjk[:3, 3]

    def localFromIjk(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) in, (..., 3) out."""
        return np.asarray(ijk, float) @ self.ijkToLocal[:3, :3].T + self.ijkToLocal[:3, 3]

    def ijkFromWorld(self, world: ArrayLike) -> NDArray[np.float64]:
        """One position (3,); fractional."""
        return self.ijkFromLocal(self._toLocal.TransformPoint(np.asarray(world, float).tolist()))

    def worldFromIjk(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """One position (3,)."""
        return np.array(self._toWorld.TransformPoint(self.localFromIjk(ijk).tolist()))

    def contains(self, ijk: ArrayLike) -> bool:
        """Whether a position lies in a voxel of the volume."""
        index = np.floor(np.asarray(ijk, float) + 0.5)
        return bool(np.all(index >= 0) and np.all(index < self.shape[::-1]))

    def count(self, axis: str) -> int:
        """Number of slices along an axis."""
        return self.shape[::-1][AXES.index(axis)]

    def sliceIndex(self, ijk: ArrayLike, axis: str) -> int:
        """The slice that a position lies on."""
        return int(np.floor(np.asarray(ijk, float)[AXES.index(axis)] + 0.5))

    def axisOfView(self, sliceNode: Any) -> tuple[str, float]:
        """The voxel axis that a slice view looks along, and how far off it is in degrees.

        Measured at the centre of the view, for the sake of transforms that bend.
        """
        toWorld = matrixAsArray(sliceNode.GetSliceToRAS())
        centre = toWorld[:3, 3]
        origin = self.ijkFromWorld(centre)
        across, up = ((self.ijkFromWorld(centre + toWorld[:3, column]) - origin) * self.spacing for column in (0, 1))
        normal = np.cross(across, up)
        cosines = np.abs(normal) / np.linalg.norm(normal)
        best = int(np.argmax(cosines))
        return AXES[best], float(np.degrees(np.arccos(min(1.0, cosines[best]))))

    def sliceOfView(self, sliceNode: Any, axis: str) -> int | None:
        """The slice that a view shows; None if it looks another way, or past the volume."""
        found, degrees = self.axisOfView(sliceNode)
        if found != axis or degrees > OBLIQUE_DEGREES:
            return None
        index = self.sliceIndex(self.ijkFromWorld(matrixAsArray(sliceNode.GetSliceToRAS())[:3, 3]), axis)
        return index if 0 <= index < self.count(axis) else None

    def lps(self) -> tuple[Three, Three, tuple[Three, Three, Three]]:
        """Spacing, origin and direction (rows) of the voxels in LPS, before the transform: `biosam2.Volume`'s."""
        matrix = np.diag([-1.0, -1.0, 1.0]) @ self.ijkToLocal[:3]
        direction = matrix[:, :3] / self.spacing
        x, y, z = (_three(row) for row in direction)
        return self.spacing, _three(matrix[:, 3]), (x, y, z)


def _three(numbers: NDArray[np.float64]) -> Three:
    x, y, z = numbers.tolist()
    return x, y, z


def volumeOf(volumeNode: Any) -> Volume:
    """The voxels of a volume node, where they lie before any transform."""
    # Imported when it is needed: the first use imports this module before the package's base is installed.
    from biosam2.volume import Volume

    spacing, origin, direction = VolumeGeometry(volumeNode).lps()
    return Volume(slicer.util.arrayFromVolume(volumeNode), spacing, origin, np.array(direction))


def fillNode(volumeNode: Any, volume: Volume) -> None:
    """Give a volume node voxels, and where they lie before any transform."""
    slicer.util.updateVolumeFromArray(volumeNode, volume.array)
    toRas = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.ijk_to_lps
    matrix = vtk.vtkMatrix4x4()
    for row, column in np.ndindex(4, 4):
        matrix.SetElement(row, column, toRas[row, column])
    volumeNode.SetIJKToRASMatrix(matrix)


def looksLikeFilm(volumeNode: Any) -> bool:
    """Whether a volume's third axis is time: it was made of a sequence, or holds pictures in colour, as of an
    ultrasound cine, which are no stack."""
    if volumeNode.GetAttribute(VIDEO_ATTRIBUTE):
        return True
    return bool(volumeNode.IsA("vtkMRMLVectorVolumeNode")) and volumeNode.GetImageData().GetDimensions()[2] > 1
