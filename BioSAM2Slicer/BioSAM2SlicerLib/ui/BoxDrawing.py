"""Boxes drawn by dragging in a slice view."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..scene.PromptNodes import layOut
from ..scene.VolumeGeometry import AXES, VolumeGeometry
from ..Signal import Signal
from .SliceDrag import Drag, SliceDrag

_Ijk: TypeAlias = tuple[float, float, float]


class BoxDrawing(SliceDrag):
    """While active, a drag in a slice view draws a box one slice thick, in the volume's orientation.

    Signals:
        drawn(minIjk, maxIjk, axis): inclusive voxel bounds, and the axis on which the box is flat.
        refused(str): why it cannot be drawn here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn = Signal()

    def _newNode(self) -> Any:
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")

    def _show(self, drag: Drag, geometry: VolumeGeometry) -> None:
        layOut(drag.node, geometry, *_box(drag, geometry))

    def _finish(self, drag: Drag, geometry: VolumeGeometry) -> None:
        low, high = _box(drag, geometry)
        across = [a for a in AXES if a != drag.axis]
        if all(high[AXES.index(a)] > low[AXES.index(a)] for a in across):
            self.drawn.emit(low, high, drag.axis)
        else:
            self.refused.emit(_("Drag from one corner of the box to the other."))


def _box(drag: Drag, geometry: VolumeGeometry) -> tuple[_Ijk, _Ijk]:
    """From where the drag began to where it is, in whole voxels inside the volume, one slice thick."""
    corners = np.floor(np.array([drag.places[0], drag.places[-1]]) + 0.5)
    corners = np.clip(corners, 0, np.array(geometry.shape[::-1]) - 1)
    flat = AXES.index(drag.axis)
    corners[:, flat] = corners[0, flat]
    return tuple(corners.min(axis=0).tolist()), tuple(corners.max(axis=0).tolist())
