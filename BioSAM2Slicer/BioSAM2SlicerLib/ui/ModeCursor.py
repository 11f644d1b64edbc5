"""The pointer in slice views while a tool is in hand: it shows what a click will do."""

from __future__ import annotations

from typing import Any

import qt
import slicer

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


# Open in the middle, so that the voxel is seen.
_CROSS = [
    (_MIDDLE - _ARM, _MIDDLE, _MIDDLE - 3, _MIDDLE),
    (_MIDDLE + 3, _MIDDLE, _MIDDLE + _ARM, _MIDDLE),
    (_MIDDLE, _MIDDLE - _ARM, _MIDDLE, _MIDDLE - 3),
    (_MIDDLE, _MIDDLE + 3, _MIDDLE, _MIDDLE + _ARM),
]
