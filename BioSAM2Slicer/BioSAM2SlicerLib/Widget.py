"""The panel: what is seen and clicked. What it means is the session's and the tools' business."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
from biosam2.frames import CT_PRESETS
from slicer.i18n import tr as _

from .Controls import makeButton, makeRow
from .EditorChoice import EditorChoice
from .ExportPanel import ExportPanel
from .ModelChooser import ModelChooser
from .ModelView import ModelView
from .Parameters import SEGMENTATION_ROLE, VOLUME_ROLE
from .PromptTools import BOX, NONE, POINT, PromptTools
from .PropagationPanel import PropagationPanel
from .ReviewPanel import ReviewPanel
from .SessionLogic import SessionLogic
from .Shortcuts import Shortcuts
from .UndoDepth import UndoDepth
from .ViewPlanes import shownSlice, tiltOfViews, turnViews
from .WorkerClient import WorkerClient
from .WorkerPlace import WorkerPlace, readPlace

NAME = "BioSAM2Slicer"


class Widget:
    """The module's panel.

    Args:
        layout: where the panel is put.
        getParameterNode: gives the node that carries the settings in the scene.
        makeClient: makes a client for a worker; by default one where the settings say.
        modelFields: see `SessionLogic`.
        onChangePlace: called when the user wants to choose anew where the network runs.

    Example:
        >>> widget = Widget(self.layout, logic.getParameterNode)
        >>> widget.enter()
    """

    def __init__(
        self,
        layout: Any,
        getParameterNode: Callable[[], Any],
        makeClient: Callable[[], WorkerClient] | None = None,
        modelFields: dict[str, Any] | None = None,
        onChangePlace: Callable[[], None] | None = None,
    ) -> None:
        self._getParameterNode = getParameterNode
        self._onChangePlace = onChangePlace
        self._place: WorkerPlace = readPlace(slicer.app.userSettings())
        self.tools = PromptTools()
        self._chosen = EditorChoice()
        self.session = SessionLogic(getParameterNode(), self._editorNode(), makeClient or self._makeClient, modelFields)
        self._entered = False
        self._filling = False
        self._build(layout)
        self._connect()
        self._shortcuts = Shortcuts(
            {
                "P": lambda: self._toggle(POINT),
                "B": lambda: self._toggle(BOX),
                "M": self._onMask,
                "T": self._onSign,
                "E": lambda: self._editor.selectNextSegment(),
                "R": self._onReset,
                "V": lambda: self._showButton.toggle(),
                "Ctrl+Z": self._onUndo,
                "Ctrl+Shift+Z": self._onRedo,
                "N": self._review.next,
                "Del": self._onDelete,
                "Shift+Space": self._propagation.propagate,
                "Esc": self._onCancel,
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
        ]
        self._fromScene()

    # -- Slicer's calls --------------------------------------------------------------------------

    def enter(self) -> None:
        """The module was chosen."""
        if self._entered:
            return
        self._entered = True
        self._shortcuts.enable(slicer.util.mainWindow() or self._root.window())
        self._editor.setupViewObservations()
        self._onInput()
        self._followViews()

    def exit(self) -> None:
        """Another module was chosen: mouse and keys are Slicer's again. A propagation goes on."""
        self._entered = False
        self._shortcuts.disable()
        self._review.exit()
        self._modelView.exit()
        self.tools.use(NONE)
        self._editor.setActiveEffectByName("")
        self._editor.removeViewObservations()

    def cleanup(self) -> None:
        """The module is unloaded, or Slicer quits."""
        if self._entered:
            self.exit()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []
        if self._layoutManager is not None:
            self._layoutManager.layoutChanged.disconnect(self._followViews)
        self._chosen.follow(None)
        self.tools.cleanup()
        self._models.cleanup()
        self._export.cleanup()
        for part in (self._propagation, self._modelView, self._undoDepth):
            part.cleanup()
        self.session.cleanup()
        for selector in (self._volumeSelector, self._segmentationSelector, self._editor):
            selector.setMRMLScene(None)
        self._root.setParent(None)
        self._root.deleteLater()

    def _followViews(self, *_layout: Any) -> None:
        """Take in the slice views that the layout has now."""
        if not self._entered:
            return
        self._review.enter()
        self._modelView.enter()
        self.tools.followViews()
        self._refresh()

    # -- what is seen ----------------------------------------------------------------------------

    def _build(self, layout: Any) -> None:
        self._root = qt.QWidget()
        self._root.objectName = "BioSAM2SlicerPanel"
        column = qt.QVBoxLayout(self._root)
        column.setContentsMargins(0, 0, 0, 0)
        # On top, where it is seen without scrolling.
        self._status = qt.QLabel("")
        self._status.objectName = "status"
        self._status.wordWrap = True
        column.addWidget(self._status)
        column.addWidget(self._buildInput())
        column.addWidget(self._buildPrompts())
        column.addWidget(self._buildSegments())
        self._propagation = PropagationPanel(self.session, lambda: self._chosen.segment, self._say)
        column.addWidget(self._propagation.widget)
        self._review = ReviewPanel(self.session, lambda: self._chosen.segment, self._say)
        column.addWidget(self._review.widget)
        self._export = ExportPanel(self.session, lambda: self.session.modelUsed, self._say)
        column.addWidget(self._export.widget)
        column.addStretch(1)
        layout.addWidget(self._root)

    def _section(self, title: str) -> tuple[Any, Any]:
        section = ctk.ctkCollapsibleButton()
        section.text = title
        return section, qt.QFormLayout(section)

    def _buildInput(self) -> Any:
        section, form = self._section(_("Input"))
        self._volumeSelector = self._nodeSelector("volume", ["vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"])
        form.addRow(_("Volume:"), self._volumeSelector)
        self._segmentationSelector = self._nodeSelector("segmentation", ["vtkMRMLSegmentationNode"])
        self._segmentationSelector.noneDisplay = _("New segmentation")
        form.addRow(_("Segmentation:"), self._segmentationSelector)
        self._windowBox = self._choice("window", [(_("What the slice view shows"), "view"), (_("Automatic"), "auto")])
        for name in CT_PRESETS:
            self._windowBox.addItem(_("CT {name}").format(name=name), name)
        self._windowBox.toolTip = _("The brightness and contrast in which the model sees the volume.")
        form.addRow(_("Window:"), self._windowBox)
        self._modelView = ModelView(self.session)
        form.addRow(_("The model sees:"), self._modelView.widget)
        self._filmBox = qt.QCheckBox(_("The third axis is time (a film)"))
        self._filmBox.objectName = "film"
        form.addRow(self._filmBox)
        self._planesButton = makeButton(
            "planes", _("Turn the views to the volume's planes"), _("Boxes and masks need a view along the volume.")
        )
        self._planesButton.visible = False
        form.addRow(self._planesButton)
        self._models = ModelChooser(self._place)
        form.addRow(_("Model:"), self._models.widget)
        self._deviceBox = self._choice(
            "device", [(_("Automatic"), "auto"), ("CPU", "cpu"), ("CUDA", "cuda"), ("Apple GPU", "mps")]
        )
        if self._onChangePlace is None:
            form.addRow(_("Device:"), self._deviceBox)
        else:
            self._placeButton = makeButton(
                "place", _("Where…"), _("Choose where the network runs: here, in another Python, or on a server.")
            )
            self._placeButton.clicked.connect(lambda *_: self._onChangePlace())
            form.addRow(_("Device:"), makeRow(self._deviceBox, self._placeButton))
        return section

    def _buildPrompts(self) -> Any:
        section, form = self._section(_("Prompts"))
        self._pointButton = makeButton(
            "point", _("Point (P)"), _("Click into slices to mark the structure."), checkable=True
        )
        self._boxButton = makeButton(
            "box", _("Box (B)"), _("Drag a box around the structure on a slice."), checkable=True
        )
        self._signButton = makeButton("sign", "", _("Whether the next point belongs to the structure or not."))
        self._maskButton = makeButton("mask", _("Mask (M)"), _("What is painted on this slice becomes a prompt."))
        self._showButton = makeButton("show", _("Show (V)"), _("Show or hide the prompts."), checkable=True)
        self._showButton.checked = True
        self._resetButton = makeButton("reset", _("Reset (R)"), _("Remove the segment's prompts and their masks."))
        self._undoButton = makeButton("undo", _("Undo"), _("Take back the last step (Ctrl+Z)."))
        self._redoButton = makeButton("redo", _("Redo"), _("Do it again (Ctrl+Shift+Z)."))
        form.addRow(makeRow(self._pointButton, self._boxButton, self._signButton))
        form.addRow(makeRow(self._maskButton, self._showButton, self._resetButton))
        self._startButton = makeButton(
            "startFrom", _("Start from this segment"), _("Refine and propagate what the segment holds already.")
        )
        form.addRow(makeRow(self._undoButton, self._redoButton))
        form.addRow(self._startButton)
        self._undoDepth = UndoDepth(self.session)
        form.addRow(self._undoDepth.widget)
        return section

    def _buildSegments(self) -> Any:
        section, form = self._section(_("Segments (E: next)"))
        editor = self._editor = slicer.qMRMLSegmentEditorWidget()
        editor.objectName = "segments"
        editor.segmentationNodeSelectorVisible = False
        editor.sourceVolumeNodeSelectorVisible = False
        editor.switchToSegmentationsButtonVisible = False
        editor.setMRMLScene(slicer.mrmlScene)
        self._takeEditorNode()
        form.addRow(editor)
        return section

    def _nodeSelector(self, name: str, kinds: list[str]) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.objectName = name
        selector.nodeTypes = kinds
        selector.noneEnabled = True
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.showChildNodeTypes = False
        selector.setMRMLScene(slicer.mrmlScene)
        return selector

    def _choice(self, name: str, entries: list[tuple[str, str]]) -> Any:
        box = qt.QComboBox()
        box.objectName = name
        for text, value in entries:
            box.addItem(text, value)
        return box

    def _connect(self) -> None:
        self._volumeSelector.currentNodeChanged.connect(lambda *_node: self._onInput())
        self._segmentationSelector.currentNodeChanged.connect(lambda *_node: self._onInput())
        self._models.chosen.connect(lambda *_name: self._onSettings())
        self._models.said.connect(self._say)
        self.session.modelsOffered.connect(self._models.offer)
        for box in (self._windowBox, self._deviceBox):
            box.currentIndexChanged.connect(lambda *_index: self._onSettings())
        self._pointButton.clicked.connect(lambda *_: self._toggle(POINT))
        self._boxButton.clicked.connect(lambda *_: self._toggle(BOX))
        self._signButton.clicked.connect(lambda *_: self._onSign())
        self._maskButton.clicked.connect(lambda *_: self._onMask())
        self._showButton.toggled.connect(self._onShow)
        self._resetButton.clicked.connect(lambda *_: self._onReset())
        self._undoButton.clicked.connect(lambda *_: self._onUndo())
        self._redoButton.clicked.connect(lambda *_: self._onRedo())
        self._startButton.clicked.connect(lambda *_: self._onStartFrom())
        self._planesButton.clicked.connect(lambda *_: self._onPlanes())
        self._filmBox.toggled.connect(lambda *_: self._onSettings())
        self._chosen.segmentChanged.connect(self._onSegment)
        self._chosen.effectTaken.connect(self._onEffect)
        self.tools.changed.connect(self._refresh)
        self.tools.boxDrawn.connect(self._onBox)
        self.tools.refused.connect(self._say)
        self.session.statusChanged.connect(self._say)
        self.session.problem.connect(self._say)
        self.session.warned.connect(self._say)
        self.session.stateChanged.connect(self._refresh)
        # None where Slicer runs without its window.
        self._layoutManager = slicer.app.layoutManager()
        if self._layoutManager is not None:
            self._layoutManager.layoutChanged.connect(self._followViews)
        self.session.axisOfPointer = lambda: self.tools.axisOfPointer(self.session.volumeNode)

    def _refresh(self) -> None:
        """Make buttons show what can be done."""
        ready = self.session.prompts is not None or self._volumeSelector.currentNode() is not None
        working = self.session.prompts is not None
        self._pointButton.checked = self.tools.tool == POINT
        self._boxButton.checked = self.tools.tool == BOX
        self._signButton.text = _("Belongs: + (T)") if self.tools.positive else _("Not: − (T)")
        for button in (self._pointButton, self._boxButton):
            button.enabled = ready
        for button in (self._maskButton, self._resetButton, self._startButton):
            button.enabled = working
        self._undoButton.enabled = self.session.canUndo
        self._redoButton.enabled = self.session.canRedo
        self._export.refresh()
        volume = self._volumeSelector.currentNode()
        self._planesButton.visible = volume is not None and self._tilt(volume) > 0
        self._showFilm()

    def _tilt(self, volume: Any) -> float:
        return tiltOfViews(volume) if volume.GetImageData() is not None else 0.0

    def _showFilm(self) -> None:
        before, self._filling = self._filling, True
        self._filmBox.checked = self.session.parameters.film
        self._filling = before

    def _say(self, text: str) -> None:
        self._status.text = text

    # -- what the user does ----------------------------------------------------------------------

    def _onInput(self) -> None:
        if self._filling or not self._entered:
            return
        node = self._getParameterNode()
        volume, segmentation = self._volumeSelector.currentNode(), self._segmentationSelector.currentNode()
        node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID() if volume is not None else None)
        node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentation.GetID() if segmentation is not None else None)
        self.tools.use(NONE)
        if volume is None or segmentation is None:
            self.session.setInput(None, None)
        else:
            self.session.setInput(volume, segmentation)
            self._editor.setSegmentationNode(segmentation)
            self._editor.setSourceVolumeNode(volume)
        self._refresh()
        if volume is not None and self._tilt(volume) > 0:
            self._say(
                _(
                    "This volume lies tilted in the views by {degrees:.0f}°: turn them to its planes, or use points."
                ).format(degrees=self._tilt(volume))
            )

    def _onSettings(self) -> None:
        if not self._filling:
            self.session.setParameters(
                window=self._windowBox.currentData,
                model=self._models.name,
                device=self._deviceBox.currentData,
                film=self._filmBox.checked,
            )

    def _segment(self) -> str:
        """The chosen segment; a segmentation and a segment are made where there is none."""
        volume = self._volumeSelector.currentNode()
        if volume is None:
            self._say(_("Choose a volume first."))
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

    def _toggle(self, tool: str) -> None:
        self._take(NONE if self.tools.tool == tool else tool)

    def _take(self, tool: str) -> None:
        segment = self._segment() if tool != NONE else ""
        if tool != NONE and not segment:
            self._refresh()
            return
        if tool == POINT:
            assert self.session.prompts is not None
            self._editor.setActiveEffectByName("")
            self.tools.use(POINT, pointsNode=self.session.prompts.pointsNode(segment, self.tools.positive))
            self._say(_("Click into a slice: on the structure, or beside it with −."))
        elif tool == BOX:
            self._editor.setActiveEffectByName("")
            self.tools.use(BOX, volumeNode=self.session.volumeNode)
            self._say(_("Drag a box around the structure."))
        else:
            self.tools.use(NONE)

    def _onSign(self) -> None:
        self.tools.setPositive(not self.tools.positive)
        if self.tools.tool == POINT:
            self._take(POINT)

    def _onSegment(self) -> None:
        if self.tools.tool == POINT:
            self._take(POINT)
        self._review.refreshSoon()
        self._refresh()

    def _onEffect(self) -> None:
        """An effect has the mouse: the tool in hand would take it away."""
        if self.tools.tool != NONE:
            self.tools.use(NONE)

    def _onBox(self, minIjk: tuple[float, ...], maxIjk: tuple[float, ...], axis: str) -> None:
        segment = self._segment()
        if segment:
            self.session.addBox(segment, minIjk, maxIjk, axis)

    def _onMask(self) -> None:
        segment = self._segment()
        if not segment:
            return
        axis = self.session.axis or self.tools.axisOfPointer(self.session.volumeNode)
        index = shownSlice(self.session.volumeNode, axis)
        if index is None:
            self._say(_("No slice view shows a slice of this session; turn one to the volume's plane."))
        else:
            self.session.addMask(segment, index, axis)

    def _onStartFrom(self) -> None:
        segment = self._segment()
        if segment:
            self.session.startFrom(segment, self.tools.axisOfPointer(self.session.volumeNode))

    def _onPlanes(self) -> None:
        volume = self._volumeSelector.currentNode()
        if volume is not None:
            turnViews(volume)
        self._refresh()

    def _onDelete(self) -> None:
        if self.session.prompts is not None and not self.session.prompts.deletePointed():
            self._say(_("Point at a prompt to delete it."))

    def _onShow(self, visible: bool) -> None:
        if self.session.prompts is not None:
            self.session.prompts.setVisible(visible)

    def _onReset(self) -> None:
        if self._chosen.segment:
            self.session.clear(self._chosen.segment)

    def _onUndo(self) -> None:
        self.session.undo()

    def _onRedo(self) -> None:
        self.session.redo()

    def _onCancel(self) -> None:
        if self.session.running:
            self.session.stop()
        else:
            self.tools.cancel()

    def _makeClient(self) -> WorkerClient:
        return WorkerClient(self._place.command(), self._place.environment)

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
        self.tools.use(NONE)
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

    def _onBatchDone(self, *_event: Any) -> None:
        """The editor widget takes up a segmentation by itself after nodes have come or gone; it is to show ours."""
        node = self.session.segmentationNode
        if node is not None and self._editor.segmentationNode() is not node:
            self._editor.setSegmentationNode(node)
            self._editor.setSourceVolumeNode(self.session.volumeNode)

    def _fromScene(self) -> None:
        """Show the settings that the scene holds, and go on with its volume and segmentation."""
        parameters = self.session.parameters
        node = self._getParameterNode()
        self._filling = True
        for box, value in (
            (self._windowBox, parameters.window),
            (self._deviceBox, parameters.device),
        ):
            index = box.findData(value)
            if index >= 0:
                box.currentIndex = index
        self._models.show(parameters.model)
        volume = node.GetNodeReference(VOLUME_ROLE)
        if volume is None and slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"):
            volume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self._volumeSelector.setCurrentNode(volume)
        self._segmentationSelector.setCurrentNode(node.GetNodeReference(SEGMENTATION_ROLE))
        self._filling = False
        self._onInput()
        self._refresh()
