"""A picture of what the model sees: the slice in the model's window, without the view's colours and overlays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from biosam2.frames import windowed
from numpy.typing import NDArray

from ..scene.ViewPlanes import asInView, sliceNodes, viewOfSlice
from ..session.PanelSession import PanelSession

# The longer side of the picture, in pixels.
_SMALL, _LARGE = 48, 256
# Scrolling shows many slices; the picture follows at most this often.
_INTERVAL_MS = 100


class ModelView:
    """Follows the slice views while it is in use; a click enlarges it.

    Args:
        session: whose window it is.
        widget: the label that shows it.
    """

    def __init__(self, session: PanelSession, widget: Any) -> None:
        self._session = session
        self._tags: list[tuple[Any, int]] = []
        self._shown: tuple[Any, ...] = ()
        self.widget = widget
        self._large = False
        self._filter = _Clicks(self.toggle)
        self.widget.installEventFilter(self._filter)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self.refresh)
        session.stateChanged.connect(self.refreshSoon)

    def enter(self) -> None:
        """Follow the slice views."""
        self.exit()
        for node in sliceNodes():
            self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self.refreshSoon)))
        self.refreshSoon()

    def exit(self) -> None:
        """Follow nothing."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
        self._timer.stop()

    def cleanup(self) -> None:
        """Follow nothing any more, for good."""
        self.exit()
        self._session.stateChanged.disconnect(self.refreshSoon)

    def toggle(self) -> None:
        """Make it large, or small again."""
        self._large = not self._large
        self._shown = ()
        self.refresh()

    def refreshSoon(self, *_event: Any) -> None:
        """Draw in a moment, once for many changes."""
        if self._tags and not self._timer.active:
            self._timer.start()

    def refresh(self) -> None:
        """Draw the slice that is shown now; nothing where no view shows one."""
        volume = self._session.volumeNode
        axis = self._session.axis or "k"
        view, index = (None, None) if volume is None else viewOfSlice(volume, axis)
        if view is None or index is None:
            self._shown = ()
            self.widget.clear()
            return
        window = self._session.window()
        if window is None:
            return
        now = (volume.GetID(), volume.GetImageData().GetMTime(), axis, index, window, view.GetMTime())
        if now == self._shown:
            return
        self._shown = now
        array = slicer.util.arrayFromVolume(volume)
        pixels = np.moveaxis(array, {"k": 0, "j": 1, "i": 2}[axis], 0)[index]
        pixels, turned = asInView(pixels, volume, axis, view)
        size = self._session.pixelSize(axis)
        self._show(np.round(255 * windowed(pixels, window)).astype(np.uint8), size[::-1] if turned else size)

    def _show(self, tones: NDArray[np.uint8], size: tuple[float, float]) -> None:
        rows, columns = tones.shape[:2]
        kind = b"P5" if tones.ndim == 2 else b"P6"
        pixmap = qt.QPixmap()
        pixmap.loadFromData(kind + b"\n%d %d\n255\n" % (columns, rows) + np.ascontiguousarray(tones).tobytes())
        height, width = rows * size[0], columns * size[1]
        scale = (_LARGE if self._large else _SMALL) / max(height, width)
        self.widget.setPixmap(pixmap.scaled(max(1, round(width * scale)), max(1, round(height * scale))))


class _Clicks(qt.QObject):
    """Tells of clicks on a label."""

    def __init__(self, clicked: Callable[[], None]) -> None:
        qt.QObject.__init__(self)
        self._clicked = clicked

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        if event.type() == qt.QEvent.MouseButtonPress:
            self._clicked()
        return False
