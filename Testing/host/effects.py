"""Effects of the Segment Editor that are written in Python: Slicer's side of them, and their registry.

What is called when, and what the names are, was read in Slicer's source (qSlicerSegmentEditorScriptedEffect,
qSlicerSegmentEditorAbstractEffect, qSlicerSegmentEditorEffectFactory).
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from PySide6 import QtCore, QtWidgets

from . import qt_module
from .widgets import stored


class ScriptedEffect(QtCore.QObject):
    """qSlicerSegmentEditorScriptedEffect: holds the effect in Python, and calls what it has of the methods."""

    name = stored("name", str, "UnnamedScriptedEffect")
    title = stored("title", str, "")
    perSegment = stored("perSegment", bool, True)
    requireSegments = stored("requireSegments", bool, True)
    showEffectCursorInSliceView = stored("showEffectCursorInSliceView", bool, True)
    showEffectCursorInThreeDView = stored("showEffectCursorInThreeDView", bool, False)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._python: Any = None
        self._editor: Any = None
        self._node: Any = None
        self._active = False
        self._frame = QtWidgets.QFrame()
        layout = QtWidgets.QFormLayout(self._frame)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)

    # -- what the effect in Python calls ---------------------------------------------------------

    def setPythonSource(self, path: str) -> bool:
        """The folder's name is the module's, whatever else has that name; the file's name is the class's."""
        folder, kind = Path(path).parent.name, Path(path).stem
        if not hasattr(sys.modules.get(folder), kind):
            spec = importlib.util.spec_from_file_location(folder, path)
            sys.modules[folder] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[folder])
        import slicer

        self._python = getattr(sys.modules[folder], kind)(self)
        setattr(slicer, folder, self._python)
        return True

    def self(self) -> Any:
        return self._python

    def parameterSetNode(self) -> Any:
        return self._node

    def active(self) -> bool:
        return self._active

    def optionsFrame(self) -> Any:
        return self._frame

    def addOptionsWidget(self, widget: Any) -> None:
        QtWidgets.QWidget.setParent(widget, self._frame)
        policy = QtWidgets.QSizePolicy.Policy
        QtWidgets.QWidget.setSizePolicy(widget, policy.Preferred, policy.MinimumExpanding)
        self._frame.layout().addRow(widget)

    def selectEffect(self, name: str) -> None:
        self._editor.setActiveEffectByName(name)

    def saveStateForUndo(self) -> None:
        self._editor.saveStateForUndo()

    # -- what the editor calls -------------------------------------------------------------------

    def join(self, editor: Any) -> None:
        """The editor has a copy of the effect of its own."""
        self._editor = editor
        self.call("setupOptionsFrame")
        self._frame.setVisible(False)

    def setParameterSetNode(self, node: Any) -> None:
        self._node = node
        self.call("setMRMLDefaults")

    def activate(self) -> None:
        self._frame.setVisible(True)
        self._active = True
        self.call("updateGUIFromMRML")
        self.call("activate")

    def deactivate(self) -> None:
        self._frame.setVisible(False)
        self._active = False
        self.call("deactivate")

    def interactionNodeModified(self, node: Any) -> None:
        if hasattr(self._python, "interactionNodeModified"):
            self.call("interactionNodeModified", node)
        elif node.GetCurrentInteractionMode() != node.ViewTransform:
            self.selectEffect("")

    def call(self, method: str, *arguments: Any) -> Any:
        """Slicer prints what the effect raises, and goes on."""
        function = getattr(self._python, method, None)
        try:
            return function(*arguments) if function is not None else None
        except Exception:  # noqa: BLE001
            sys.excepthook(*sys.exc_info())
            return None


class EffectFactory(QtCore.QObject):
    """qSlicerSegmentEditorEffectFactory: the effects that are copied into each editor."""

    effectRegistered = QtCore.Signal(str)
    _instance: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._effects: list[Any] = []

    @staticmethod
    def instance() -> Any:
        return EffectFactory._instance

    def registerEffect(self, effect: Any) -> bool:
        if any(known.name == effect.name for known in self._effects):
            return False
        self._effects.append(effect)
        self.effectRegistered.emit(effect.name)
        return True

    def registeredEffects(self) -> list[Any]:
        return list(self._effects)

    def copies(self, names: list[str]) -> list[Any]:
        """Copies of the effects that have none of these names."""
        return [effect.self().clone() for effect in self._effects if effect.name not in names]

    def forget(self) -> None:
        """As at the start of Slicer."""
        self._effects.clear()


class AbstractScriptedSegmentEditorEffect:
    """The base class of effects in Python."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        EffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None:
        """What an effect holds is released in its own."""


def install(slicer: ModuleType) -> None:
    """Make the modules importable by which effects are written and registered."""
    slicer.qSlicerSegmentEditorEffectFactory = qt_module.derive("qSlicerSegmentEditorEffectFactory", EffectFactory)
    EffectFactory._instance = slicer.qSlicerSegmentEditorEffectFactory()
    wrappers = ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    wrappers.qSlicerSegmentEditorScriptedEffect = qt_module.derive(  # type: ignore[attr-defined]
        "qSlicerSegmentEditorScriptedEffect", ScriptedEffect
    )
    base = ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect  # type: ignore[attr-defined]
    for module in (wrappers, base):
        sys.modules[module.__name__] = module
