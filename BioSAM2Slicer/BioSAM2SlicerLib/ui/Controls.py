"""The panel's sections out of Designer's files in Resources/UI, and their icons out of Resources/Icons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

_FOLDER = Path(__file__).resolve().parents[2]
# An installed extension has Resources beside the module, a checkout at its top.
_RESOURCES = next(
    (place for place in (_FOLDER / "Resources", _FOLDER.parent / "Resources") if (place / "UI").is_dir()), _FOLDER
)


def loadSection(name: str) -> tuple[Any, Any]:
    """Load a section of the panel.

    Args:
        name: of its file in Resources/UI, without the ending.

    Returns:
        Its widget, and an object that has each named widget in it as an attribute. Buttons have the icons of their
        names.
    """
    widget = slicer.util.loadUI(str(_RESOURCES / "UI" / f"{name}.ui"))
    ui = slicer.util.childWidgetVariables(widget)
    for child, part in vars(ui).items():
        if hasattr(part, "setIcon"):
            setIcon(part, child)
    return widget, ui


def setIcon(button: Any, name: str) -> None:
    """Give a button an icon of Resources/Icons; one that does not exist leaves it as it is."""
    path = _RESOURCES / "Icons" / f"{name}.svg"
    if path.is_file():
        button.setIcon(qt.QIcon(str(path)))


def fillChoice(box: Any, entries: Sequence[tuple[str, str]]) -> None:
    """Put (text, value) pairs into a combo box."""
    for text, value in entries:
        box.addItem(text, value)


class ContentsWidth(qt.QObject):
    """Keeps a scroll area, which scrolls upright only, as wide as its contents need."""

    def __init__(self, area: Any, contents: Any) -> None:
        qt.QObject.__init__(self)
        self._area, self._contents = area, contents
        contents.installEventFilter(self)

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        if event.type() == qt.QEvent.LayoutRequest:
            bar = self._area.verticalScrollBar().property("sizeHint").width()
            self._area.setMinimumWidth(self._contents.layout().minimumSize().width() + bar)
        return False
