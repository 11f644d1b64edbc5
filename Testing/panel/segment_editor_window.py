"""Slicer's window with the Segment Editor and the module, to be used with mouse and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from host import event_loop
from PySide6 import QtCore, QtTest, QtWidgets


class SegmentEditorModule:
    """Slicer's own module of that name."""

    def __init__(self, parent: Any) -> None:
        import slicer

        self.parent = parent
        self.editor = slicer.qMRMLSegmentEditorWidget()

    def setup(self) -> None:
        import slicer

        self.entered = False
        self._choose_node()
        self.editor.setMRMLScene(slicer.mrmlScene)
        scene = slicer.mrmlScene
        self.tags = [
            scene.AddObserver(scene.StartCloseEvent, self._on_closing),
            scene.AddObserver(scene.EndCloseEvent, self._on_replaced),
            scene.AddObserver(scene.EndImportEvent, self._on_replaced),
        ]
        QtWidgets.QWidget.layout(self.parent).addWidget(self.editor)
        self.registered = slicer.qSlicerSegmentEditorEffectFactory.instance().effectRegistered
        self.registered.connect(self._on_registered)

    def cleanup(self) -> None:
        import slicer

        self.registered.disconnect(self._on_registered)
        for tag in self.tags:
            slicer.mrmlScene.RemoveObserver(tag)
        # The real widget's observers go with it.
        self.editor.setMRMLScene(None)

    def _on_registered(self, _name: str) -> None:
        self.editor.updateEffectList()

    def enter(self) -> None:
        self.entered = True
        self.editor.installKeyboardShortcuts()
        self._choose_node()

    def exit(self) -> None:
        self.entered = False
        self.editor.setActiveEffectByName("")
        self.editor.uninstallKeyboardShortcuts()
        self.editor.removeViewObservations()

    def _on_closing(self, *_event: Any) -> None:
        self.editor.setSegmentationNode(None)
        self.editor.removeViewObservations()

    def _on_replaced(self, *_event: Any) -> None:
        if self.entered:
            self._choose_node()
            self.editor.updateWidgetFromMRML()

    def _choose_node(self) -> None:
        import slicer

        scene = slicer.mrmlScene
        node = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag("SegmentEditor")
            node = scene.AddNode(node)
        if node is not self.editor.mrmlSegmentEditorNode():
            self.editor.setMRMLSegmentEditorNode(node)


class Window:
    """Slicer's window: modules, and what is found and pressed in it.

    Args:
        host: the Slicer.
        make_module: makes the module's widget, given its parent.
    """

    def __init__(self, host: Any, make_module: Any) -> None:
        self.host = host
        manager = host.module_manager
        manager.add("BioSAM2Slicer", make_module)
        manager.add("SegmentEditor", SegmentEditorModule)
        self.window = host.slicer.qSlicerMainWindow()
        QtWidgets.QWidget.resize(self.window, 520, 900)
        QtWidgets.QWidget.show(self.window)
        QtWidgets.QWidget.activateWindow(self.window)

    @property
    def editor(self) -> Any:
        return self.host.slicer.util.getModuleWidget("SegmentEditor").editor

    @property
    def panel(self) -> Any:
        return self.host.slicer.util.getModuleWidget("BioSAM2Slicer").panel

    @property
    def session(self) -> Any:
        return self.panel.session

    @property
    def options(self) -> Any:
        """The frame of the effect's options."""
        return self.editor.effectByName("BioSAM-2").optionsFrame()

    def open(self, name: str) -> None:
        """Choose a module."""
        self.host.slicer.util.selectModule(name)
        event_loop.process_events()

    def edit(self, volume: Any, segmentation: Any) -> None:
        """Choose what the Segment Editor shows."""
        self.editor.setSegmentationNode(segmentation)
        self.editor.setSourceVolumeNode(volume)
        event_loop.process_events()

    def choose(self, effect: str = "BioSAM-2") -> None:
        """Press an effect's button."""
        QtTest.QTest.mouseClick(self.editor.findChild(QtWidgets.QToolButton, effect), QtCore.Qt.MouseButton.LeftButton)
        event_loop.process_events()

    def find(self, name: str) -> Any:
        found = self.options.findChild(QtWidgets.QWidget, name)
        assert found is not None, name
        return found

    def click(self, name: str) -> None:
        """Press a button among the options."""
        button = self.find(name)
        assert QtWidgets.QWidget.isEnabled(button), name
        assert QtWidgets.QWidget.isVisible(button), name
        QtTest.QTest.mouseClick(button, QtCore.Qt.MouseButton.LeftButton)
        event_loop.process_events()

    def press(self, key: Any, modifier: Any = QtCore.Qt.KeyboardModifier.NoModifier) -> None:
        QtTest.QTest.keyClick(self.window, key, modifier)
        event_loop.process_events()

    def settle(self) -> None:
        event_loop.wait_until(lambda: not self.session.busy, 120, "the worker to be done")
        event_loop.process_events()

    def world(self, *ijk: float) -> np.ndarray:
        return VolumeGeometry(self.editor.sourceVolumeNode()).worldFromIjk(ijk)

    def segments(self, *names: str) -> list[str]:
        """Add segments to the Segment Editor's segmentation."""
        segmentation = self.editor.segmentationNode().GetSegmentation()
        return [segmentation.AddEmptySegment(name, name) for name in names]

    def voxels(self, segment: str) -> np.ndarray:
        node, volume = self.editor.segmentationNode(), self.editor.sourceVolumeNode()
        array = self.host.slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, volume)
        return np.zeros(VolumeGeometry(volume).shape, bool) if array is None else array.astype(bool)

    def prompts(self) -> list[Any]:
        return list(self.session.prompts.prompts().values())

    @property
    def mode(self) -> Any:
        """Slicer's mouse mode."""
        return self.host.core.app_logic.GetInteractionNode().GetCurrentInteractionMode()

    def close(self) -> None:
        """Slicer quits."""
        if self.window.chosen:
            self.host.slicer.util.getModuleWidget(self.window.chosen).exit()
        modules = self.host.module_manager.modules
        for module in modules.values():
            if module.widget is not None:
                module.widget.self().cleanup()
                module.widget.deleteLater()
        modules.clear()
        QtWidgets.QWidget.close(self.window)
        self.window.deleteLater()
        self.host.slicer.qSlicerSegmentEditorEffectFactory.instance().forget()
        event_loop.process_events()
