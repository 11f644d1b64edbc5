"""The slice views of the layout against a volume's own planes."""

from __future__ import annotations

from typing import Any

import slicer
from numpy.typing import NDArray

from .VolumeGeometry import AXES, OBLIQUE_DEGREES, VolumeGeometry, matrixAsArray


def sliceNodes() -> list[Any]:
    """The slice views of the layout that can be seen; none where Slicer runs without its window."""
    layout = slicer.app.layoutManager()
    if layout is None:
        return []
    widgets = [layout.sliceWidget(name) for name in layout.sliceViewNames()]
    return [widget.mrmlSliceNode() for widget in widgets if widget.isVisible()]


def backgroundVolume() -> Any:
    """The volume that the first view with one has in its background; None where none has."""
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames() if layout is not None else ():
        volumeId = layout.sliceWidget(name).mrmlSliceCompositeNode().GetBackgroundVolumeID()
        node = slicer.mrmlScene.GetNodeByID(volumeId) if volumeId else None
        if node is not None:
            return node
    return None


def shownSlice(volumeNode: Any, axis: str) -> int | None:
    """The slice that the first view along an axis shows; None where no view that can be seen does."""
    return viewOfSlice(volumeNode, axis)[1]


def viewOfSlice(volumeNode: Any, axis: str) -> tuple[Any, int | None]:
    """The first view along an axis that shows a slice, as its slice node, and the slice; None twice for none."""
    geometry = VolumeGeometry(volumeNode)
    found = ((node, geometry.sliceOfView(node, axis)) for node in sliceNodes())
    return next(((node, index) for node, index in found if index is not None), (None, None))


def asInView(pixels: NDArray[Any], volumeNode: Any, axis: str, sliceNode: Any) -> tuple[NDArray[Any], bool]:
    """A slice's pixels turned and mirrored as a view shows them.

    Args:
        pixels: (rows, columns[, channels]) as in the volume's array without `axis`, slowest index first.
        volumeNode: the volume.
        axis: that the slice is perpendicular to.
        sliceNode: the view.

    Returns:
        The pixels, first row on top, and whether rows and columns changed places.
    """
    geometry = VolumeGeometry(volumeNode)
    view = matrixAsArray(sliceNode.GetSliceToRAS())
    centre = geometry.ijkFromWorld(view[:3, 3])
    # Where one step to the right and one upwards in the view lead, in millimetres along i, j and k.
    right, up = (
        (geometry.ijkFromWorld(view[:3, 3] + view[:3, column]) - centre) * geometry.spacing for column in (0, 1)
    )
    row, column = (AXES.index(other) for other in reversed(AXES) if other != axis)
    turned = bool(abs(right[row]) > abs(right[column]))
    if turned:
        pixels, row, column = pixels.swapaxes(0, 1), column, row
    if up[row] > 0:
        pixels = pixels[::-1]
    if right[column] < 0:
        pixels = pixels[:, ::-1]
    return pixels, turned


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


def showVolume(volumeNode: Any) -> None:
    """Show a volume in all slice views, in full."""
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames() if layout is not None else ():
        logic = layout.sliceWidget(name).sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
        logic.FitSliceToBackground()
