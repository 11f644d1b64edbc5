"""The strip along the slices: what each of them is, and how much it needs a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import qt
from slicer.i18n import tr as _

from ..Signal import Signal

_HEIGHT = 52
_BAND = 10
_FOOT = 6
_MARGIN = 1
_BACKGROUND, _LINE, _CURRENT = "#2b2b2b", "#555555", "#ffffff"
_SEEN = "#8fd18f"
# From far to near; light to dark also where red and green look alike.
_FAR, _HALF, _NEAR = "#ff6b5b", "#f2c14e", "#4f8f5a"


@dataclass(frozen=True)
class SliceState:
    """One slice of a segment.

    Attributes:
        prompted: it carries a point, box or mask prompt.
        corrected: the user changed what the model drew.
        locked: the user locked it.
        propagated: a propagation has reached it.
        beyond: it is empty, and no slice further out holds a mask.
        reviewed: the user has looked at what the propagation left there.
        sureness: of the model, 0 to 1; None where it has said nothing.
        changed: how much the last propagation changed what an earlier one had drawn, 0 to 1; None where it came
            first.
        doubt: how much it needs a look, 0 to 1, see `biosam2.session.doubt`; None where it needs none.
    """

    prompted: bool = False
    corrected: bool = False
    locked: bool = False
    propagated: bool = False
    beyond: bool = False
    reviewed: bool = False
    sureness: float | None = None
    changed: float | None = None
    doubt: float | None = None

    def words(self) -> str:
        """What the slice is, for the user."""
        parts = [
            text
            for true, text in (
                (self.prompted, _("prompted")),
                (self.corrected, _("corrected by you")),
                (self.locked, _("locked")),
                (self.propagated, _("propagated")),
            )
            if true
        ]
        if self.sureness is not None:
            parts.append(_("score {percent:.0f} %").format(percent=100 * self.sureness))
        if self.changed:
            parts.append(_("changed by {percent:.0f} %").format(percent=100 * self.changed))
        if self.beyond:
            parts.append(_("nothing found"))
        if self.reviewed:
            parts.append(_("looked at"))
        elif self.doubt is not None:
            parts.append(_("not looked at yet"))
        return ", ".join(parts) or _("nothing here")


# What a band's colour means; the first that holds is shown.
_BANDS = (("locked", "#b07fe0"), ("corrected", "#5aa9ff"), ("prompted", "#ffd94d"), ("propagated", "#7d8791"))


def legend() -> str:
    """The colours and their meaning, as rich text."""
    names = {
        "prompted": _("prompt"),
        "corrected": _("corrected"),
        "locked": _("locked"),
        "propagated": _("propagated"),
    }
    shown = [(colour, names[kind]) for kind, colour in reversed(_BANDS)]
    shown += [(_FAR, _("far")), (_NEAR, _("near")), (_SEEN, _("looked at"))]
    return " &nbsp;".join(f'<span style="color:{colour}">■</span>&nbsp;{name}' for colour, name in shown)


class ReviewStrip:
    """A picture of all slices of a segment; the first is on the left.

    Painted into a pixmap: no virtual function of Qt has to be overridden from Python.

    Args:
        widget: the label that shows it; by default a new one.

    Signals:
        clicked(index): a slice was chosen.

    Example:
        >>> strip = ReviewStrip()
        >>> strip.show([SliceState(prompted=True)], current=0)
    """

    def __init__(self, widget: Any = None) -> None:
        self.clicked = Signal()
        self._states: list[SliceState] = []
        self._current: int | None = None
        self.widget = qt.QLabel() if widget is None else widget
        self.widget.setMinimumSize(120, _HEIGHT)
        self.widget.setMaximumHeight(_HEIGHT)
        # The pixmap follows the label's width; it must not decide it.
        self.widget.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        self.widget.setMouseTracking(True)
        self._filter = _Filter(self)
        self.widget.installEventFilter(self._filter)
        self.paint()

    @property
    def states(self) -> list[SliceState]:
        """What is shown."""
        return list(self._states)

    @property
    def current(self) -> int | None:
        """The slice that is marked."""
        return self._current

    def show(self, states: Sequence[SliceState], current: int | None) -> None:
        """Show these slices, and mark the one that the views show."""
        if list(states) == self._states and current == self._current:
            return
        self._states, self._current = list(states), current
        self.paint()

    def indexAt(self, x: int) -> int | None:
        """The slice that is painted at a position, pixels from the left; None where there is none."""
        if not self._states:
            return None
        width = max(self.widget.width - 2 * _MARGIN, 1)
        return min(max(int((x - _MARGIN) * len(self._states) / width), 0), len(self._states) - 1)

    def paint(self) -> None:
        """Paint anew, at the present width."""
        width = max(self.widget.width, 1)
        pixmap = qt.QPixmap(width, _HEIGHT)
        pixmap.fill(qt.QColor(_BACKGROUND))
        painter = qt.QPainter()
        painter.begin(pixmap)
        for index in range(len(self._states)):
            self._paintSlice(painter, index, width - 2 * _MARGIN)
        painter.fillRect(0, _BAND + 1, width, 1, qt.QColor(_LINE))
        painter.fillRect(0, _HEIGHT - _FOOT - 2, width, 1, qt.QColor(_LINE))
        if self._current is not None and self._current < len(self._states):
            left, right = self._columns(self._current, width - 2 * _MARGIN)
            middle = (left + right) // 2
            painter.fillRect(middle - 1, 0, 2, _HEIGHT, qt.QColor(_CURRENT))
        painter.end()
        self.widget.setPixmap(pixmap)

    # -- inside ---------------------------------------------------------------------------------

    def _columns(self, index: int, width: int) -> tuple[int, int]:
        count = len(self._states)
        left = _MARGIN + index * width // count
        return left, max(_MARGIN + (index + 1) * width // count, left + 1)

    def _paintSlice(self, painter: Any, index: int, width: int) -> None:
        state = self._states[index]
        left, right = self._columns(index, width)
        # A gap between slices, where there is room for it.
        wide = right - left - (1 if right - left > 3 else 0)
        colour = next((colour for kind, colour in _BANDS if getattr(state, kind)), None)
        if colour is not None:
            painter.fillRect(left, 0, wide, _BAND, qt.QColor(colour))
        if state.doubt is not None:
            room = _HEIGHT - _BAND - _FOOT - 6
            # What is in doubt stands out.
            high = max(round(state.doubt * room), 2)
            painter.fillRect(left, _HEIGHT - _FOOT - 3 - high, wide, high, qt.QColor(_shade(state.doubt)))
        if state.reviewed:
            painter.fillRect(left, _HEIGHT - _FOOT, wide, _FOOT, qt.QColor(_SEEN))

    def pointedAt(self, x: int) -> None:
        """The pointer moved over the strip: say what is there."""
        index = self.indexAt(x)
        self.widget.toolTip = (
            "" if index is None else _("Slice {n}: {what}").format(n=index, what=self._states[index].words())
        )

    def clickedAt(self, x: int) -> None:
        """The strip was clicked."""
        index = self.indexAt(x)
        if index is not None:
            self.clicked.emit(index)


def _shade(doubt: float) -> str:
    return _FAR if doubt > 0.5 else _HALF if doubt > 0.2 else _NEAR


class _Filter(qt.QObject):
    """Sees what happens to the label."""

    def __init__(self, strip: ReviewStrip) -> None:
        qt.QObject.__init__(self)
        self._strip = strip

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        kind = event.type()
        if kind == qt.QEvent.MouseButtonPress:
            self._strip.clickedAt(event.pos().x())
        elif kind == qt.QEvent.MouseMove:
            self._strip.pointedAt(event.pos().x())
        elif kind == qt.QEvent.Resize:
            self._strip.paint()
        return False
