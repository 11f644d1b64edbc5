"""Slicer's base classes for scripted modules, with the behaviour that its own have, in plain Python."""

from __future__ import annotations

import inspect
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any


class VTKObservationMixin:
    """Observations that are all taken back at once."""

    def __init__(self) -> None:
        super().__init__()
        self.Observations: list[tuple[Any, Any, Any, int]] = []

    def addObserver(self, obj: Any, event: Any, method: Any, *_more: Any) -> None:
        self.Observations.append((obj, event, method, obj.AddObserver(event, method)))

    def removeObserver(self, obj: Any, event: Any, method: Any) -> None:
        for entry in list(self.Observations):
            if entry[:3] == (obj, event, method):
                obj.RemoveObserver(entry[3])
                self.Observations.remove(entry)

    def removeObservers(self, method: Any = None) -> None:
        for entry in list(self.Observations):
            if method is None or entry[2] == method:
                entry[0].RemoveObserver(entry[3])
                self.Observations.remove(entry)

    def hasObserver(self, obj: Any, event: Any, method: Any) -> bool:
        return any(entry[:3] == (obj, event, method) for entry in self.Observations)


class ScriptedLoadableModule:
    """What a module says about itself."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    """A module's panel; `parent` is a widget with a vertical layout."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = parent.layout() if parent is not None else None
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.logic: Any = None

    def resourcePath(self, name: str) -> str:
        return str(Path(inspect.getfile(type(self))).parent / "Resources" / name)

    def setup(self) -> None:
        """Reload buttons belong here; there are none."""

    def cleanup(self) -> None:
        """Called when the module is unloaded."""


class ScriptedLoadableModuleLogic:
    """A module's logic."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        import slicer

        scene = slicer.mrmlScene
        for number in range(scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode")):
            node = scene.GetNthNodeByClass(number, "vtkMRMLScriptedModuleNode")
            if node.GetAttribute("ModuleName") == self.moduleName:
                return node
        node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(self.moduleName)
        node.SetModuleName(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(self.moduleName)
        return scene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's self-test."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*(arguments or ("runTest",)))

    def runTest(self) -> None:
        """Overridden by the module."""

    def delayDisplay(self, message: str, *_more: Any) -> None:
        """Slicer shows the message for a moment."""


def _translate(_context: str, text: str) -> str:
    return text


def install(slicer: ModuleType) -> None:
    """Make these importable as ``slicer.ScriptedLoadableModule``, ``slicer.util`` and ``slicer.i18n``."""
    import slicer.util

    module = ModuleType("slicer.ScriptedLoadableModule")
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(module, kind.__name__, kind)
    module.__all__ = [name for name in vars(module) if name.startswith("Scripted")]  # type: ignore[attr-defined]
    i18n = ModuleType("slicer.i18n")
    i18n.tr = str  # type: ignore[attr-defined]
    i18n.translate = _translate  # type: ignore[attr-defined]
    sys.modules["slicer.ScriptedLoadableModule"] = slicer.ScriptedLoadableModule = module  # type: ignore[attr-defined]
    sys.modules["slicer.i18n"] = slicer.i18n = i18n  # type: ignore[attr-defined]
    slicer.util.VTKObservationMixin = VTKObservationMixin
