"""BioSAM2Slicer: mark a structure on one slice, and carry its outline through the volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class BioSAM2Slicer(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("BioSAM2Slicer")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "SegmentEditor", "Markups"]
        parent.contributors = ["The BioSAM2Slicer authors"]
        parent.helpText = _(
            "Click into a structure or draw a box around it on one slice; BioSAM-2 outlines it there and carries the "
            "outline through the volume. The result is an ordinary segmentation."
        )
        parent.acknowledgementText = _("BioSAM-2: arXiv 2408.03286. Built on SAM 2 (Meta) and 3D Slicer.")
        icon = iconPath()
        if icon is not None:
            import qt

            parent.icon = qt.QIcon(str(icon))
        # Sample Data and the Segment Editor's effects may be loaded after this module.
        slicer.app.startupCompleted.connect(self.onStartupCompleted)

    def onStartupCompleted(self) -> None:
        from BioSAM2SlicerLib.ui.SampleVolume import registerSampleVolume

        newEffect().self().register()
        registerSampleVolume(iconPath())


def newEffect() -> Any:
    """Slicer's side of the effect of the Segment Editor, with ours loaded into it."""
    from qSlicerSegmentationsEditorEffectsPythonQt import qSlicerSegmentEditorScriptedEffect

    effect = qSlicerSegmentEditorScriptedEffect(None)
    path = Path(__file__).resolve().parent / "BioSAM2SlicerEffect" / "SegmentEditorEffect.py"
    effect.setPythonSource(path.as_posix())
    return effect


def iconPath() -> Path | None:
    """Where the icon is: beside the module when installed, at the top of a checkout; None if it is missing."""
    folder = Path(__file__).resolve().parent
    places = [top / "Resources" / "Icons" / "BioSAM2Slicer.png" for top in (folder, folder.parent)]
    return next((place for place in places if place.is_file()), None)


class BioSAM2SlicerLogic(ScriptedLoadableModuleLogic):
    """Gives the node in which the panel keeps its settings."""


class BioSAM2SlicerWidget(ScriptedLoadableModuleWidget):
    """Hands Slicer's calls on to the panel."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.panel: Any = None
        self.installPanel: Any = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from BioSAM2SlicerLib.ui.InstallPanel import logicFor
        from BioSAM2SlicerLib.worker.WorkerPlace import readPlace

        if logicFor(readPlace(slicer.app.userSettings()).kind).complete:
            self.showPanel()
        else:
            self.showChoice()

    def showPanel(self) -> None:
        # Only now: it needs packages that Slicer does not bring.
        from BioSAM2SlicerLib.ui.Widget import Widget

        self.logic = BioSAM2SlicerLogic()
        self.panel = Widget(self.layout, self.logic.getParameterNode, onChangePlace=self.onChangePlace)
        # Reload does not call enter().
        if slicer.util.mainWindow() is not None and slicer.util.selectedModule() == self.moduleName:
            self.panel.enter()

    def showChoice(self) -> None:
        from BioSAM2SlicerLib.ui.InstallPanel import InstallPanel
        from BioSAM2SlicerLib.worker.WorkerPlace import readPlace

        self.installPanel = InstallPanel(self.layout, readPlace(slicer.app.userSettings()), self.onReady)

    def onReady(self, place: Any) -> None:
        """It is said where the network runs, and what that needs is there."""
        from BioSAM2SlicerLib.worker.WorkerPlace import writePlace

        writePlace(slicer.app.userSettings(), place)
        self.installPanel.cleanup()
        self.installPanel = None
        self.showPanel()
        self.panel.enter()

    def onChangePlace(self) -> None:
        """The work stays in the scene; the panel takes it up again afterwards, but for the steps that can be undone."""
        if self.panel.session.canUndo and not slicer.util.confirmOkCancelDisplay(
            _("Prompts and masks are kept. Earlier steps can no longer be undone."),
            windowTitle=_("Where the network runs"),
        ):
            return
        self.panel.cleanup()
        self.panel = None
        self.showChoice()

    def enter(self) -> None:
        if self.panel is not None:
            self.panel.enter()

    def exit(self) -> None:
        if self.panel is not None:
            self.panel.exit()

    def cleanup(self) -> None:
        if self.installPanel is not None:
            self.installPanel.cleanup()
            self.installPanel = None
        if self.panel is not None:
            self.panel.cleanup()
            self.panel = None


class BioSAM2SlicerTest(ScriptedLoadableModuleTest):
    """Runs inside Slicer (Reload and Test): what the demo does, where the network can run; the scene is empty then."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def tearDown(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        try:
            from BioSAM2SlicerLib.ui.SelfTest import SelfTest

            for line in SelfTest().run():
                self.delayDisplay(line)
        except AssertionError as error:
            self.delayDisplay(_("Failed: {why}").format(why=error))
            raise
        finally:
            self.tearDown()
