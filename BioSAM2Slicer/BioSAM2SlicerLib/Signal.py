"""A signal in plain Python (PythonQt classes cannot have Qt signals of their own)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Functions that are called when something happens.

    Example:
        >>> finished = Signal()
        >>> finished.connect(print)
        >>> finished.emit("done")
        done
    """

    def __init__(self) -> None:
        self._slots: list[Callable[..., Any]] = []

    def connect(self, slot: Callable[..., Any]) -> None:
        self._slots.append(slot)

    def disconnect(self, slot: Callable[..., Any]) -> None:
        """Forget a function; one that is not connected is no error."""
        if slot in self._slots:
            self._slots.remove(slot)

    def emit(self, *arguments: Any) -> None:
        for slot in list(self._slots):
            slot(*arguments)
