"""What is chosen in a Segment Editor: the segment and the effect, as the editor's node tells."""

from __future__ import annotations

from typing import Any

import vtk

from ..Signal import Signal

# The name of the module's own effect.
EFFECT = "BioSAM-2"


class EditorChoice:
    """Follows an editor's node.

    The editor widget's own signal tells of clicks into its table alone, not of a segment that was chosen by a key, by
    its button Add or by a script; and it keeps the identifier of a segment of the segmentation before.

    Signals:
        segmentChanged(): another segment is chosen, or none.
        effectTaken(): an effect has the mouse now.
    """

    def __init__(self) -> None:
        self.segmentChanged = Signal()
        self.effectTaken = Signal()
        self._node: Any = None
        self._tag = 0
        self._seen = ("", "")

    def follow(self, node: Any) -> None:
        """Follow this node and no other; None for none."""
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onModified)
        self._seen = (self.segment, self.effect)

    @property
    def segment(self) -> str:
        """Identifier of the chosen segment; empty where the editor's segmentation has none that is chosen."""
        segmentationNode = self._node.GetSegmentationNode() if self._node is not None else None
        if segmentationNode is None:
            return ""
        segmentId = self._node.GetSelectedSegmentID() or ""
        return segmentId if segmentId and segmentationNode.GetSegmentation().GetSegment(segmentId) else ""

    @property
    def effect(self) -> str:
        """Name of the effect that has the mouse; empty for none."""
        return (self._node.GetActiveEffectName() or "") if self._node is not None else ""

    def _onModified(self, *_event: Any) -> None:
        segmentBefore, effectBefore = self._seen
        segment, effect = self._seen = (self.segment, self.effect)
        if segment != segmentBefore:
            self.segmentChanged.emit()
        if effect and effect != effectBefore:
            self.effectTaken.emit()
