"""The application: scene, logics, views, and the objects that Slicer puts into its ``slicer`` module."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from PySide6 import QtCore, QtWidgets

from . import effects, event_loop, modules, qt_module, scripted, segment_editor, ui_files, widgets
from .listings import Checked
from .slice_widget import SliceWidget

SIZE = 400  # of a slice view, pixels


class _LayoutSignals(QtCore.QObject):
    changed = QtCore.Signal(int)


class _LayoutManager(Checked):
    slicer_name = "slicer.app.layoutManager()"

    def __init__(self, slice_widgets: dict[str, Any]) -> None:
        self._slices = slice_widgets
        self._signals = _LayoutSignals()
        self.layoutChanged = self._signals.changed

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slices)

    def sliceWidget(self, name: str) -> Any:
        return self._slices.get(name)


class _Startup(QtCore.QObject):
    completed = QtCore.Signal()


class _Application(Checked):
    slicer_name = "slicer.app"

    def __init__(self, host: Host, folder: Path) -> None:
        self._host = host
        self._settings = qt_module.derive("QSettings", QtCore.QSettings)(
            str(folder / "settings.ini"), QtCore.QSettings.Format.IniFormat
        )
        self.temporaryPath = str(folder)
        self.applicationName = "Slicer"
        self.applicationVersion = "5.11.0"
        self.majorVersion, self.minorVersion = 5, 11
        self.slicerHome = str(folder)
        self.aboutToQuit = host.qt_application.aboutToQuit
        self._startup = _Startup()
        self.startupCompleted = self._startup.completed

    def layoutManager(self) -> _LayoutManager:
        return self._host.layout_manager

    def applicationLogic(self) -> Any:
        return self._host.core.app_logic

    def mrmlScene(self) -> Any:
        return self._host.scene

    def userSettings(self) -> Any:
        return self._settings

    def settings(self) -> Any:
        return self._settings

    def startupEnvironment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def moduleManager(self) -> Any:
        return self._host.module_manager

    def processEvents(self) -> None:
        event_loop.process_events()

    def topLevelWidgets(self) -> list[Any]:
        return self._host.qt_application.topLevelWidgets()

    def testingEnabled(self) -> bool:
        return True

    def pauseRender(self) -> None:
        self._host.render_pauses += 1

    def resumeRender(self) -> None:
        self._host.render_pauses -= 1


class Host:
    """A Slicer for tests.

    Attributes:
        slicer: the module that the panel imports.
        scene: the MRML scene.
        views: slice widgets by name: Red (axial), Yellow (sagittal), Green (coronal).
    """

    def __init__(self) -> None:
        import slicer
        from trame_slicer.core import SlicerApp

        self.qt_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
        self.qt_application.setStyle("Fusion")
        self.slicer: ModuleType = slicer
        self.core = SlicerApp()
        self.scene = self.core.scene
        self.render_pauses = 0
        self._folder = tempfile.TemporaryDirectory(prefix="host-")
        slicer.mrmlScene = self.scene
        # Slicer's own; its module's timer, which plays, is a test's to turn (`play`).
        self._sequences = slicer.vtkSlicerSequencesLogic()
        self._sequences.SetMRMLApplicationLogic(self.core.app_logic)
        self._sequences.SetMRMLScene(self.scene)
        self._plots = slicer.vtkSlicerPlotsLogic()
        self._plots.SetMRMLApplicationLogic(self.core.app_logic)
        self._plots.SetMRMLScene(self.scene)
        self.views = {
            name: SliceWidget(self.core, name, orientation, colour, SIZE)
            for name, orientation, colour in (
                ("Red", "Axial", "#F34A33"),
                ("Yellow", "Sagittal", "#EDD54C"),
                ("Green", "Coronal", "#6EB04B"),
            )
        }
        self.layout_manager = _LayoutManager(self.views)
        self.module_manager = modules.ModuleManager()
        slicer.app = _Application(self, Path(self._folder.name))
        slicer.modules = SimpleNamespace(
            markups=SimpleNamespace(logic=lambda: self.core.markups_logic._logic),
            segmentations=SimpleNamespace(logic=lambda: self.core.segmentations_logic),
            volumes=SimpleNamespace(logic=lambda: self.core.volumes_logic),
            plots=SimpleNamespace(logic=lambda: self._plots),
            sequences=SimpleNamespace(logic=lambda: self._sequences),
        )
        qt_module.install({"QUiLoader": ui_files.UiLoader}, widgets.CTK)
        effects.install(slicer)
        for name, stand_in in {**widgets.SLICER, **segment_editor.SLICER, **modules.SLICER}.items():
            setattr(slicer, name, qt_module.derive(name, stand_in))
        scripted.install(slicer)

    def add_view(self, name: str, orientation: str) -> SliceWidget:
        """Another layout, which has one slice view more."""
        view = self.views[name] = SliceWidget(self.core, name, orientation, "#8C8C8C", SIZE)
        self.layout_manager.layoutChanged.emit(2)
        return view

    def remove_view(self, name: str) -> None:
        """The layout without it."""
        self.views.pop(name).hidden = True
        self.layout_manager.layoutChanged.emit(1)

    def close_scene(self) -> None:
        """File > Close scene."""
        self.scene.Clear(0)
        event_loop.process_events()
        for view in self.views.values():
            view.prepare()

    def show(self, volume: Any) -> None:
        """Put a volume into the background of all slice views and fit them to it."""
        for view in self.views.values():
            view.show(volume)
