"""Single slices of segments: read, and written without touching anything else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import slicer
import vtk
from biosam2.masks import pack, unpack
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from .VolumeGeometry import AXES, VolumeGeometry, matrixAsArray

# Position of each index axis in an array (k, j, i).
_DIMENSION = {"k": 0, "j": 1, "i": 2}
_NAME = "Binary labelmap"
# Slices by which a layer is enlarged at most; copying what it holds already takes the time.
_ROOM = 32

# A box of voxels, (i0, i1, j0, j1, k0, k1), inclusive.
Extent: TypeAlias = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, eq=False)
class SliceChange:
    """Voxels of one segment that a write changed, one bit for a voxel; make one with `of`.

    Attributes:
        segmentId: the segment; not always the one that was written, others may have been overwritten.
        extent: the box of voxels.
    """

    segmentId: str
    extent: Extent
    _before: NDArray[np.uint8]
    _after: NDArray[np.uint8]

    @classmethod
    def of(cls, segmentId: str, extent: Extent, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> SliceChange:
        """The change from one mask to another, bool, the box's (k, j, i)."""
        return cls(segmentId, extent, pack(before), pack(after))

    @property
    def before(self) -> NDArray[np.bool_]:
        """The box as it was, bool (k, j, i)."""
        return unpack(self._before, shapeOf(self.extent))

    @property
    def after(self) -> NDArray[np.bool_]:
        """The box as it became, bool (k, j, i)."""
        return unpack(self._after, shapeOf(self.extent))

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self._before.nbytes + self._after.nbytes

    @cached_property
    def trace(self) -> int:
        """A number that stands for the set of voxels that changed: changes that cancel each other have traces that
        cancel each other under exclusive or."""
        k, j, i = np.nonzero(self.before != self.after)
        i0, _, j0, _, k0, _ = self.extent
        place = ((k + k0).astype(np.uint64) << 42) | ((j + j0).astype(np.uint64) << 21) | (i + i0).astype(np.uint64)
        # The mixing steps of SplitMix64, which spread neighbours over all bits.
        place = (place ^ (place >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
        place = (place ^ (place >> 27)) * np.uint64(0x94D049BB133111EB)
        return int(np.bitwise_xor.reduce(place ^ (place >> 31)))


def shapeOf(extent: Extent) -> tuple[int, int, int]:
    """The shape (k, j, i) of a box."""
    return (extent[5] - extent[4] + 1, extent[3] - extent[2] + 1, extent[1] - extent[0] + 1)


class SegmentSlices:
    """Slices of a segmentation whose labelmaps lie on a volume's grid.

    Writing costs as much as the box of voxels that change. The Segment Editor's masking settings hold: what may be
    edited, and whether other segments are overwritten.

    Args:
        segmentationNode: under the same transform as the volume.
        editorNode: the vtkMRMLSegmentEditorNode whose masking settings hold; its segmentation and source volume
            are set to these.
        volumeNode: the volume.
    """

    def __init__(self, segmentationNode: Any, editorNode: Any, volumeNode: Any) -> None:
        self._node = segmentationNode
        self._geometry = VolumeGeometry(volumeNode)
        self._matrix = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(self._matrix)
        editorNode.SetAndObserveSegmentationNode(segmentationNode)
        editorNode.SetAndObserveSourceVolumeNode(volumeNode)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self.useEditor(editorNode)

    def useEditor(self, editorNode: Any) -> None:
        """Write under the masking settings of this vtkMRMLSegmentEditorNode, which shows the same segmentation."""
        self._logic.SetSegmentEditorNode(editorNode)

    def readSlice(self, segmentId: str, axis: str, index: int) -> NDArray[np.bool_]:
        """Bool, the slice's (rows, columns): (j, i) along k, (k, i) along j, (k, j) along i."""
        extent = self._extentOfSlice(axis, index)
        return np.squeeze(self.read(segmentId, extent), _DIMENSION[axis])

    def read(self, segmentId: str, extent: Extent) -> NDArray[np.bool_]:
        """The segment's voxels in a box, bool (k, j, i)."""
        found = np.zeros(shapeOf(extent), bool)
        layer = self.layer(segmentId)
        if layer is None:
            return found
        lies, voxels = layer
        low, high = np.maximum(lies[::2], extent[::2]), np.minimum(lies[1::2], extent[1::2])
        if np.any(high < low):
            return found
        label = self._node.GetSegmentation().GetSegment(segmentId).GetLabelValue()
        there, to = (
            tuple(slice(int(low[a] - box[2 * a]), int(high[a] - box[2 * a]) + 1) for a in (2, 1, 0))
            for box in (lies, extent)
        )
        found[to] = voxels[there] == label
        return found

    def writeSlice(self, segmentId: str, axis: str, index: int, mask: NDArray[np.bool_]) -> list[SliceChange]:
        """Make a slice of a segment this mask, as far as the masking settings allow.

        Returns:
            What changed, in this segment and in those that it overwrote; empty where nothing did.
        """
        extent = self._extentOfSlice(axis, index)
        wanted = np.expand_dims(np.asarray(mask, bool), _DIMENSION[axis])
        here = self.read(segmentId, extent)
        if wanted.shape != here.shape:
            raise ValueError(f"a slice of shape {here.shape} cannot be made a mask of shape {wanted.shape}")
        different = wanted != here
        if not different.any():
            return []
        box, inside = bounds(different, extent)
        before = {segment: self.read(segment, box) for segment in self._segmentsNear(box)}
        before.setdefault(segmentId, here[inside])
        # Erasing first: what is added may move the segment to a layer of its own.
        self._modify(segmentId, box, (here & ~wanted)[inside], self._logic.ModificationModeRemove)
        self._modify(segmentId, box, (wanted & ~here)[inside], self._logic.ModificationModeAdd)
        changes = []
        for segment, old in before.items():
            new = self.read(segment, box)
            if not np.array_equal(old, new):
                changes.append(SliceChange.of(segment, box, old, new))
        return changes

    def restore(self, change: SliceChange, *, forward: bool = False) -> None:
        """Bring back the voxels before a change (or after it), whatever the masking settings are now."""
        if self._node.GetSegmentation().GetSegment(change.segmentId) is None:
            return
        wanted = change.after if forward else change.before
        here = self.read(change.segmentId, change.extent)
        self._modify(
            change.segmentId, change.extent, here & ~wanted, self._logic.ModificationModeRemove, bypassMasking=True
        )
        self._modify(
            change.segmentId, change.extent, wanted & ~here, self._logic.ModificationModeAdd, bypassMasking=True
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The volume's (k, j, i)."""
        return self._geometry.shape

    @property
    def whole(self) -> Extent:
        """The volume's box."""
        k, j, i = self.shape
        return (0, i - 1, 0, j - 1, 0, k - 1)

    def layer(self, segmentId: str) -> tuple[Extent, NDArray[Any]] | None:
        """The labelmap that the segment lives on, with others maybe, within the volume: where it lies and a view of
        its labels (k, j, i). None while the segment is empty."""
        image = self._image(segmentId)
        if image is None:
            return None
        low, high = self._clipped(image.GetExtent())
        if np.any(high < low):
            return None
        own = np.array(image.GetExtent()[::2])
        voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        there = tuple(slice(int(a), int(b) + 1) for a, b in zip((low - own)[::-1], (high - own)[::-1], strict=True))
        extent = tuple(int(n) for pair in zip(low, high, strict=True) for n in pair)
        return extent, voxels[there]  # type: ignore[return-value]

    def mask(self, segmentId: str) -> tuple[Extent, NDArray[np.bool_]] | None:
        """Where the segment's layer lies, and the segment's voxels there, bool (k, j, i); None while it is empty."""
        layer = self.layer(segmentId)
        if layer is None:
            return None
        extent, labels = layer
        return extent, labels == self._node.GetSegmentation().GetSegment(segmentId).GetLabelValue()

    def stamp(self, segmentId: str) -> int:
        """When the layer that the segment lives on was changed last, in VTK's time; 0 while the segment is empty."""
        image = self._image(segmentId)
        return 0 if image is None else max(image.GetMTime(), image.GetPointData().GetScalars().GetMTime())

    def usedSlices(self, segmentId: str, axis: str) -> list[int]:
        """Slices on which the segment has voxels, ascending."""
        layer = self.layer(segmentId)
        if layer is None:
            return []
        extent = layer[0]
        dimension = _DIMENSION[axis]
        others = tuple(d for d in range(3) if d != dimension)
        used = np.flatnonzero(self.read(segmentId, extent).any(axis=others))
        return [int(n + extent[2 * AXES.index(axis)]) for n in used]

    # -- inside ---------------------------------------------------------------------------------

    def _extentOfSlice(self, axis: str, index: int) -> Extent:
        k, j, i = self._geometry.shape
        extent = [0, i - 1, 0, j - 1, 0, k - 1]
        position = 2 * AXES.index(axis)
        extent[position] = extent[position + 1] = index
        return tuple(extent)

    def _image(self, segmentId: str) -> Any:
        """The layer that the segment lives on, None while it is empty."""
        segment = self._node.GetSegmentation().GetSegment(segmentId)
        image = segment.GetRepresentation(_NAME) if segment is not None else None
        return None if image is None or image.IsEmpty() else image

    def _clipped(self, extent: tuple[int, ...]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        k, j, i = self._geometry.shape
        return np.maximum(extent[::2], 0), np.minimum(extent[1::2], np.array([i, j, k]) - 1)

    def _segmentsNear(self, box: tuple[int, ...]) -> list[str]:
        """Segments that may have voxels in a box."""
        near = []
        segmentation = self._node.GetSegmentation()
        for number in range(segmentation.GetNumberOfSegments()):
            segmentId = segmentation.GetNthSegmentID(number)
            image = self._image(segmentId)
            if image is None:
                continue
            extent = image.GetExtent()
            if all(extent[2 * a] <= box[2 * a + 1] and box[2 * a] <= extent[2 * a + 1] for a in range(3)):
                near.append(segmentId)
        return near

    def _add(self, segmentId: str, extent: Extent, mask: NDArray[np.bool_], bypassMasking: bool) -> bool:
        """Add voxels to the segment's layer itself, where no masking setting and no other segment has a say in it.

        Slicer's own way copies the whole layer, and looks through all of it, for each slice.

        Returns:
            Whether it was done; where not, it is for Slicer to do.
        """
        editor = self._logic.GetSegmentEditorNode()
        segmentation = self._node.GetSegmentation()
        image = self._image(segmentId)
        if image is None or editor.GetSourceVolumeIntensityMask():
            return False
        if not bypassMasking and (
            editor.GetMaskMode() != slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
            or (editor.GetOverwriteMode() != editor.OverwriteNone and segmentation.GetNumberOfLayers() > 1)
        ):
            return False
        label = segmentation.GetSegment(segmentId).GetLabelValue()
        self._makeRoom(image, extent)
        voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        own = image.GetExtent()
        there = voxels[tuple(slice(extent[a] - own[a], extent[a + 1] - own[a] + 1) for a in (4, 2, 0))]
        if np.any(there[mask] != 0):
            return False
        there[mask] = label
        image.GetPointData().GetScalars().Modified()
        image.Modified()
        # What the slice views wait for; Slicer's own editing sends it too.
        segmentation.InvokeEvent(slicer.vtkSegmentation.RepresentationModified, segmentId)
        return True

    def _makeRoom(self, image: Any, box: Extent) -> None:
        """Enlarge a layer to hold a box, and beyond it, where more will come."""
        low, high = np.array(image.GetExtent()[::2]), np.array(image.GetExtent()[1::2])
        first, last = np.array(box[::2]), np.array(box[1::2])
        if np.all(low <= first) and np.all(last <= high):
            return
        length = np.maximum(high, last) - np.minimum(low, first) + 1
        # Along the axis of a slice many more follow; across, masks grow a little.
        room = np.where(first == last, np.minimum(length, _ROOM), length // 8)
        limit = np.array(self.shape[::-1]) - 1
        wanted = np.minimum(low, np.where(first < low, np.maximum(first - room, 0), low))
        end = np.maximum(high, np.where(last > high, np.minimum(last + room, limit), high))
        pad = vtk.vtkImageConstantPad()
        pad.SetInputData(image)
        pad.SetOutputWholeExtent(*(int(n) for pair in zip(wanted, end, strict=True) for n in pair))
        pad.Update()
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        image.ShallowCopy(pad.GetOutput())
        image.SetGeometryFromImageToWorldMatrix(matrix)

    def _modify(
        self,
        segmentId: str,
        extent: Extent,
        mask: NDArray[np.bool_],
        mode: int,
        *,
        bypassMasking: bool = False,
    ) -> None:
        if not mask.any():
            return
        if mode == self._logic.ModificationModeAdd and self._add(segmentId, extent, mask, bypassMasking):
            return
        image = slicer.vtkOrientedImageData()
        image.SetExtent(*extent)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.SetImageToWorldMatrix(self._matrix)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
        self._logic.ModifySegmentByLabelmap(self._node, segmentId, image, mode, extent, True, bypassMasking)


def bounds(different: NDArray[np.bool_], extent: Extent) -> tuple[Extent, tuple[slice, slice, slice]]:
    """The smallest box around the voxels that are set, at least one: as an extent, and as indices into the array.

    Args:
        different: bool (k, j, i).
        extent: where that array lies.
    """
    inside: list[slice] = []
    box: list[int] = []
    for dimension in range(3):
        # Cut down as far as is known already: most changes are thin.
        left = different[tuple(inside)]
        others = tuple(d for d in range(3) if d != dimension)
        used = np.flatnonzero(left.any(axis=others))
        first, last = int(used[0]), int(used[-1])
        inside.append(slice(first, last + 1))
        start = extent[2 * (2 - dimension)]
        box[:0] = [start + first, start + last]
    return tuple(box), tuple(inside)  # type: ignore[return-value]


def fitSegmentationToVolume(segmentationNode: Any, volumeNode: Any) -> bool:
    """Put a segmentation onto a volume's grid and under its transform.

    Returns:
        Whether it is there: one that holds voxels on another grid is left as it is.
    """
    segmentation = segmentationNode.GetSegmentation()
    expected = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(expected)
    for number in range(segmentation.GetNumberOfSegments()):
        image = segmentation.GetNthSegment(number).GetRepresentation(_NAME)
        if image is None or image.IsEmpty():
            continue
        found = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(found)
        if not np.allclose(matrixAsArray(found), matrixAsArray(expected), atol=1e-3):
            return False
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return True
