"""The Segment Editor's widget: its list of segments, its effects in Python, and its undo, which is Slicer's own.

What is called when was read in Slicer's source (qMRMLSegmentEditorWidget).
"""

from __future__ import annotations

from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from .effects import EffectFactory
from .widgets import stored

# Effects that Slicer 5.10 brings, and the button that puts an effect down.
_BUILT_IN = 15


class SegmentEditorWidget(QtWidgets.QWidget):
    """qMRMLSegmentEditorWidget: of the effects that Slicer brings it knows no more than the names."""

    currentSegmentIDChanged = QtCore.Signal(str)
    segmentationNodeChanged = QtCore.Signal(object)
    sourceVolumeNodeChanged = QtCore.Signal(object)
    maximumNumberOfUndoStates = stored("maximumNumberOfUndoStates", int, 5)
    readOnly = stored("readOnly", bool, False)
    undoEnabled = stored("undoEnabled", bool, True, "_undo_changed")
    effectColumnCount = stored("effectColumnCount", int, 2, "updateEffectList")
    unorderedEffectsVisible = stored("unorderedEffectsVisible", bool, True, "updateEffectList")
    segmentationNodeSelectorVisible = stored("segmentationNodeSelectorVisible", bool, True)
    sourceVolumeNodeSelectorVisible = stored("sourceVolumeNodeSelectorVisible", bool, True)
    switchToSegmentationsButtonVisible = stored("switchToSegmentationsButtonVisible", bool, True)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        import slicer

        self._scene: Any = None
        self._node: Any = None
        self._node_tag: int | None = None
        self._observed: list[tuple[Any, int]] = []
        self._list = QtWidgets.QListWidget()
        self._list.currentItemChanged.connect(self._on_item)
        self._effects = QtWidgets.QFrame()
        self._undo = QtWidgets.QFrame()
        self._options = QtWidgets.QGroupBox()
        self._copies: list[Any] = []
        self._order: tuple[str, ...] = ()
        self._buttons: dict[str, Any] = {}
        self._active: Any = None
        self._views_observed = False
        self._interaction: Any = None
        self._scene_tags: list[tuple[Any, int]] = []
        self._shortcuts: list[Any] = []
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._arrange()
        self.updateEffectList()

    def _arrange(self) -> None:
        """As large as the real one: sizes were read off pictures of Slicer 5.10."""
        box = QtWidgets.QVBoxLayout(self)
        actions = QtWidgets.QHBoxLayout()
        for text in ("Add", "Remove", "Show 3D"):
            actions.addWidget(QtWidgets.QPushButton(text))
        box.addLayout(actions)
        row, left = QtWidgets.QHBoxLayout(), QtWidgets.QVBoxLayout()
        for frame in (self._effects, self._undo):
            frame.setFrameShape(QtWidgets.QFrame.Shape.StyledPanel)
            left.addWidget(frame)
        left.addStretch(1)
        row.addLayout(left)
        row.addWidget(self._list, 1)
        QtWidgets.QListWidget.setMinimumHeight(self._list, 90)
        policy = QtWidgets.QSizePolicy.Policy
        QtWidgets.QListWidget.setSizePolicy(self._list, policy.Expanding, policy.Minimum)
        box.addLayout(row)
        QtWidgets.QGridLayout(self._effects)
        self._dummies = [self._tool_button(number) for number in range(_BUILT_IN)]
        undo = QtWidgets.QGridLayout(self._undo)
        for number, act in enumerate((self.undo, self.redo)):
            button = self._tool_button(number)
            button.clicked.connect(act)
            undo.addWidget(button, 0, number)
        QtWidgets.QVBoxLayout(self._options).setContentsMargins(0, 0, 0, 0)
        box.addWidget(self._options)
        self._options.hide()

    def _tool_button(self, number: int) -> Any:
        button = QtWidgets.QToolButton()
        button.setFixedSize(23, 22)
        button.setText("↖✎✐⌫◔◍≡◐▣◎∿✂⁂⊕▤"[number])
        return button

    def updateEffectList(self) -> None:
        """Copy the effects that were registered since, and arrange the buttons."""
        for effect in EffectFactory.instance().copies(self.availableEffectNames()):
            self._copies.append(effect)
            if self._node is not None:
                effect.setParameterSetNode(self._node)
            button = self._buttons[effect.name] = self._tool_button(0)
            button.setObjectName(effect.name)
            button.setCheckable(True)
            button.setIcon(effect.call("icon") or QtGui.QIcon())
            button.setText("")
            button.setToolTip(effect.title)
            button.clicked.connect(lambda _on, name=effect.name: self.setActiveEffectByName(name))
            effect.join(self)
            self._options.layout().addWidget(effect.optionsFrame())
        grid = self._effects.layout()
        while grid.count():
            grid.takeAt(0).widget().hide()
        known = [name for name in self._order if name in self._buttons]
        if vars(self).get("_unorderedEffectsVisible", True):
            known += [name for name in self._buttons if name not in known]
        columns = max(vars(self).get("_effectColumnCount", 2), 1)
        for number, button in enumerate([*self._dummies, *(self._buttons[name] for name in known)]):
            grid.addWidget(button, number // columns, number % columns)
            button.show()

    def effectNameOrder(self) -> tuple[str, ...]:
        return self._order

    def setEffectNameOrder(self, names: Any) -> None:
        self._order = tuple(names)
        self.updateEffectList()

    def availableEffectNames(self) -> tuple[str, ...]:
        return tuple(effect.name for effect in self._copies)

    def effectByName(self, name: str) -> Any:
        return next((effect for effect in self._copies if effect.name == name), None)

    def _undo_changed(self) -> None:
        self._undo.setVisible(vars(self).get("_undoEnabled", True))

    def setMRMLScene(self, scene: Any) -> None:
        import slicer

        self._scene = scene
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(scene)
        for observed, tag in self._scene_tags:
            observed.RemoveObserver(tag)
        self._scene_tags = []
        if scene is None:
            self.setMRMLSegmentEditorNode(None)
            return
        if slicer.app.layoutManager() is not None:
            slicer.app.layoutManager().layoutChanged.connect(self._on_layout)
        self._interaction = slicer.app.applicationLogic().GetInteractionNode()
        self._scene_tags = [
            (self._interaction, self._interaction.AddObserver("ModifiedEvent", self._on_interaction)),
            (scene, scene.AddObserver(scene.EndBatchProcessEvent, self._refresh)),
        ]

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if self._node is not None and self._node_tag is not None:
            self._node.RemoveObserver(self._node_tag)
        self._node = node
        self._node_tag = node.AddObserver("ModifiedEvent", self._refresh) if node is not None else None
        self._logic.SetSegmentEditorNode(node)
        for effect in self._copies if node is not None else ():
            effect.setParameterSetNode(node)
        self._refresh()

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def segmentationNode(self) -> Any:
        return self._node.GetSegmentationNode() if self._node else None

    def setSegmentationNode(self, node: Any) -> None:
        self._node.SetAndObserveSegmentationNode(node)
        self._refresh()
        self.segmentationNodeChanged.emit(node)

    def sourceVolumeNode(self) -> Any:
        return self._node.GetSourceVolumeNode() if self._node else None

    def setSourceVolumeNode(self, node: Any) -> None:
        self._node.SetAndObserveSourceVolumeNode(node)
        self.sourceVolumeNodeChanged.emit(node)

    def currentSegmentID(self) -> str:
        return (self._node.GetSelectedSegmentID() or "") if self._node else ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._node.SetSelectedSegmentID(segment_id)
        self._refresh()

    def selectNextSegment(self) -> None:
        self._select(1)

    def selectPreviousSegment(self) -> None:
        self._select(-1)

    def _select(self, offset: int) -> None:
        row = QtWidgets.QListWidget.currentRow(self._list) + offset
        if 0 <= row < QtWidgets.QListWidget.count(self._list):
            self.setCurrentSegmentID(QtWidgets.QListWidget.item(self._list, row).data(QtCore.Qt.ItemDataRole.UserRole))

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        """Those of the editor, in Slicer's window; those of the effects that Slicer brings do nothing here."""
        import slicer

        self.uninstallKeyboardShortcuts()
        parent = parent or slicer.util.mainWindow()
        standard = QtGui.QKeySequence.StandardKey
        for keys, act in (
            ([str(number) for number in range(10)], None),
            ([f"Shift+{number}" for number in range(10)], None),
            (["Esc"], lambda: self.setActiveEffectByName("")),
            (["Space", "I"], None),
            (["Z", standard.Undo], self.undo),
            (["Y", standard.Redo], self.redo),
            (["Q", "/", ",", ">"], self.selectPreviousSegment),
            (["W", "*", ".", "<"], self.selectNextSegment),
        ):
            for key in keys:
                shortcut = QtGui.QShortcut(QtGui.QKeySequence(key), parent)
                shortcut.activated.connect(act or (lambda: None))
                self._shortcuts.append(shortcut)

    def uninstallKeyboardShortcuts(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    def setupViewObservations(self) -> None:
        """No effect here looks at what happens in views."""
        self._views_observed = True

    def removeViewObservations(self) -> None:
        self._views_observed = False

    def setActiveEffectByName(self, name: str) -> None:
        self._node.SetActiveEffectName(name)

    def activeEffect(self) -> Any:
        """The effect; of those that Slicer brings, the name."""
        name = self._node.GetActiveEffectName() if self._node else ""
        return self._active or name or None

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def _refresh_effects(self) -> None:
        """Choose the effect that the node names."""
        chosen = self.effectByName(self._node.GetActiveEffectName() or "")
        if chosen is self._active:
            return
        if self._active is not None:
            self._active.deactivate()
        mode = self._interaction
        if chosen is not None:
            self.setupViewObservations()
            if mode.GetCurrentInteractionMode() != mode.ViewTransform:
                mode.SetCurrentInteractionMode(mode.ViewTransform)
            chosen.activate()
        else:
            self.removeViewObservations()
        self._options.setVisible(chosen is not None)
        self._options.setTitle(chosen.title if chosen is not None else "")
        for name, button in self._buttons.items():
            button.setChecked(chosen is not None and name == chosen.name)
        if mode.GetCurrentInteractionMode() == mode.ViewTransform:
            self._set_cursor(chosen)
        # Until here the one before is told of what the new one does to the mouse mode.
        self._active = chosen

    def _set_cursor(self, effect: Any) -> None:
        import slicer

        shape = QtGui.QCursor(QtCore.Qt.CursorShape.CrossCursor)
        layout = slicer.app.layoutManager()
        for name in layout.sliceViewNames() if layout is not None else ():
            view = layout.sliceWidget(name).sliceView()
            cursor = shape if effect is not None and effect.showEffectCursorInSliceView else QtGui.QCursor()
            view.setViewCursor(cursor)
            view.setDefaultViewCursor(cursor)

    def _on_interaction(self, node: Any, _event: str) -> None:
        if self._active is not None:
            self._active.interactionNodeModified(node)

    def updateWidgetFromMRML(self) -> None:
        self._refresh()

    def _on_layout(self, _layout: int) -> None:
        if self._views_observed:
            for effect in self._copies:
                effect.call("layoutChanged")

    def _on_item(self, item: Any, _before: Any) -> None:
        if item is not None and self._node is not None:
            segment_id = item.data(QtCore.Qt.ItemDataRole.UserRole)
            known = segment_id == self.currentSegmentID()
            self._node.SetSelectedSegmentID(segment_id)
            # As the real widget: not for a segment that its node names already, so not for one chosen otherwise.
            if not known:
                self.currentSegmentIDChanged.emit(segment_id)

    def _refresh(self, *_event: Any) -> None:
        import slicer

        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed = []
        if not shiboken6.isValid(self):
            self._node.RemoveObserver(self._node_tag)
            return
        node = self.segmentationNode()
        ids = []
        if node is not None and node.GetSegmentation() is not None:
            segmentation = node.GetSegmentation()
            ids = list(segmentation.GetSegmentIDs())
            for event in (
                slicer.vtkSegmentation.SegmentAdded,
                slicer.vtkSegmentation.SegmentRemoved,
                slicer.vtkSegmentation.SegmentModified,
            ):
                self._observed.append((segmentation, segmentation.AddObserver(event, self._refresh)))
        # The real widget chooses the first segment where none is chosen.
        if self._node is not None and ids and self.currentSegmentID() not in ids:
            self._node.SetSelectedSegmentID(ids[0])
        blocked = self._list.blockSignals(True)
        QtWidgets.QListWidget.clear(self._list)
        for segment_id in ids:
            item = QtWidgets.QListWidgetItem(node.GetSegmentation().GetSegment(segment_id).GetName(), self._list)
            item.setData(QtCore.Qt.ItemDataRole.UserRole, segment_id)
            if segment_id == self.currentSegmentID():
                QtWidgets.QListWidget.setCurrentItem(self._list, item)
        self._list.blockSignals(blocked)
        if self._node is not None and not self._scene_is_busy():
            # The node tells of what changes meanwhile when all is done.
            was_modifying = self._node.StartModify()
            self._refresh_effects()
            self._node.EndModify(was_modifying)

    def _scene_is_busy(self) -> bool:
        return self._scene is None or self._scene.IsBatchProcessing()


SLICER = {"qMRMLSegmentEditorWidget": SegmentEditorWidget}
