"""The panel: what is seen and clicked. What it means is the session's and the tools' business."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from biosam2.frames import CT_PRESETS
from slicer.i18n import tr as _

from ..scene.DicomSource import modalityOf
from ..scene.Parameters import SEGMENTATION_ROLE, VOLUME_ROLE
from ..scene.ViewPlanes import backgroundVolume, showVolume, tiltOfViews, turnViews
from ..session.PanelSession import PanelSession
from ..worker.ProcessDriver import ProcessDriver
from ..worker.WorkerPlace import WorkerPlace, readPlace
from .AdvancedPanel import AdvancedPanel
from .Controls import ContentsWidth, fillChoice, loadSection
from .EditorChoice import EFFECT, EditorChoice
from .ExportPanel import ExportPanel
from .ModelChooser import ModelChooser
from .ModelView import ModelView
from .PromptActions import PromptActions
from .PromptPanel import PromptPanel
from .PromptTools import BOX, NONE, POINT
from .PropagationPanel import PropagationPanel
from .RangePanel import RangePanel
from .ReviewPanel import ReviewPanel
from .Shortcuts import Shortcuts
from .Status import Status
from .StatusLine import Situation
from .StatusPanel import StatusPanel
from .VideoPanel import VideoPanel
from .WorklistLogic import WorklistLogic
from .WorklistPanel import WorklistPanel

NAME = "BioSAM2Slicer"
VOLUME_CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode")
# Keys that the Segment Editor has itself; of the panel's, that of the worklist besides, which is not seen there.
_NOT_IN_EDITOR = ("Esc", "Ctrl+Z", "Ctrl+Shift+Z", "Ctrl+Return", "Ctrl+Enter")


class Widget:
    """The module's panel, and what it lends to the Segment Editor's effect: one session, the same tools.

    Attributes:
        session, actions, status, range: what every door to the session shows.

    Args:
        layout: where the panel is put.
        getParameterNode: gives the node that carries the settings in the scene.
        makeDriver: makes a driver of a worker process; by default where the settings say.
        modelFields: see `PanelSession`.
        onChangePlace: called when the user wants to choose anew where the network runs.

    Example:
        >>> widget = Widget(self.layout, logic.getParameterNode)
        >>> widget.enter()
    """

    def __init__(
        self,
        layout: Any,
        getParameterNode: Callable[[], Any],
        makeDriver: Callable[[], ProcessDriver] | None = None,
        modelFields: dict[str, Any] | None = None,
        onChangePlace: Callable[[], None] | None = None,
    ) -> None:
        self._getParameterNode = getParameterNode
        self._onChangePlace = onChangePlace
        self._place: WorkerPlace = readPlace(slicer.app.userSettings())
        self._chosen = EditorChoice()
        self.session = PanelSession(getParameterNode(), self._editorNode(), makeDriver or self._makeDriver, modelFields)
        # Whether the module is chosen; Slicer's side of the effect that is, in a Segment Editor.
        self._inModule = False
        self._lent: Any = None
        self._following = False
        self._filling = False
        self._begun = False
        self._volumesSeen = 0
        self._build(layout)
        self._connect()
        actions = self.actions
        self._shortcuts = Shortcuts(
            {
                "P": lambda: actions.toggle(POINT),
                "B": lambda: actions.toggle(BOX),
                "S": lambda: actions.toggle("scribble"),
                "L": lambda: actions.toggle("lasso"),
                "D": actions.line,
                "M": actions.mask,
                "T": actions.switchSign,
                "E": lambda: self._editor.selectNextSegment(),
                "R": actions.reset,
                "V": lambda: actions.show(not actions.shown),
                "Ctrl+Z": actions.undo,
                "Ctrl+Shift+Z": actions.redo,
                "N": self._review.next,
                "Del": actions.delete,
                "Shift+Space": self._propagation.propagate,
                "Esc": actions.cancel,
                "Ctrl+Return": self.worklist.approveAndNext,
                "Ctrl+Enter": self.worklist.approveAndNext,
            }
        )
        scene = slicer.mrmlScene
        kinds = slicer.vtkMRMLScene
        self._sceneTags = [
            scene.AddObserver(kinds.StartCloseEvent, self._onSceneClosing),
            scene.AddObserver(kinds.EndCloseEvent, self._onSceneReplaced),
            scene.AddObserver(kinds.StartImportEvent, self._onSceneImporting),
            scene.AddObserver(kinds.EndImportEvent, self._onSceneReplaced),
            scene.AddObserver(kinds.EndBatchProcessEvent, self._onBatchDone),
            scene.AddObserver(kinds.NodeAddedEvent, self._onNodeAdded),
        ]
        self._fromScene()

    # -- Slicer's calls --------------------------------------------------------------------------

    def enter(self) -> None:
        """The module was chosen."""
        if self._inModule:
            return
        first = not self._entered
        self._inModule = True
        if self._lent is None:
            self.session.useEditor(self._editorNode())
        self._editor.setupViewObservations()
        self._modelView.enter()
        self._open(first)

    def exit(self) -> None:
        """Another module was chosen: mouse and keys are Slicer's again. A propagation goes on."""
        if self._inModule:
            self._inModule = False
            self._editor.setActiveEffectByName("")
            self._editor.removeViewObservations()
            self._modelView.exit()
            self._close()

    def lend(self, effect: Any) -> None:
        """The effect was chosen: what its Segment Editor shows is worked on, under that editor's masking settings.

        Args:
            effect: Slicer's side of it. It is put down when the effect is chosen in another editor, or the panel ends.
        """
        if self._lent is not None:
            self._lent.selectEffect("")
        first = not self._entered
        self._lent = effect
        self._follow(self.session.volumeNode, self.session.segmentationNode)
        self._open(first)

    def takeBack(self, effect: Any) -> None:
        """The effect was put down. A propagation goes on, under the same masking settings."""
        if self._lent is effect:
            # The editor may have none while a scene is closed.
            node = None if self._inModule else effect.parameterSetNode()
            self.session.useEditor(node or self._editorNode())
            self._lent = None
            self._close()

    def followEditor(self) -> None:
        """Work on what the Segment Editor shows now whose effect is chosen."""
        if self._lent is not None and not self._following and not slicer.mrmlScene.IsBatchProcessing():
            self._follow(self._volumeSelector.currentNode(), self._segmentationSelector.currentNode())

    @property
    def segment(self) -> str:
        """The chosen segment's identifier; empty for none."""
        return self._chosen.segment

    @property
    def _entered(self) -> bool:
        """Whether mouse and keys are the panel's."""
        return self._inModule or self._lent is not None

    def _follow(self, volumeNow: Any, segmentationNow: Any) -> None:
        node = self._lent.parameterSetNode()
        if node is None:
            return
        volume, segmentation = node.GetSourceVolumeNode(), node.GetSegmentationNode()
        segment = node.GetSelectedSegmentID()
        self._following = True
        self.session.useEditor(node, self._lent.saveStateForUndo)
        if volume is not volumeNow or segmentation is not segmentationNow:
            self._takeInput(volume, segmentation)
        if segment:
            self._editor.setCurrentSegmentID(segment)
        self._following = False

    def _open(self, first: bool) -> None:
        self._takeKeys()
        if first:
            self._takeVolume()
            self._onInput()
            self._followViews()

    def _close(self) -> None:
        self._takeKeys()
        self.actions.tools.use(NONE)
        if not self._entered:
            self._review.exit()

    def _takeKeys(self) -> None:
        if not self._entered:
            self._shortcuts.disable()
            return
        window = slicer.util.mainWindow() or self._root.window()
        self._shortcuts.enable(window, () if self._inModule else _NOT_IN_EDITOR)

    def cleanup(self) -> None:
        """The module is unloaded, or Slicer quits."""
        effect = self._lent
        if effect is not None:
            effect.selectEffect("")
            self.takeBack(effect)
        self.exit()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []
        if self._layoutManager is not None:
            self._layoutManager.layoutChanged.disconnect(self._followViews)
        self.worklist.cleanup()
        self._list.cleanup()
        self._chosen.follow(None)
        self._prompts.cleanup()
        self.actions.cleanup()
        self._models.cleanup()
        self._export.cleanup()
        for part in (self._propagation, self.range, self._modelView, self._advanced, self._video):
            part.cleanup()
        self.session.cleanup()
        # The session still says that it has ended.
        self._statusPanel.cleanup()
        self.status.cleanup()
        for widget in self._loaded:
            widget.setMRMLScene(None)
        self._root.setParent(None)
        self._root.deleteLater()

    def _followViews(self, *_layout: Any) -> None:
        """Take in the slice views that the layout has now."""
        if not self._entered:
            return
        self._review.enter()
        if self._inModule:
            self._modelView.enter()
        self.actions.tools.followViews()
        self._refresh()

    # -- what is seen ----------------------------------------------------------------------------

    def _build(self, layout: Any) -> None:
        """Status on top and propagation below are always in view; the sections between them are scrolled.

        Slicer's module panel gives the module the height that is left, so that its own scroll area has nothing to do.
        """
        self._root, frame = loadSection("Panel")
        self.status = Status(self._situation)
        self._statusPanel = StatusPanel(self.status)
        self.range = RangePanel(
            self.session, lambda: self.segment, self.status, comeBack=lambda: self._video.backToVideo()
        )
        self._propagation = PropagationPanel(self.session, lambda: self.segment, self.status, self.range)
        self._review = ReviewPanel(
            self.session,
            lambda: self.segment,
            self.status,
            isElsewhere=lambda: self._video.masksShown,
            comeBack=lambda: self._video.backToVideo(),
        )
        self._advanced = AdvancedPanel(self.session, self.range.widget)
        self.worklist = WorklistLogic(self.session, self._getParameterNode, lambda: self.session.model, self._takeCase)
        self._list = WorklistPanel(self.worklist)
        self._export = ExportPanel(
            self.session,
            lambda: self.session.model,
            self.status.remark,
            refuse=self.status.problem,
            getReview=self.worklist.review,
        )
        self._buildInput()
        self.actions = PromptActions(
            self.session,
            self._volumeSelector.currentNode,
            lambda: self.segment,
            self._segment,
            self._makeWay,
            isElsewhere=lambda: self._video.masksShown,
            status=self.status,
        )
        self._video = VideoPanel(
            self.session,
            self._volumeSelector.currentNode,
            self._takeVideo,
            promptsShown=lambda: self.actions.shown,
            say=self.status.remark,
            refuse=self.status.problem,
        )
        self._video.leftVideo.connect(self._onLeftVideo)
        self._prompts = PromptPanel(self.actions)
        self._buildSegments()
        self._loaded = [self._inputWidget, self._segmentsWidget]
        frame.top.layout().addWidget(self._statusPanel.widget)
        sections = frame.sections.layout()
        for widget in (
            self._list.widget,
            self._inputWidget,
            self._video.widget,
            self._prompts.widget,
            self._segmentsWidget,
            self._review.widget,
            self._advanced.widget,
            self._export.widget,
        ):
            sections.addWidget(widget)
        sections.addStretch(1)
        frame.bottom.layout().addWidget(self._propagation.widget)
        self._width = ContentsWidth(frame.scroll, frame.sections)
        layout.addWidget(self._root)

    def _buildInput(self) -> None:
        self._inputWidget, ui = loadSection("Input")
        self._inputSection = ui.inputCollapsibleButton
        self._volumeSelector, self._segmentationSelector = ui.volume, ui.segmentation
        self._windowBox, self._planesButton = ui.window, ui.planes
        fillChoice(self._windowBox, [(_("What the slice view shows"), "view"), (_("Automatic"), "auto")])
        fillChoice(self._windowBox, [(_("CT {name}").format(name=name), name) for name in CT_PRESETS])
        self._inputWidget.setMRMLScene(slicer.mrmlScene)
        self._modelView = ModelView(self.session, ui.modelView)
        self._planesButton.visible = False
        self._models = ModelChooser(self._place)
        ui.modelRow.layout().addWidget(self._models.widget)
        self._models.placeButton.visible = self._onChangePlace is not None
        if self._onChangePlace is not None:
            self._models.placeButton.clicked.connect(lambda *_: self._onPlace())

    def _buildSegments(self) -> None:
        self._segmentsWidget, ui = loadSection("Segments")
        self._editor = ui.segments
        # The effect offers what the panel has itself.
        order = dict.fromkeys((*self._editor.effectNameOrder(), *self._editor.availableEffectNames()))
        self._editor.setEffectNameOrder([name for name in order if name != EFFECT])
        self._editor.unorderedEffectsVisible = False
        self._segmentsWidget.setMRMLScene(slicer.mrmlScene)
        self._takeEditorNode()

    def _connect(self) -> None:
        self._volumeSelector.currentNodeChanged.connect(lambda *_node: self._onInput())
        self._segmentationSelector.currentNodeChanged.connect(lambda *_node: self._onInput())
        self._models.chosen.connect(lambda *_name: self._onSettings())
        self._models.said.connect(self.status.remark)
        self._models.refused.connect(self.status.problem)
        self.session.modelsOffered.connect(self._models.offer)
        self.session.stateChanged.connect(self._advise)
        self._windowBox.currentIndexChanged.connect(lambda *_index: self._onSettings())
        # Unfolding shows what was hidden while the section was folded.
        self._inputSection.contentsCollapsed.connect(lambda _folded: self._refresh())
        self._planesButton.clicked.connect(lambda *_: self._onPlanes())
        self._chosen.segmentChanged.connect(self._onSegment)
        self._chosen.effectTaken.connect(self._onEffect)
        self.actions.changed.connect(self._refresh)
        self.session.statusChanged.connect(self.status.remark)
        self.session.noticed.connect(self.status.notice)
        self.session.problem.connect(self.status.problem)
        self.session.warned.connect(self.status.warn)
        self.worklist.said.connect(self.status.remark)
        self.worklist.problem.connect(self.status.problem)
        self.worklist.noticed.connect(self.status.notice)
        self.session.workingChanged.connect(self.status.refresh)
        self.session.progressChanged.connect(self.status.progress)
        self._review.changed.connect(self.status.refresh)
        self._review.turned.connect(self.worklist.notice)
        # None where Slicer runs without its window.
        self._layoutManager = slicer.app.layoutManager()
        if self._layoutManager is not None:
            self._layoutManager.layoutChanged.connect(self._followViews)

    def _refresh(self) -> None:
        """Make sections show what can be done."""
        self._export.refresh()
        self._video.refresh()
        volume = self._volumeSelector.currentNode()
        self._planesButton.visible = volume is not None and self._tilt(volume) > 0
        self._foldInput()
        self.status.refresh()

    def _tilt(self, volume: Any) -> float:
        return tiltOfViews(volume) if volume.GetImageData() is not None else 0.0

    def _foldInput(self) -> None:
        """With the first prompt input and model make room; without an input they are what is needed."""
        begun = self.session.begun
        if begun != self._begun:
            self._begun = begun
            self._inputSection.collapsed = begun

    def _situation(self) -> Situation:
        """The facts for the status line."""
        session = self.session
        volume, segmentation = self._volumeSelector.currentNode(), self._segmentationSelector.currentNode()
        segment = self._chosen.segment
        states, shown = self._review.strip.states, self._review.strip.current
        return Situation(
            volumes=self._volumeCount(),
            volume=volume is not None,
            refused=volume is not None and segmentation is not None and session.prompts is None and self._entered,
            tilt=self._tilt(volume) if volume is not None else 0.0,
            tool=self.actions.tools.tool,
            positive=self.actions.tools.positive,
            effect=self._chosen.effect,
            marked=session.isPrompted(segment),
            propagated=any(state.propagated for state in states),
            shown=shown,
            words=states[shown].words() if shown is not None and shown < len(states) else "",
            left=self._review.left,
            working=session.working,
            running=session.running,
        )

    # -- what the user does ----------------------------------------------------------------------

    def _onInput(self) -> None:
        if not self._filling and self._entered:
            self._useInput()

    def _useInput(self) -> None:
        """Work on what the selectors show."""
        node = self._getParameterNode()
        volume, segmentation = self._volumeSelector.currentNode(), self._segmentationSelector.currentNode()
        node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID() if volume is not None else None)
        node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentation.GetID() if segmentation is not None else None)
        self.actions.tools.use(NONE)
        before = self.session.prompts
        if volume is None or segmentation is None:
            self.session.setInput(None, None)
        else:
            self.session.setInput(volume, segmentation)
            self._editor.setSegmentationNode(segmentation)
            self._editor.setSourceVolumeNode(volume)
        if self.session.prompts is not None and self.session.prompts is not before:
            self.session.prompts.added.connect(lambda *_prompt: self.status.acted())
        self.status.acted()
        self._refresh()

    def _takeCase(self, volume: Any, segmentation: Any) -> None:
        """Make a case of the list the input; None twice for none."""
        self._takeInput(volume, segmentation)
        if volume is not None:
            showVolume(volume)

    def _takeInput(self, volume: Any, segmentation: Any) -> None:
        self._filling = True
        self._volumeSelector.setCurrentNode(volume)
        self._segmentationSelector.setCurrentNode(segmentation)
        self._filling = False
        self._useInput()

    def _takeVideo(self, video: Any) -> None:
        """Work on the frames of a sequence, in the segmentation that was begun on them."""
        segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        own = (node for node in segmentations if node.GetNodeReference(role) is video)
        self._takeCase(video, next(own, None))

    def _onPlace(self) -> None:
        """Another place needs another panel, which does not know the steps of this one."""
        text = _("Prompts and masks are kept. Earlier steps can no longer be undone. Choose another place?")
        if self.session.canUndo and not slicer.util.confirmOkCancelDisplay(text, windowTitle=_("BioSAM2Slicer")):
            return
        assert self._onChangePlace is not None
        self._onChangePlace()

    def _advise(self) -> None:
        """Recommend a model for what is segmented, once a worker has told where it runs."""
        volume = self._volumeSelector.currentNode()
        self._models.advise(modalityOf(volume) if volume is not None else "", self.session.model.device)

    def _onSettings(self) -> None:
        if not self._filling:
            self.status.acted()
            self.session.setParameters(
                window=self._windowBox.currentData,
                model=self._models.name,
            )

    def _segment(self) -> str:
        """The chosen segment; a segmentation and a segment are made where there is none.

        Each act on a slice asks for it: the views show the volume from here on.
        """
        self._video.backToVideo()
        volume = self._volumeSelector.currentNode()
        if volume is None:
            self.status.problem(_("Choose a volume first."))
            return ""
        if self._segmentationSelector.currentNode() is None:
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLSegmentationNode", _("{volume} segmentation").format(volume=volume.GetName())
            )
            node.CreateDefaultDisplayNodes()
            self._segmentationSelector.setCurrentNode(node)
        if self.session.prompts is None:
            return ""
        if not self._chosen.segment:
            added = self.session.segmentationNode.GetSegmentation().AddEmptySegment()
            self._editor.setCurrentSegmentID(added)
        return self._chosen.segment

    def _makeWay(self) -> None:
        """A tool is going to be taken up: no effect has the mouse."""
        self._editor.setActiveEffectByName("")

    def _onSegment(self) -> None:
        if self._lent is not None and not self._following:
            self._lent.parameterSetNode().SetSelectedSegmentID(self._chosen.segment)
        self.actions.followSegment()
        self._review.refreshSoon()
        self._refresh()

    def _onEffect(self) -> None:
        """An effect has the mouse: the tool in hand would take it away."""
        if self._chosen.effect:
            self._video.backToVideo()
        if self.actions.tools.tool != NONE:
            self.actions.tools.use(NONE)
        self.status.refresh()

    def _onLeftVideo(self) -> None:
        """The browser's images are shown: what a tool or an effect marked there would lie on another frame."""
        self.actions.tools.use(NONE)
        self._editor.setActiveEffectByName("")

    def _onPlanes(self) -> None:
        volume = self._volumeSelector.currentNode()
        if volume is not None:
            turnViews(volume)
        self._refresh()

    def _makeDriver(self) -> ProcessDriver:
        return ProcessDriver(self._place.command(), self._place.environment)

    # -- the scene -------------------------------------------------------------------------------

    def _editorNode(self) -> Any:
        """The Segment Editor settings of this panel; other segments keep their voxels unless the user says so."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(NAME, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(NAME)
            node = scene.AddNode(node)
        if not node.GetAttribute(NAME):
            node.SetAttribute(NAME, "1")
            node.SetOverwriteMode(node.OverwriteNone)
        return node

    def _onSceneClosing(self, *_event: Any) -> None:
        self.status.clear()
        self.worklist.leaveScene()
        self.actions.tools.use(NONE)
        self.session.setInput(None, None)

    def _takeEditorNode(self) -> None:
        node = self._editorNode()
        self._editor.setMRMLSegmentEditorNode(node)
        self._chosen.follow(node)

    def _onSceneImporting(self, *_event: Any) -> None:
        # What selectors show meanwhile is not what the user chose.
        self._filling = True

    def _onSceneReplaced(self, *_event: Any) -> None:
        self.session.setNodes(self._getParameterNode(), self._editorNode())
        self._takeEditorNode()
        self._fromScene()
        self.followEditor()

    def _onNodeAdded(self, *_event: Any) -> None:
        if self._volumeCount() > self._volumesSeen:
            # Its voxels come after it.
            qt.QTimer.singleShot(0, self._onVolumeCame)

    def _onVolumeCame(self) -> None:
        if self._sceneTags and self._entered and not slicer.mrmlScene.IsBatchProcessing():
            self._takeVolume()
            self.status.refresh()

    def _volumeCount(self) -> int:
        return sum(slicer.mrmlScene.GetNumberOfNodesByClass(kind) for kind in VOLUME_CLASSES)

    def _takeVolume(self) -> None:
        """Where no volume is chosen, take one that came since: the one that the views show, or the only one."""
        came = self._volumeCount() > self._volumesSeen
        self._volumesSeen = self._volumeCount()
        if not came or self._volumeSelector.currentNode() is not None:
            return
        shown = backgroundVolume()
        if shown is None and self._volumesSeen == 1:
            shown = next(
                node for kind in VOLUME_CLASSES if (node := slicer.mrmlScene.GetFirstNodeByClass(kind)) is not None
            )
        if shown is not None:
            self._volumeSelector.setCurrentNode(shown)

    def _onBatchDone(self, *_event: Any) -> None:
        """The editor widget takes a segmentation by itself after nodes came or went; it is to show the session's."""
        self._onVolumeCame()
        node = self.session.segmentationNode
        if node is not None and self._editor.segmentationNode() is not node:
            self._editor.setSegmentationNode(node)
            self._editor.setSourceVolumeNode(self.session.volumeNode)

    def _fromScene(self) -> None:
        """Show the settings that the scene holds, and go on with its volume and segmentation."""
        parameters = self.session.parameters
        node = self._getParameterNode()
        self._filling = True
        self._windowBox.currentIndex = max(self._windowBox.findData(parameters.window), 0)
        self._advanced.refresh()
        self._models.show(parameters.model)
        volume = node.GetNodeReference(VOLUME_ROLE)
        self._volumeSelector.setCurrentNode(volume)
        self._segmentationSelector.setCurrentNode(node.GetNodeReference(SEGMENTATION_ROLE))
        self._volumesSeen = 0
        self._takeVolume()
        self._filling = False
        self._onInput()
        self._refresh()
