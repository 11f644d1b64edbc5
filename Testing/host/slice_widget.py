"""A slice view: the real renderer, displayable managers and interactor, without the window around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .listings import Checked


class _SliceView(Checked):
    slicer_name = "qMRMLSliceView"

    def __init__(self, view: Any) -> None:
        self._view = view
        self._cursor: Any = None
        self._default_cursor: Any = None

    def interactor(self) -> Any:
        return self._view.interactor()

    def renderWindow(self) -> Any:
        return self._view.render_window()

    def scheduleRender(self) -> None:
        """Tests render when they take a picture."""

    def setViewCursor(self, cursor: Any) -> None:
        self._cursor = cursor

    def unsetViewCursor(self) -> None:
        self._cursor = None

    def setDefaultViewCursor(self, cursor: Any) -> None:
        self._default_cursor = cursor


class SliceWidget(Checked):
    """What ``slicer.app.layoutManager().sliceWidget(name)`` gives, and a hand to act on it."""

    slicer_name = "layoutManager().sliceWidget('Red')"
    # Where the one pointer is: the view, and the pixel in it.
    _pointer: tuple[Any, int, int] | None = None

    def __init__(self, core: Any, name: str, orientation: str, colour: str, size: int) -> None:
        from trame_slicer.views import SliceView
        from trame_slicer.views.abstract_view import ViewProps
        from trame_slicer.views.render_scheduler import ScheduledRenderStrategy

        class OnDemand(ScheduledRenderStrategy):
            def schedule_render(self) -> None:
                """Nothing is drawn until a test looks."""

            def did_render(self) -> None:
                """Nothing is kept."""

        self._core = core
        self._name = name
        self._size = size
        self._orientation = orientation
        self._view = SliceView(core.scene, core.app_logic, name, scheduled_render_strategy=OnDemand())
        self._view.set_view_properties(ViewProps(label=name[0], orientation=orientation, color=colour, group=0))
        self._slice_view = _SliceView(self._view)
        self.hidden = False  # as where the layout does not show it
        self.prepare()

    def prepare(self) -> None:
        """As after a scene was closed: mapped into the layout, at its size."""
        view = self._view
        SliceWidget._pointer = None
        view.set_mapped_in_layout(True)
        view.render_window().SetSize(self._size, self._size)
        view.interactor().SetSize(self._size, self._size)
        self.sliceLogic().ResizeSliceNode(self._size, self._size)

    # -- Slicer's names -------------------------------------------------------------------------

    def sliceLogic(self) -> Any:
        return self._view._logic

    def sliceView(self) -> _SliceView:
        return self._slice_view

    def mrmlSliceNode(self) -> Any:
        return self._view._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._view._logic.GetSliceCompositeNode()

    def isVisible(self) -> bool:
        return not self.hidden

    # -- the user's hand ------------------------------------------------------------------------

    def show(self, volume: Any) -> None:
        """This volume in the background, in the view's own orientation, fitted."""
        self.mrmlSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        self.mrmlSliceNode().SetOrientation(self._orientation)
        self.sliceLogic().RotateSliceToLowestVolumeAxes(False)
        self.sliceLogic().FitSliceToBackground()
        self.sliceLogic().SnapSliceOffsetToIJK()

    def go_to(self, world: np.ndarray) -> None:
        """Scroll to the slice through a position (RAS)."""
        self.mrmlSliceNode().JumpSliceByOffsetting(*[float(x) for x in world])

    def xy(self, world: np.ndarray) -> tuple[int, int]:
        """The pixel under which a position (RAS) is seen."""
        import vtk

        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.mrmlSliceNode().GetXYToRAS(), inverse)
        x, y = inverse.MultiplyPoint([*[float(v) for v in world], 1.0])[:2]
        return round(x), round(y)

    def point(self, x: int, y: int) -> None:
        """Move the pointer there. Where it is there already, nothing moves and Slicer is told nothing."""
        here = (self, x, y)
        before, SliceWidget._pointer = SliceWidget._pointer, here
        if before == here:
            return
        if before is None or before[0] is not self:
            if before is not None and not before[0].hidden:
                before[0].event(*before[1:], "LeaveEvent")
            self.event(x, y, "EnterEvent")
        self.event(x, y, "MouseMoveEvent")

    def press(self, x: int, y: int) -> None:
        self.point(x, y)
        self.event(x, y, "LeftButtonPressEvent")

    def release(self, x: int, y: int) -> None:
        self.point(x, y)
        self.event(x, y, "LeftButtonReleaseEvent")

    def click(self, world: np.ndarray) -> None:
        """Click where a position (RAS) is seen, after scrolling to it."""
        self.go_to(world)
        x, y = self.xy(world)
        self.press(x, y)
        self.release(x, y)

    def drag(self, start: np.ndarray, end: np.ndarray) -> None:
        """Press at a position (RAS), move in three steps, and let go at another."""
        self.go_to(start)
        first, last = np.array(self.xy(start)), np.array(self.xy(end))
        self.press(*first.tolist())
        for part in (0.3, 0.7, 1.0):
            self.point(*np.round(first + part * (last - first)).astype(int).tolist())
        self.release(*last.tolist())

    def draw(self, way: list[np.ndarray]) -> None:
        """Press at the first of the positions (RAS), move through the others, and let go at the last."""
        self.go_to(way[0])
        first, *others = (self.xy(world) for world in way)
        self.press(*first)
        for x, y in others:
            self.point(x, y)
        self.release(*others[-1])

    def event(self, x: int, y: int, *names: str) -> None:
        """Events of the interactor, as Qt's mouse events become."""
        interactor = self._view.interactor()
        for name in names:
            interactor.SetEventInformation(x, y, 0, 0)
            interactor.InvokeEvent(name)

    def picture(self, path: Path) -> None:
        """What is seen, as PNG."""
        import vtk

        self._view.render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._view.render_window())
        grab.ReadFrontBufferOff()
        writer = vtk.vtkPNGWriter()
        writer.SetInputConnection(grab.GetOutputPort())
        writer.SetFileName(str(path))
        writer.Write()
