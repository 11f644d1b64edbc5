"""Modules and Slicer's window, as far as one module asks for another, by ``slicer.util``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtWidgets

from .listings import Checked


class ModuleWidget(QtWidgets.QWidget):
    """qSlicerScriptedLoadableModuleWidget: where a module in Python puts its panel."""

    def __init__(self, make: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)
        self._python = make(self) if make is not None else None

    def self(self) -> Any:
        return self._python


class _Module:
    """A module, whose widget is made when somebody first asks for it."""

    def __init__(self, name: str, make: Callable[[Any], Any]) -> None:
        self.name = name
        self._make = make
        self.widget: Any = None

    def widgetRepresentation(self) -> Any:
        import slicer

        if self.widget is None:
            self.widget = slicer.qSlicerScriptedLoadableModuleWidget(self._make)
            self.widget.self().setup()
        return self.widget


class ModuleManager(Checked):
    """slicer.app.moduleManager()."""

    slicer_name = "slicer.app.moduleManager()"

    def __init__(self) -> None:
        self.modules: dict[str, _Module] = {}

    def module(self, name: str) -> Any:
        return self.modules.get(name)

    def add(self, name: str, make: Callable[[Any], Any]) -> None:
        """Have a module; `make` makes its widget class, given its parent."""
        self.modules[name] = _Module(name, make)


class MainWindow(QtWidgets.QWidget):
    """qSlicerMainWindow: one of some modules is chosen, and in view."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        QtWidgets.QVBoxLayout(self)
        self.chosen = ""

    def moduleSelector(self) -> Any:
        return self

    def selectModule(self, name: str) -> None:
        """As Slicer: the module before is left, then this one is entered."""
        import slicer

        if name == self.chosen:
            return
        if self.chosen:
            before = slicer.util.getModuleWidget(self.chosen)
            before.exit()
            QtWidgets.QWidget.hide(before.parent)
        self.chosen = name
        after = slicer.util.getModuleWidget(name)
        QtWidgets.QWidget.layout(self).addWidget(after.parent)
        QtWidgets.QWidget.show(after.parent)
        after.enter()


SLICER = {"qSlicerScriptedLoadableModuleWidget": ModuleWidget, "qSlicerMainWindow": MainWindow}
