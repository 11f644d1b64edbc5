"""The slice views of the layout against a volume's own planes."""

from __future__ import annotations

from typing import Any

import slicer

from .VolumeGeometry import OBLIQUE_DEGREES, VolumeGeometry


def sliceNodes() -> list[Any]:
    """The slice views of the layout that can be seen; none where Slicer runs without its window."""
    layout = slicer.app.layoutManager()
    if layout is None:
        return []
    widgets = [layout.sliceWidget(name) for name in layout.sliceViewNames()]
    return [widget.mrmlSliceNode() for widget in widgets if widget.isVisible()]


def shownSlice(volumeNode: Any, axis: str) -> int | None:
    """The slice that the first view along an axis shows; None where no view that can be seen does."""
    geometry = VolumeGeometry(volumeNode)
    found = (geometry.sliceOfView(node, axis) for node in sliceNodes())
    return next((index for index in found if index is not None), None)


def tiltOfViews(volumeNode: Any) -> float:
    """How far the most tilted view is off the volume's own planes, in degrees; 0 where that is too little to matter."""
    geometry = VolumeGeometry(volumeNode)
    most = max((geometry.axisOfView(node)[1] for node in sliceNodes()), default=0.0)
    return most if most > OBLIQUE_DEGREES else 0.0


def turnViews(volumeNode: Any) -> None:
    """Turn all views to the volume's own planes, each to the one that it is closest to."""
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames():
        widget = layout.sliceWidget(name)
        widget.mrmlSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
        logic = widget.sliceLogic()
        logic.RotateSliceToLowestVolumeAxes(True)
        logic.SnapSliceOffsetToIJK()
