"""Boxes drawn by dragging in a slice view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..scene.PlaceTarget import keptPlaceTarget
from ..scene.PromptNodes import layOut
from ..scene.VolumeGeometry import AXES, OBLIQUE_DEGREES, VolumeGeometry
from ..Signal import Signal

# Before Slicer's own interaction, which would adjust the window or move the crosshair.
_PRIORITY = 100.0
_Ijk: TypeAlias = tuple[float, float, float]


@dataclass
class _Drag:
    """A box that is being drawn."""

    view: str
    axis: str
    start: np.ndarray
    node: Any


class BoxDrawing:
    """While active, a drag in a slice view draws a box one slice thick, in the volume's orientation.

    Signals:
        drawn(minIjk, maxIjk, axis): inclusive voxel bounds, and the axis on which the box is flat.
        refused(str): why it cannot be drawn here.
    """

    def __init__(self) -> None:
        self.drawn = Signal()
        self.refused = Signal()
        self._volume: Any = None
        self._drag: _Drag | None = None
        self._tags: list[tuple[Any, int]] = []

    @property
    def active(self) -> bool:
        """Whether drags draw boxes."""
        return bool(self._tags)

    def start(self, volumeNode: Any) -> None:
        """Draw on this volume from now on."""
        self.stop()
        self._volume = volumeNode
        layout = slicer.app.layoutManager()
        for name in layout.sliceViewNames():
            interactor = layout.sliceWidget(name).sliceView().interactor()
            for event, method in (
                ("LeftButtonPressEvent", self._onPress),
                ("MouseMoveEvent", self._onMove),
                ("LeftButtonReleaseEvent", self._onRelease),
            ):
                self._observe(interactor, event, name, method)

    def followViews(self) -> None:
        """Draw in the views that the layout has now; a box that is half drawn is dropped."""
        if self.active:
            self.start(self._volume)

    def stop(self) -> None:
        """Leave the mouse to Slicer; a box that is half drawn is dropped."""
        for interactor, tag in self._tags:
            interactor.RemoveObserver(tag)
        self._tags = []
        self.cancel()

    def cancel(self) -> None:
        """Drop the box that is being drawn."""
        if self._drag is not None and self._drag.node is not None:
            slicer.mrmlScene.RemoveNode(self._drag.node)
        self._drag = None

    # -- inside ---------------------------------------------------------------------------------

    def _observe(self, interactor: Any, event: str, view: str, method: Any) -> None:
        def handle(caller: Any, _event: str) -> None:
            if method(view, caller):
                caller.GetCommand(tag).SetAbortFlag(1)

        tag = interactor.AddObserver(event, handle, _PRIORITY)
        self._tags.append((interactor, tag))

    def _onPress(self, view: str, interactor: Any) -> bool:
        geometry = VolumeGeometry(self._volume)
        axis, degrees = geometry.axisOfView(self._sliceNode(view))
        start = self._ijk(view, interactor, geometry)
        if degrees > OBLIQUE_DEGREES:
            text = _(
                "This view is tilted by {degrees:.0f}° against the volume: turn it to the volume's plane for boxes, or "
                "use points."
            )
            self.refused.emit(text.format(degrees=degrees))
        elif not 0 <= geometry.sliceIndex(start, axis) < geometry.count(axis):
            self.refused.emit(_("This slice lies outside the volume."))
        else:
            self._drag = _Drag(view, axis, start, None)
        return True

    def _onMove(self, view: str, interactor: Any) -> bool:
        if self._drag is None or self._drag.view != view:
            return False
        geometry = VolumeGeometry(self._volume)
        low, high = self._box(self._ijk(view, interactor, geometry), geometry)
        if self._drag.node is None:
            with keptPlaceTarget():
                node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
            node.SetSaveWithScene(False)
            node.SetHideFromEditors(True)
            node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.SetVisibility3D(False)
            display.SetFillVisibility(False)
            display.SetPropertiesLabelVisibility(False)
            display.SetHandlesInteractive(False)
            self._drag.node = node
        layOut(self._drag.node, geometry, low, high)
        return True

    def _onRelease(self, view: str, interactor: Any) -> bool:
        drag = self._drag
        if drag is None or drag.view != view:
            return False
        geometry = VolumeGeometry(self._volume)
        low, high = self._box(self._ijk(view, interactor, geometry), geometry)
        self.cancel()
        across = [a for a in AXES if a != drag.axis]
        if all(high[AXES.index(a)] > low[AXES.index(a)] for a in across):
            self.drawn.emit(low, high, drag.axis)
        else:
            self.refused.emit(_("Drag from one corner of the box to the other."))
        return True

    def _box(self, end: np.ndarray, geometry: VolumeGeometry) -> tuple[_Ijk, _Ijk]:
        """From where the drag began to here, in whole voxels inside the volume, one slice thick."""
        assert self._drag is not None
        corners = np.floor(np.array([self._drag.start, end]) + 0.5)
        corners = np.clip(corners, 0, np.array(geometry.shape[::-1]) - 1)
        flat = AXES.index(self._drag.axis)
        corners[:, flat] = corners[0, flat]
        return tuple(corners.min(axis=0).tolist()), tuple(corners.max(axis=0).tolist())

    def _sliceNode(self, view: str) -> Any:
        return slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode()

    def _ijk(self, view: str, interactor: Any, geometry: VolumeGeometry) -> np.ndarray:
        x, y = interactor.GetEventPosition()
        world = self._sliceNode(view).GetXYToRAS().MultiplyPoint([x, y, 0.0, 1.0])[:3]
        return geometry.ijkFromWorld(world)
