"""Notices what happens to the volume and the segmentation that a session works on."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..Signal import Signal


class InputWatch:
    """Observes a volume and a segmentation.

    Signals:
        replaced(): the volume has other voxels; told when all of them are there, size and values.
        transformed(): the volume's transform has changed.
        segmentsRemoved(): segments were deleted.
    """

    def __init__(self) -> None:
        self.replaced = Signal()
        self.transformed = Signal()
        self.segmentsRemoved = Signal()
        self._tags: list[tuple[Any, int]] = []
        self._pending = False

    def open(self, volumeNode: Any, segmentationNode: Any) -> None:
        """Observe these from now on."""
        self.close()
        self._observe(volumeNode, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._onVoxels)
        transform = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        self._observe(volumeNode, transform, lambda *_event: self.transformed.emit())
        segmentation = segmentationNode.GetSegmentation()
        removed = slicer.vtkSegmentation.SegmentRemoved
        self._observe(segmentation, removed, lambda *_event: self.segmentsRemoved.emit())

    def close(self) -> None:
        """Observe nothing."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []

    # -- inside ---------------------------------------------------------------------------------

    def _observe(self, node: Any, event: Any, method: Any) -> None:
        self._tags.append((node, node.AddObserver(event, method)))

    def _onVoxels(self, *_event: Any) -> None:
        if not self._pending:
            self._pending = True
            qt.QTimer.singleShot(0, self._tellReplaced)

    def _tellReplaced(self) -> None:
        self._pending = False
        if self._tags:
            self.replaced.emit()
