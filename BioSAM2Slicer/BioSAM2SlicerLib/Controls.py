"""Buttons and rows of widgets, made alike in every part of the panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


def makeButton(
    name: str, text: str, tip: str = "", action: Callable[[], Any] | None = None, checkable: bool = False
) -> Any:
    """A push button.

    Args:
        name: by which it is found.
        text: on it.
        tip: what it does, in a sentence.
        action: called at each click, without arguments.
        checkable: whether it stays down.
    """
    button = qt.QPushButton(text)
    button.objectName = name
    button.toolTip = tip
    button.checkable = checkable
    if action is not None:
        button.clicked.connect(lambda *_checked: action())
    return button


def makeRow(*widgets: Any) -> Any:
    """A layout of widgets side by side."""
    row = qt.QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
