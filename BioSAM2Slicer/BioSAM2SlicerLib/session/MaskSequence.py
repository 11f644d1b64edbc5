"""The masks of a video as a sequence of segmentations, which its sequence browser plays with the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import qt
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from ..scene.SegmentSlices import bounds
from ..scene.SequenceVideo import browserOf, firstFrameOf, frameNodeOf, indexValues, sliceOfFrames
from .PanelSession import PanelSession

_ROLE = "BioSAM2Slicer.maskSequence"
_NAME = "Binary labelmap"


class MaskSequence:
    """Keeps the sequence in step with the session: each change of a mask changes the frames that it touches.

    Args:
        session: on a volume that `openVideo` made; on others nothing is done.

    Example:
        >>> masks = MaskSequence(session)
        >>> masks.show(True)  # from now on the browser shows its own images with the masks
    """

    def __init__(self, session: PanelSession) -> None:
        self._session = session
        self._pending = False
        self._segmentation: Any = None
        # What the sequence holds: of each segment its facts and its mask, (K, J, I).
        self._held: dict[str, tuple[Any, NDArray[np.bool_]]] = {}
        self._stamps: dict[str, Any] = {}
        session.stateChanged.connect(self._soon)

    def cleanup(self) -> None:
        """Follow the session no longer."""
        self._session.stateChanged.disconnect(self._soon)

    @property
    def sequence(self) -> Any:
        """The sequence node of the session's segmentation; None before there is a mask, and where it was deleted."""
        node = self._session.segmentationNode
        return node.GetNodeReference(_ROLE) if node is not None else None

    @property
    def shown(self) -> Any:
        """The segmentation node in which the browser shows the masks of one frame; None before there is a mask."""
        browser, sequence = browserOf(self._session.volumeNode), self.sequence
        return browser.GetProxyNode(sequence) if browser is not None and sequence is not None else None

    def update(self) -> None:
        """Bring the sequence up to what the segmentation shows; made with the first mask."""
        node, video = self._session.segmentationNode, self._session.volumeNode
        browser = browserOf(video)
        if node is None or browser is None or self._session.running:
            return
        if node is not self._segmentation:
            self._segmentation, self._held, self._stamps = node, {}, {}
        changed = self._changed(node)
        if self.sequence is None:
            if not any(mask.any() for _facts, mask in self._held.values()):
                return
            self._make(browser, node)
            changed = set(range(browser.GetNumberOfItems()))
        if not changed:
            return
        sequence, values = self.sequence, indexValues(browser)
        wasModifying = sequence.StartModify()
        for index in sorted(changed):
            sequence.SetDataNodeAtValue(self._frame(node, index), values[index])
        sequence.EndModify(wasModifying)
        if not browser.IsSynchronizedSequenceNode(sequence):
            browser.AddSynchronizedSequenceNode(sequence)
            # A mask lies where its frame lies, which is where the video shows its first one.
            self.show(False)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)

    def show(self, shown: bool) -> None:
        """Show the masks on the browser's own images, or, if not, the session's on the video."""
        masks = self.shown
        if masks is None:
            return
        frame = frameNodeOf(self._session.volumeNode)
        if frame is not None:
            masks.SetAndObserveTransformNodeID(frame.GetTransformNodeID())
        masks.SetDisplayVisibility(shown)
        self._session.segmentationNode.SetDisplayVisibility(not shown)

    # -- inside ---------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Once for all that happens at a time."""
        if not self._pending:
            self._pending = True
            qt.QTimer.singleShot(0, self._onTime)

    def _onTime(self) -> None:
        self._pending = False
        self.update()

    def _changed(self, node: Any) -> set[int]:
        """Frames that the sequence holds otherwise than the segmentation shows them; what it is to hold is noted."""
        segmentation = node.GetSegmentation()
        held: dict[str, tuple[Any, NDArray[np.bool_]]] = {}
        changed: set[int] = set()
        everywhere = set(range(self._session.volumeNode.GetImageData().GetDimensions()[2]))
        for segmentId in segmentation.GetSegmentIDs():
            segment = segmentation.GetSegment(segmentId)
            facts = segment.GetName(), segment.GetColor()
            before = self._held.get(segmentId)
            stamp = self._session.voxelStamp(segmentId)
            if before is not None and before[0] == facts and self._stamps.get(segmentId) == stamp:
                held[segmentId] = before
                continue
            mask = self._session.mask(segmentId)
            if before is None or before[0] != facts:
                changed |= everywhere
            else:
                changed |= set(np.flatnonzero((mask != before[1]).any(axis=(1, 2))).tolist())
            held[segmentId], self._stamps[segmentId] = (facts, mask), stamp
        if list(held) != list(self._held):
            changed |= everywhere
        self._held = held
        return changed

    def _make(self, browser: Any, node: Any) -> None:
        master = browser.GetMasterSequenceNode()
        name = _("{segmentation} sequence").format(segmentation=node.GetName())
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        sequence.SetIndexName(master.GetIndexName())
        sequence.SetIndexUnit(master.GetIndexUnit())
        sequence.SetIndexType(master.GetIndexType())
        node.SetNodeReferenceID(_ROLE, sequence.GetID())

    def _frame(self, node: Any, index: int) -> Any:
        """The masks of a frame, as a segmentation on the frame's own voxels."""
        video = self._session.volumeNode
        k = sliceOfFrames(video)
        matrix = vtk.vtkMatrix4x4()
        firstFrameOf(video).GetIJKToRASMatrix(matrix)
        frame = slicer.vtkMRMLSegmentationNode()
        frame.GetSegmentation().SetSourceRepresentationName(_NAME)
        for segmentId, (_facts, mask) in self._held.items():
            segment = slicer.vtkSegment()
            segment.DeepCopyMetadata(node.GetSegmentation().GetSegment(segmentId))
            image = slicer.vtkOrientedImageData()
            image.SetImageToWorldMatrix(matrix)
            pixels = mask[index : index + 1]
            if pixels.any():
                extent, inside = bounds(pixels, (0, mask.shape[2] - 1, 0, mask.shape[1] - 1, k, k))
                image.SetExtent(*extent)
                image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
                vtk_to_numpy(image.GetPointData().GetScalars())[:] = pixels[inside].ravel()
            segment.AddRepresentation(_NAME, image)
            frame.GetSegmentation().AddSegment(segment, segmentId)
        return frame
