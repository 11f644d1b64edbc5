"""Scribbles, lassos and lines drawn by dragging in a slice view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from biosam2.prompts.stroke import thinned
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..scene.Stroke import Stroke, addStrokeNode, setPlaces
from ..scene.VolumeGeometry import AXES, VolumeGeometry
from ..Signal import Signal
from .SliceDrag import Drag, SliceDrag

# How far a stroke may lie from where the pointer went, in voxels of the slice.
_TOLERANCE = 0.3
# A pointer that moved less, in voxels of the slice, has not moved.
_STILL = 0.5
# Inside the last voxel, not on its border.
_INSIDE = 0.49


class StrokeDrawing(SliceDrag):
    """While active, a drag in a slice view draws a stroke on its slice.

    Signals:
        drawn(Stroke, axis): what was drawn, and the axis on which it is flat.
        refused(str): why it cannot be drawn here.

    Attributes:
        name: of the kind that is drawn, see `biosam2`'s prompts.
        positive: whether the next one marks what belongs to the segment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn = Signal()
        self.name = ""
        self.positive = True

    def _newNode(self) -> Any:
        node = addStrokeNode(self._stroke(), VolumeGeometry(self._volume), self.name)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSelectedColor(*self._stroke().colour)
        # The pointer shows where the end is.
        display.SetGlyphScale(0.1)
        return node

    def _show(self, drag: Drag, geometry: VolumeGeometry) -> None:
        self._follow(drag, geometry)
        if not self._stroke().isFree:
            setPlaces(drag.node, geometry, [drag.places[0], drag.places[-1]])
            return
        for place in drag.places[drag.node.GetNumberOfControlPoints() :]:
            drag.node.AddControlPoint(geometry.localFromIjk(place))

    def _finish(self, drag: Drag, geometry: VolumeGeometry) -> None:
        self._follow(drag, geometry)
        stroke = self._stroke(drag.places)
        if len(stroke.places) < 2:
            self.refused.emit(_("Keep the button down and draw."))
            return
        if stroke.isFree:
            across = [n for n, axis in enumerate(AXES) if axis != drag.axis]
            tolerance = _TOLERANCE * min(geometry.spacing[n] for n in across)
            places = thinned(stroke.places, geometry.spacing, tolerance)
        else:
            places = (stroke.places[0], stroke.places[-1])
        self.drawn.emit(replace(stroke, places=places), drag.axis)

    def _stroke(self, places: Sequence[NDArray[np.float64]] = ()) -> Stroke:
        """What is drawn, through these places."""
        vertices = []
        for place in places:
            i, j, k = place.tolist()
            vertices.append((i, j, k))
        return Stroke(self.name, tuple(vertices), self.positive)

    def _follow(self, drag: Drag, geometry: VolumeGeometry) -> None:
        """Keep what was drawn on its slice and inside the volume, without places where the pointer hardly moved."""
        flat = AXES.index(drag.axis)
        last = np.clip(drag.places[-1], -_INSIDE, np.array(geometry.shape[::-1]) - 1 + _INSIDE)
        last[flat] = geometry.sliceIndex(drag.places[0], drag.axis)
        drag.places[-1] = last
        if len(drag.places) == 2:
            drag.places[0] = np.clip(drag.places[0], -_INSIDE, np.array(geometry.shape[::-1]) - 1 + _INSIDE)
            drag.places[0][flat] = last[flat]
        if np.abs(drag.places[-1] - drag.places[-2]).max() < _STILL:
            drag.places.pop()
