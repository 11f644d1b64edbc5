"""Keys that work while the panel is in use, and are Slicer's again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import qt


class Shortcuts:
    """Keys and what they do.

    Example:
        >>> keys = Shortcuts({"P": placePoint, "Shift+Space": propagate})
        >>> keys.enable(slicer.util.mainWindow())
        >>> keys.disable()
    """

    def __init__(self, actions: dict[str, Callable[[], Any]]) -> None:
        self._actions = actions
        self._shortcuts: list[Any] = []

    def enable(self, window: Any, leave: Collection[str] = ()) -> None:
        """Take the keys in a window.

        Args:
            window: the window.
            leave: keys that somebody else has there.
        """
        self.disable()
        for key, action in self._actions.items():
            if key in leave:
                continue
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.activated.connect(action)
            self._shortcuts.append(shortcut)

    def disable(self) -> None:
        """Give them back: not even a disabled shortcut stays to make another's key ambiguous."""
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
