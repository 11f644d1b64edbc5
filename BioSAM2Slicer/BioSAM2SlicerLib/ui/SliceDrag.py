"""What is drawn by dragging in a slice view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..scene.PlaceTarget import keptPlaceTarget
from ..scene.VolumeGeometry import OBLIQUE_DEGREES, VolumeGeometry
from ..Signal import Signal

# Before Slicer's own interaction, which would adjust the window or move the crosshair.
_PRIORITY = 100.0


@dataclass
class Drag:
    """What is being drawn.

    Attributes:
        view: name of the slice view.
        axis: along which the view looks.
        places: where the pointer was, voxel indices (i, j, k).
        node: the markup that shows it; None before the pointer has moved.
    """

    view: str
    axis: str
    places: list[NDArray[np.float64]]
    node: Any = None


class SliceDrag(ABC):
    """While active, a drag in a slice view draws on the slice that it shows.

    Signals:
        refused(str): why nothing can be drawn here.
    """

    def __init__(self) -> None:
        self.refused = Signal()
        self._volume: Any = None
        self._drag: Drag | None = None
        self._tags: list[tuple[Any, int]] = []

    @property
    def active(self) -> bool:
        """Whether drags draw."""
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
        """Draw in the views that the layout has now; what is half drawn is dropped."""
        if self.active:
            self.start(self._volume)

    def stop(self) -> None:
        """Leave the mouse to Slicer; what is half drawn is dropped."""
        for interactor, tag in self._tags:
            interactor.RemoveObserver(tag)
        self._tags = []
        self.cancel()

    def cancel(self) -> None:
        """Drop what is being drawn."""
        if self._drag is not None and self._drag.node is not None:
            slicer.mrmlScene.RemoveNode(self._drag.node)
        self._drag = None

    # -- what a kind of drawing does -------------------------------------------------------------

    @abstractmethod
    def _newNode(self) -> Any:
        """A markup that will show what is being drawn."""

    @abstractmethod
    def _show(self, drag: Drag, geometry: VolumeGeometry) -> None:
        """Make the markup show what has been drawn so far."""

    @abstractmethod
    def _finish(self, drag: Drag, geometry: VolumeGeometry) -> None:
        """Tell what was drawn; the markup is gone."""

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
                "This view is tilted by {degrees:.0f}° against the volume: turn it to the volume's plane to draw, or "
                "use points."
            )
            self.refused.emit(text.format(degrees=degrees))
        elif not 0 <= geometry.sliceIndex(start, axis) < geometry.count(axis):
            self.refused.emit(_("This slice lies outside the volume."))
        else:
            self._drag = Drag(view, axis, [start])
        return True

    def _onMove(self, view: str, interactor: Any) -> bool:
        drag = self._drag
        if drag is None or drag.view != view:
            return False
        geometry = VolumeGeometry(self._volume)
        drag.places.append(self._ijk(view, interactor, geometry))
        if drag.node is None:
            with keptPlaceTarget():
                drag.node = self._newNode()
            drag.node.SetSaveWithScene(False)
            drag.node.SetHideFromEditors(True)
            drag.node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
            drag.node.CreateDefaultDisplayNodes()
            display = drag.node.GetDisplayNode()
            display.SetVisibility3D(False)
            display.SetFillVisibility(False)
            display.SetPropertiesLabelVisibility(False)
            display.SetPointLabelsVisibility(False)
            display.SetHandlesInteractive(False)
        self._show(drag, geometry)
        return True

    def _onRelease(self, view: str, interactor: Any) -> bool:
        drag = self._drag
        if drag is None or drag.view != view:
            return False
        geometry = VolumeGeometry(self._volume)
        drag.places.append(self._ijk(view, interactor, geometry))
        self.cancel()
        self._finish(drag, geometry)
        return True

    def _sliceNode(self, view: str) -> Any:
        return slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode()

    def _ijk(self, view: str, interactor: Any, geometry: VolumeGeometry) -> NDArray[np.float64]:
        x, y = interactor.GetEventPosition()
        world = self._sliceNode(view).GetXYToRAS().MultiplyPoint([x, y, 0.0, 1.0])[:3]
        return geometry.ijkFromWorld(world)
