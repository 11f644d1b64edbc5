"""What the mouse does in slice views: place points, draw boxes and strokes, or what Slicer does without the panel."""

from __future__ import annotations

from typing import Any

import slicer

from ..scene.PlaceTarget import PlaceTarget
from ..scene.Stroke import STROKES, Stroke
from ..scene.ViewPlanes import sliceNodes
from ..scene.VolumeGeometry import VolumeGeometry
from ..Signal import Signal
from .BoxDrawing import BoxDrawing
from .ModeCursor import ModeCursor
from .SliceDrag import SliceDrag
from .StrokeDrawing import StrokeDrawing

NONE, POINT, BOX = "none", "point", "box"


class PromptTools:
    """The tool in hand: one of the module's constants, or the name of a kind of stroke.

    Signals:
        changed(): another tool or sign was taken up, or the tool was put down.
        boxDrawn(minIjk, maxIjk, axis), strokeDrawn(Stroke, axis): what was drawn, see `BoxDrawing`, `StrokeDrawing`.
        refused(str): why nothing can be drawn.
    """

    def __init__(self) -> None:
        self.changed = Signal()
        self.refused = Signal()
        self._boxes, self._strokes = BoxDrawing(), StrokeDrawing()
        self.boxDrawn, self.strokeDrawn = self._boxes.drawn, self._strokes.drawn
        self._drawings: tuple[SliceDrag, ...] = (self._boxes, self._strokes)
        for drawing in self._drawings:
            drawing.refused.connect(self.refused.emit)
        self._tool = NONE
        self._cursor = ModeCursor()
        self._interaction: Any = None
        self._tag: int | None = None
        self._switching = False
        # What Slicer's own Place button places, and whether it goes on, while the point tool is not in hand.
        self._placing: tuple[PlaceTarget, int] | None = None

    @property
    def tool(self) -> str:
        """`NONE`, `POINT`, `BOX`, or the name of a kind of stroke."""
        return self._tool

    @property
    def positive(self) -> bool:
        """Whether the next point or stroke marks what belongs to the segment."""
        return self._strokes.positive

    def setPositive(self, positive: bool) -> None:
        """Choose the sign; for points `use` has to follow, to take it up."""
        self._strokes.positive = positive
        self._showCursor()
        self.changed.emit()

    def use(self, tool: str, volumeNode: Any = None, pointsNode: Any = None) -> None:
        """Take up a tool, or put it down with `NONE`.

        Args:
            tool: see `tool`.
            volumeNode: what is drawn on.
            pointsNode: where points are placed.
        """
        self._switching = True
        for drawing in self._drawings:
            drawing.stop()
        if tool == BOX:
            self._boxes.start(volumeNode)
        elif tool in STROKES:
            self._strokes.name = tool
            self._strokes.start(volumeNode)
        interaction = self._node()
        if tool == POINT:
            self._rememberPlacing()
            slicer.modules.markups.logic().SetActiveList(pointsNode)
            interaction.SetPlaceModePersistence(1)
            interaction.SetCurrentInteractionMode(interaction.Place)
            _movePointer()
        else:
            if tool not in STROKES:
                # A sign holds while a tool is in hand; what is marked next belongs to the segment again.
                self._strokes.positive = True
            if self._tool == POINT:
                interaction.SetCurrentInteractionMode(interaction.ViewTransform)
                self._restorePlacing()
        self._switching = False
        self._tool = tool
        self._showCursor()
        self.changed.emit()

    def followViews(self) -> None:
        """Have the tool in hand in the views that the layout has now."""
        for drawing in self._drawings:
            drawing.followViews()
        self._showCursor()

    def cancel(self) -> bool:
        """Drop what is half drawn and put the tool down; False if there is nothing to do."""
        if self._tool == NONE:
            return False
        self.use(NONE)
        return True

    def cleanup(self) -> None:
        """Put the tool down and observe nothing."""
        if self._tool != NONE:
            self.use(NONE)
        if self._interaction is not None:
            self._interaction.RemoveObserver(self._tag)
            self._interaction = None

    def axisOfPointer(self, volumeNode: Any) -> str:
        """The voxel axis that the view under the pointer looks along; of the first one seen, where there is none."""
        sliceNode = _pointedView()
        if sliceNode is None:
            layout = slicer.app.layoutManager()
            shown = sliceNodes()
            sliceNode = shown[0] if shown else layout.sliceWidget(layout.sliceViewNames()[0]).mrmlSliceNode()
        return VolumeGeometry(volumeNode).axisOfView(sliceNode)[0]

    def _node(self) -> Any:
        node = slicer.app.applicationLogic().GetInteractionNode()
        if node is not self._interaction:
            if self._interaction is not None:
                self._interaction.RemoveObserver(self._tag)
            self._interaction = node
            self._tag = node.AddObserver(node.InteractionModeChangedEvent, self._onModeChanged)
        return node

    def _onModeChanged(self, *_event: Any) -> None:
        """The user took another mouse mode from Slicer's toolbar."""
        if self._switching or self._tool != POINT:
            return
        if self._interaction.GetCurrentInteractionMode() != self._interaction.Place:
            self._tool = NONE
            self._strokes.positive = True
            self._restorePlacing()
            self._showCursor()
            self.changed.emit()

    def _rememberPlacing(self) -> None:
        if self._placing is None:
            self._placing = (PlaceTarget.now(), self._interaction.GetPlaceModePersistence())

    def _restorePlacing(self) -> None:
        """Slicer's Place button must not add to the prompts when the tool is put down."""
        if self._placing is None:
            return
        (target, persistence), self._placing = self._placing, None
        target.restore()
        self._interaction.SetPlaceModePersistence(persistence)

    def _showCursor(self) -> None:
        if self._tool == POINT:
            self._cursor.showPoint(self.positive)
        elif self._tool == BOX:
            self._cursor.showBox()
        elif self._tool in STROKES:
            self._cursor.showStroke(Stroke(self._tool, (), self.positive))
        else:
            self._cursor.clear()


def _pointedView() -> Any:
    """The slice node of the view under the pointer; None where there is none."""
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    return crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0]) if crosshair is not None else None


def _movePointer() -> None:
    """Slicer makes the point that a click places when the pointer moves; the pointer may rest where the click will be,
    and the click would be lost."""
    pointed = _pointedView()
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames() if pointed is not None else []:
        widget = layout.sliceWidget(name)
        if widget.mrmlSliceNode() is pointed:
            widget.sliceView().interactor().InvokeEvent("MouseMoveEvent")
