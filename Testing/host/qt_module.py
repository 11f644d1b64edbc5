"""The modules ``qt`` and ``ctk`` as PythonQt makes them, out of PySide6.

In PythonQt a Qt property is an attribute and its setter is a method beside it; here each class that the panel asks
for is derived from PySide6's, with Python properties by a walk over its meta-object.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .listings import Checked, listing

# Virtual functions that are properties too: Qt calls them, so they stay functions.
_VIRTUAL = frozenset({"sizeHint", "minimumSizeHint"})
_MODULES = (QtWidgets, QtGui, QtCore)


def habits(kind: type) -> dict[str, Any]:
    """Python properties for all Qt properties of a PySide6 class; none hides a static method."""
    found: dict[str, Any] = {}
    meta = getattr(kind, "staticMetaObject", None)
    for number in range(meta.propertyCount() if meta else 0):
        prop = meta.property(number)
        name = prop.name()
        name = name if isinstance(name, str) else bytes(name).decode()
        if name == "text" and issubclass(kind, QtWidgets.QProgressBar):
            # Virtual there alone.
            continue
        # A stand-in's own property is one of Python's already.
        if name in _VIRTUAL or isinstance(_static(kind, name), staticmethod | QtCore.Property):
            continue
        found[name] = _attribute(name, prop.isWritable())
    if meta:
        # PythonQt's other word for it, by which slicer.util.childWidgetVariables looks.
        found["name"] = _attribute("objectName", True)
    return found


def _static(kind: type, name: str) -> Any:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _attribute(name: str, writable: bool) -> property:
    def get(self: QtCore.QObject) -> Any:
        return QtCore.QObject.property(self, name)

    def put(self: QtCore.QObject, value: Any) -> None:
        QtCore.QObject.setProperty(self, name, value)

    return property(get, put if writable else None)


def derive(name: str, base: type, body: dict[str, Any] | None = None) -> type:
    """A class for the panel: PySide6's, or a stand-in, with PythonQt's habits and Slicer's names only."""
    names = {**habits(base), **(body or {}), "slicer_name": name, "__module__": __name__}
    return type(name, (Checked, base), names)


class _Lazy(ModuleType):
    """A module whose classes are made when they are first asked for."""

    def __init__(self, name: str, stand_ins: dict[str, type]) -> None:
        super().__init__(name)
        self._stand_ins = stand_ins

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = listing(self.__name__)
        if known and name not in known and name != "Qt":
            raise AttributeError(f"Slicer's {self.__name__} has no {name!r}")
        made = self._make(name)
        setattr(self, name, made)
        return made

    def _make(self, name: str) -> Any:
        if name in self._stand_ins:
            return derive(name, self._stand_ins[name])
        if self.__name__ == "qt":
            for module in _MODULES:
                kind = getattr(module, name, None)
                if isinstance(kind, type) and issubclass(kind, QtCore.QObject):
                    return derive(name, kind)
                if kind is not None:
                    return kind
        raise AttributeError(f"the host has no {self.__name__}.{name}; add a stand-in to host/widgets.py")


def install(qt_stand_ins: dict[str, type], ctk_stand_ins: dict[str, type]) -> None:
    """Make ``qt`` and ``ctk`` importable."""
    sys.modules["qt"] = _Lazy("qt", qt_stand_ins)
    sys.modules["ctk"] = _Lazy("ctk", ctk_stand_ins)
