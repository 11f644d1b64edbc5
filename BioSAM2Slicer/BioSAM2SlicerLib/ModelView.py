"""A small picture of what the model sees: the slice in the model's window, without the view's colours and overlays."""

from __future__ import annotations

from typing import Any

import numpy as np
import qt
import slicer
import vtk
from biosam2.frames import windowed
from numpy.typing import NDArray

from .SessionLogic import SessionLogic
from .ViewPlanes import shownSlice, sliceNodes

_WIDTH = 160
# Scrolling shows many slices; the picture follows at most this often.
_INTERVAL_MS = 100


class ModelView:
    """Follows the slice views while it is in use.

    Args:
        session: whose window it is.
    """

    def __init__(self, session: SessionLogic) -> None:
        self._session = session
        self._tags: list[tuple[Any, int]] = []
        self._shown: tuple[Any, ...] = ()
        self.widget = qt.QLabel("")
        self.widget.objectName = "modelView"
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

    def refreshSoon(self, *_event: Any) -> None:
        """Draw in a moment, once for many changes."""
        if self._tags and not self._timer.active:
            self._timer.start()

    def refresh(self) -> None:
        """Draw the slice that is shown now; nothing where no view shows one."""
        volume = self._session.volumeNode
        axis = self._session.axis or "k"
        index = None if volume is None else shownSlice(volume, axis)
        if index is None:
            self._shown = ()
            self.widget.clear()
            return
        window = self._session.window()
        if window is None:
            return
        now = (volume.GetID(), volume.GetImageData().GetMTime(), axis, index, window)
        if now == self._shown:
            return
        self._shown = now
        array = slicer.util.arrayFromVolume(volume)
        pixels = np.moveaxis(array, {"k": 0, "j": 1, "i": 2}[axis], 0)[index]
        self._show(np.round(255 * windowed(pixels, window)).astype(np.uint8), self._session.pixelSize(axis))

    def _show(self, tones: NDArray[np.uint8], size: tuple[float, float]) -> None:
        rows, columns = tones.shape[:2]
        kind = b"P5" if tones.ndim == 2 else b"P6"
        pixmap = qt.QPixmap()
        pixmap.loadFromData(kind + b"\n%d %d\n255\n" % (columns, rows) + np.ascontiguousarray(tones).tobytes())
        height = max(1, round(_WIDTH * rows * size[0] / (columns * size[1])))
        self.widget.setPixmap(pixmap.scaled(_WIDTH, min(height, 2 * _WIDTH)))
