"""The masks of a video as a sequence of segmentations, which its sequence browser plays with the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from ..scene.SegmentSlices import Extent, bounds, shapeOf
from ..scene.SequenceVideo import (
    browserOf,
    firstFrameOf,
    frameNodeOf,
    indexValues,
    numberOfFrames,
    sliceOfFrames,
)
from ..Signal import Signal
from .PanelSession import PanelSession

_ROLE = "BioSAM2Slicer.maskSequence"
_NAME = "Binary labelmap"
# Frames that are written before Slicer is given time for other things.
_AT_A_TIME = 20


@dataclass(frozen=True)
class _Held:
    """A segment as the sequence holds it, or is to hold it.

    Attributes:
        facts: name and colour.
        stamp: of its voxels, see `PanelSession.voxelStamp`.
        mask: a box and the voxels there, see `SegmentSlices.mask`; None for none.
    """

    facts: tuple[Any, ...]
    stamp: int
    mask: tuple[Extent, NDArray[np.bool_]] | None

    def frame(self, index: int) -> tuple[Extent, NDArray[np.bool_]] | None:
        """The smallest box around its voxels on a frame, and the voxels there, (1, j, i); None where it has none."""
        if self.mask is None:
            return None
        extent, voxels = self.mask
        low, high = extent[4:]
        if not low <= index <= high:
            return None
        pixels = voxels[index - low : index - low + 1]
        if not pixels.any():
            return None
        box, inside = bounds(pixels, (*extent[:4], index, index))
        return box, pixels[inside]

    def differences(self, other: _Held) -> set[int]:
        """Frames on which two have other voxels."""
        if self.mask is None or other.mask is None:
            mask = self.mask or other.mask
            return set() if mask is None else _frames(mask[0], mask[1])
        (one, here), (two, there) = self.mask, other.mask
        if one == two:
            return _frames(one, here != there)
        low, high = np.minimum(one[::2], two[::2]), np.maximum(one[1::2], two[1::2])
        union: Extent = tuple(int(n) for pair in zip(low, high, strict=True) for n in pair)  # type: ignore[assignment]
        return _frames(union, _within(one, here, union) != _within(two, there, union))


class MaskSequence:
    """Keeps the sequence in step with the session: each change of a mask changes the frames that it touches.

    Signals:
        refused(str): why the sequence is no longer kept in step; one line.
        foundShown(): the scene was saved while the browser's images were shown, which is to end.

    Args:
        session: on a volume that `openVideo` made; on others nothing is done.

    Example:
        >>> masks = MaskSequence(session)
        >>> masks.show(True)  # from now on the browser shows its own images with the masks
    """

    def __init__(self, session: PanelSession) -> None:
        self.refused = Signal()
        self.foundShown = Signal()
        self._session = session
        # Where the masks are shown now; None where they are not.
        self._visible: Any = None
        self._pending = False
        self._segmentation: Any = None
        self._refused: Any = None
        self._held: dict[str, _Held] = {}
        # Frames that are to be written yet.
        self._left: set[int] = set()
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

    def update(self, most: int | None = None) -> None:
        """Bring the sequence up to what the segmentation shows; made with the first mask.

        Args:
            most: how many frames are written now; the others follow. None for all.
        """
        node, video = self._session.segmentationNode, self._session.volumeNode
        browser = browserOf(video)
        if node is None or browser is None or self._session.running or not self._fits(browser, video):
            return
        if node is not self._segmentation:
            self._segmentation, self._held, self._left = node, {}, set()
            if self.shown is not None and self.shown.GetDisplayVisibility():
                self.foundShown.emit()
        self._left |= self._changed(node)
        if self.sequence is None:
            if all(held.mask is None or not held.mask[1].any() for held in self._held.values()):
                return
            self._make(browser, node)
            self._left = set(range(browser.GetNumberOfItems()))
        if not self._left:
            return
        sequence, values = self.sequence, indexValues(browser)
        now = sorted(self._left)[:most]
        self._left -= set(now)
        wasModifying = sequence.StartModify()
        for index in now:
            sequence.SetDataNodeAtValue(self._frame(node, index), values[index])
        sequence.EndModify(wasModifying)
        if not browser.IsSynchronizedSequenceNode(sequence):
            browser.AddSynchronizedSequenceNode(sequence)
            # A mask lies where its frame lies, which is where the video shows its first one.
            self.show(False)
        if self._left:
            self._soon()

    def show(self, shown: bool) -> None:
        """Show the masks on the browser's own images, or, if not, the session's on the video."""
        masks = self.shown
        if self._visible is not None and self._visible is not masks:
            # Its browser is gone, or its segmentation.
            self._visible.SetDisplayVisibility(False)
        if masks is not None:
            frame = frameNodeOf(self._session.volumeNode)
            if frame is not None:
                masks.SetAndObserveTransformNodeID(frame.GetTransformNodeID())
            masks.SetDisplayVisibility(shown)
        self._visible = masks if shown else None
        self._session.segmentationNode.SetDisplayVisibility(not shown)

    # -- inside ---------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Once for all that happens at a time."""
        if not self._pending:
            self._pending = True
            qt.QTimer.singleShot(0, self._onTime)

    def _onTime(self) -> None:
        self._pending = False
        self.update(_AT_A_TIME)

    def _fits(self, browser: Any, video: Any) -> bool:
        """Whether the sequence still has the video's frames; if not, it is told once."""
        fits = firstFrameOf(video) is not None and browser.GetNumberOfItems() == numberOfFrames(video)
        if not fits and self._refused is not video:
            self._refused = video
            self.refused.emit(
                _("The sequence has other frames now than when it was opened as a video: its masks stay as they are.")
            )
        return fits

    def _changed(self, node: Any) -> set[int]:
        """Frames that the sequence holds otherwise than the segmentation shows them; what it is to hold is noted."""
        segmentation = node.GetSegmentation()
        held: dict[str, _Held] = {}
        changed: set[int] = set()
        everywhere = set(range(numberOfFrames(self._session.volumeNode)))
        for segmentId in segmentation.GetSegmentIDs():
            segment = segmentation.GetSegment(segmentId)
            facts = segment.GetName(), segment.GetColor()
            before, stamp = self._held.get(segmentId), self._session.voxelStamp(segmentId)
            if before is not None and (before.facts, before.stamp) == (facts, stamp):
                held[segmentId] = before
                continue
            held[segmentId] = _Held(facts, stamp, self._session.mask(segmentId))
            if before is None or before.facts != facts:
                changed |= everywhere
            else:
                changed |= held[segmentId].differences(before)
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
        for segmentId, held in self._held.items():
            segment = slicer.vtkSegment()
            segment.DeepCopyMetadata(node.GetSegmentation().GetSegment(segmentId))
            image = slicer.vtkOrientedImageData()
            image.SetImageToWorldMatrix(matrix)
            found = held.frame(index)
            if found is not None:
                extent, pixels = found
                image.SetExtent(*extent[:4], k, k)
                image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
                vtk_to_numpy(image.GetPointData().GetScalars())[:] = pixels.ravel()
            segment.AddRepresentation(_NAME, image)
            frame.GetSegmentation().AddSegment(segment, segmentId)
        return frame


def _frames(extent: Extent, voxels: NDArray[np.bool_]) -> set[int]:
    """Slices k with voxels that are set, of an array that lies at an extent."""
    return {int(k) + extent[4] for k in np.flatnonzero(voxels.any(axis=(1, 2)))}


def _within(extent: Extent, voxels: NDArray[np.bool_], larger: Extent) -> NDArray[np.bool_]:
    """Voxels in a larger box."""
    whole = np.zeros(shapeOf(larger), bool)
    low = [extent[2 * axis] - larger[2 * axis] for axis in (2, 1, 0)]
    whole[tuple(slice(first, first + count) for first, count in zip(low, voxels.shape, strict=True))] = voxels
    return whole
