"""The pointer in slice views while a tool is in hand: it shows what a click will do."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..scene.Stroke import Stroke

_SIZE = 32
_MIDDLE = _SIZE // 2
_ARM = 9
# As the prompts are coloured; dark edges keep the lines visible on bright pictures.
_POSITIVE, _NEGATIVE, _BOX, _EDGE = (51, 230, 51), (255, 64, 51), (255, 217, 51), (20, 20, 20)


class ModeCursor:
    """Sets and takes back the pointer of all slice views.

    Example:
        >>> cursor = ModeCursor()
        >>> cursor.showPoint(positive=False)
        >>> cursor.clear()
    """

    def __init__(self) -> None:
        self._views: list[Any] = []

    def showPoint(self, positive: bool) -> None:
        """A cross with a plus or a minus beside it."""
        lines = [*_CROSS, (22, 26, 30, 26)]
        if positive:
            lines.append((26, 22, 26, 30))
        self._set(self._drawn(lines, _POSITIVE if positive else _NEGATIVE))

    def showBox(self) -> None:
        """A cross with a rectangle beside it."""
        frame = [(21, 22, 31, 22), (31, 22, 31, 30), (31, 30, 21, 30), (21, 30, 21, 22)]
        self._set(self._drawn([*_CROSS, *frame], _BOX))

    def showStroke(self, stroke: Stroke) -> None:
        """A cross with what is drawn beside it, in its colour."""
        red, green, blue = (round(255 * part) for part in stroke.colour)
        self._set(self._drawn([*_CROSS, *_STROKES[stroke.name]], (red, green, blue)))

    def clear(self) -> None:
        """Slicer's own pointer again."""
        for view in self._views:
            view.unsetViewCursor()
            view.setDefaultViewCursor(qt.QCursor())
        self._views = []

    # -- inside ---------------------------------------------------------------------------------

    def _set(self, cursor: Any) -> None:
        self.clear()
        layout = slicer.app.layoutManager()
        for name in layout.sliceViewNames():
            view = layout.sliceWidget(name).sliceView()
            view.setViewCursor(cursor)
            # Slicer goes back to the default one when the pointer leaves a markup.
            view.setDefaultViewCursor(cursor)
            self._views.append(view)

    def _drawn(self, lines: list[tuple[int, int, int, int]], colour: tuple[int, int, int]) -> Any:
        pixmap = qt.QPixmap(_SIZE, _SIZE)
        pixmap.fill(qt.QColor(0, 0, 0, 0))
        painter = qt.QPainter()
        painter.begin(pixmap)
        for width, shade in ((3, _EDGE), (1, colour)):
            pen = qt.QPen(qt.QColor(*shade))
            pen.setWidth(width)
            painter.setPen(pen)
            for line in lines:
                painter.drawLine(*line)
        painter.end()
        return qt.QCursor(pixmap, _MIDDLE, _MIDDLE)


# A wave, a ring, a line between two ends.
_STROKES = {
    "scribble": [(20, 27, 23, 23), (23, 23, 26, 29), (26, 29, 30, 24)],
    "lasso": [(25, 21, 30, 24), (30, 24, 28, 30), (28, 30, 22, 29), (22, 29, 21, 24), (21, 24, 25, 21)],
    "line": [(21, 29, 29, 21), (19, 27, 23, 31), (27, 19, 31, 23)],
}
# Open in the middle, so that the voxel is seen.
_CROSS = [
    (_MIDDLE - _ARM, _MIDDLE, _MIDDLE - 3, _MIDDLE),
    (_MIDDLE + 3, _MIDDLE, _MIDDLE + _ARM, _MIDDLE),
    (_MIDDLE, _MIDDLE - _ARM, _MIDDLE, _MIDDLE - 3),
    (_MIDDLE, _MIDDLE + 3, _MIDDLE, _MIDDLE + _ARM),
]
