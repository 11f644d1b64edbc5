"""Stand-ins for the few CTK and qMRML widgets that the panel uses: the same names and signals, plain looks."""

from __future__ import annotations

from typing import Any

import shiboken6
from PySide6 import QtCore, QtWidgets


def stored(name: str, kind: Any, default: Any, changed: str = "") -> Any:
    """A Qt property that keeps what it is given, so that a ``.ui`` file can set it.

    Args:
        name: of the property.
        kind: its type.
        default: what it is before it is set.
        changed: method that is called when it becomes another.
    """

    def get(self: Any) -> Any:
        return vars(self).get(f"_{name}", default)

    def put(self: Any, value: Any) -> None:
        before = get(self)
        vars(self)[f"_{name}"] = value
        if changed and value != before:
            getattr(self, changed)()

    return QtCore.Property(kind, get, put)


_BAR = 22  # of a section's title, pixels, as in Slicer


class CollapsibleButton(QtWidgets.QWidget):
    """ctkCollapsibleButton: a titled frame whose contents fold away."""

    contentsCollapsed = QtCore.Signal(bool)

    text = stored("text", str, "", "update")
    collapsed = stored("collapsed", bool, False, "_fold")

    def __init__(self, *arguments: Any) -> None:
        texts = [a for a in arguments if isinstance(a, str)]
        super().__init__(*[a for a in arguments if not isinstance(a, str)])
        vars(self)["_text"] = texts[0] if texts else ""
        # What was hidden before the contents were folded stays hidden when they are unfolded.
        self._shown: list[Any] = []
        self.setContentsMargins(0, _BAR, 0, 0)
        policy = QtWidgets.QSizePolicy.Policy
        QtWidgets.QWidget.setSizePolicy(self, policy.Minimum, policy.Preferred)

    def setText(self, text: str) -> None:
        self.setProperty("text", text)

    def setCollapsed(self, collapsed: bool) -> None:
        self.setProperty("collapsed", collapsed)

    def _fold(self) -> None:
        folded = vars(self)["_collapsed"]
        if folded:
            self._shown = [child for child in self._contents() if not QtWidgets.QWidget.isHidden(child)]
        for child in self._shown:
            QtWidgets.QWidget.setVisible(child, not folded)
        # The real one is as high as its title then, whatever margins its layout has.
        self.setMaximumHeight(_BAR if folded else 16777215)
        self.contentsCollapsed.emit(folded)

    def childEvent(self, event: Any) -> None:
        """A `.ui` file folds the section before its contents come."""
        super().childEvent(event)
        child = event.child()
        if event.added() and vars(self).get("_collapsed") and isinstance(child, QtWidgets.QWidget):
            self._shown.append(child)
            QtWidgets.QWidget.setVisible(child, False)

    def mousePressEvent(self, event: Any) -> None:
        if event.position().y() < _BAR:
            self.setCollapsed(not vars(self).get("_collapsed", False))

    def _contents(self) -> list[Any]:
        return self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly)

    def paintEvent(self, event: Any) -> None:
        from PySide6 import QtGui

        with QtGui.QPainter(self) as painter:
            arrow = "▸" if vars(self).get("_collapsed") else "▾"
            width = QtWidgets.QWidget.width(self)
            painter.fillRect(0, 0, width, _BAR - 1, QtWidgets.QWidget.palette(self).button())
            painter.drawText(6, 15, f"{arrow}  {vars(self)['_text']}")
            painter.drawLine(0, _BAR - 1, width, _BAR - 1)


class MRMLWidget(QtWidgets.QWidget):
    """qMRMLWidget: hands the scene on to what its `.ui` file connects."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


class NodeComboBox(QtWidgets.QComboBox):
    """qMRMLNodeComboBox: the scene's nodes of some classes, one of them chosen."""

    currentNodeChanged = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)

    nodeTypes = stored("nodeTypes", "QStringList", ())
    noneEnabled = stored("noneEnabled", bool, False)
    addEnabled = stored("addEnabled", bool, True)
    removeEnabled = stored("removeEnabled", bool, True)
    renameEnabled = stored("renameEnabled", bool, False)
    editEnabled = stored("editEnabled", bool, False)
    showHidden = stored("showHidden", bool, False)
    selectNodeUponCreation = stored("selectNodeUponCreation", bool, True)
    showChildNodeTypes = stored("showChildNodeTypes", bool, True)
    noneDisplay = stored("noneDisplay", str, "None")
    baseName = stored("baseName", str, "")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._scene: Any = None
        self._observers: list[int] = []
        self.currentIndexChanged.connect(lambda _index: self.currentNodeChanged.emit(self.currentNode()))
        self.destroyed.connect(self._forget)

    def setMRMLScene(self, scene: Any) -> None:
        import slicer

        self._forget()
        self._scene = scene
        if scene is not None:
            kinds = slicer.vtkMRMLScene
            for event in (kinds.NodeAddedEvent, kinds.NodeRemovedEvent, kinds.EndBatchProcessEvent):
                self._observers.append(scene.AddObserver(event, self._fill))
            self._observers.append(scene.AddObserver(kinds.EndImportEvent, self._take_in))
        self._fill()

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        node_id = QtWidgets.QComboBox.currentData(self)
        return self._scene.GetNodeByID(node_id) if self._scene is not None and node_id else None

    def setCurrentNode(self, node: Any) -> None:
        self._choose(node.GetID() if node is not None else None)

    @property
    def currentNodeID(self) -> str:
        return QtWidgets.QComboBox.currentData(self) or ""

    def setCurrentNodeID(self, node_id: str) -> None:
        self._choose(node_id)

    def addNode(self) -> Any:
        node = self._scene.AddNewNodeByClass(self.nodeTypes[0], self.baseName)
        self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def _choose(self, node_id: str | None) -> None:
        index = QtWidgets.QComboBox.findData(self, node_id or None)
        QtWidgets.QComboBox.setCurrentIndex(self, index)

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = []
        for kind in self.nodeTypes:
            for number in range(self._scene.GetNumberOfNodesByClass(kind)):
                node = self._scene.GetNthNodeByClass(number, kind)
                exact = self.showChildNodeTypes or node.GetClassName() == kind
                if exact and (self.showHidden or not node.GetHideFromEditors()):
                    nodes.append(node)
        return nodes

    def _fill(self, *_event: Any) -> None:
        if not shiboken6.isValid(self):
            # Qt has deleted it with its window; the real widget's observers go with it.
            NodeComboBox._forget(self)
            return
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        self._take_in()

    def _take_in(self, *_event: Any) -> None:
        """At the end of an import the real widget takes nodes in though the batch goes on."""
        before = QtWidgets.QComboBox.currentData(self)
        nodes = self._nodes()
        blocked = self.blockSignals(True)
        self.clear()
        if self.noneEnabled or not nodes:
            QtWidgets.QComboBox.addItem(self, self.noneDisplay, None)
        for node in nodes:
            QtWidgets.QComboBox.addItem(self, node.GetName(), node.GetID())
        index = QtWidgets.QComboBox.findData(self, before)
        QtWidgets.QComboBox.setCurrentIndex(self, max(index, 0))
        self.blockSignals(blocked)
        if QtWidgets.QComboBox.currentData(self) != before:
            self.currentNodeChanged.emit(self.currentNode())

    def _forget(self, *_event: Any) -> None:
        for tag in vars(self)["_observers"]:
            vars(self)["_scene"].RemoveObserver(tag)
        vars(self)["_observers"] = []


class SegmentEditorWidget(QtWidgets.QWidget):
    """qMRMLSegmentEditorWidget as far as a list of segments and its parameter node go; it has no effects."""

    currentSegmentIDChanged = QtCore.Signal(str)
    segmentationNodeChanged = QtCore.Signal(object)
    sourceVolumeNodeChanged = QtCore.Signal(object)
    maximumNumberOfUndoStates = stored("maximumNumberOfUndoStates", int, 5)
    readOnly = stored("readOnly", bool, False)
    undoEnabled = stored("undoEnabled", bool, True, "_undo_changed")
    effectColumnCount = stored("effectColumnCount", int, 2, "_columns_changed")
    segmentationNodeSelectorVisible = stored("segmentationNodeSelectorVisible", bool, True)
    sourceVolumeNodeSelectorVisible = stored("sourceVolumeNodeSelectorVisible", bool, True)
    switchToSegmentationsButtonVisible = stored("switchToSegmentationsButtonVisible", bool, True)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._scene: Any = None
        self._node: Any = None
        self._node_tag: int | None = None
        self._observed: list[tuple[Any, int]] = []
        self._list = QtWidgets.QListWidget()
        self._list.currentItemChanged.connect(self._on_item)
        self._effects = QtWidgets.QFrame()
        self._undo = QtWidgets.QFrame()
        self._arrange()

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
        grid = QtWidgets.QGridLayout(self._effects)
        for number in range(_EFFECTS):
            grid.addWidget(self._tool_button(number), 0, number)
        undo = QtWidgets.QGridLayout(self._undo)
        for number in range(2):
            undo.addWidget(self._tool_button(number), 0, number)
        self._columns_changed()

    def _tool_button(self, number: int) -> Any:
        button = QtWidgets.QToolButton()
        button.setFixedSize(23, 22)
        button.setText("↖✎✐⌫◔◍≡◐▣◎∿✂⁂⊕▤"[number])
        return button

    def _columns_changed(self) -> None:
        columns = max(vars(self).get("_effectColumnCount", 2), 1)
        grid = self._effects.layout()
        buttons = [grid.itemAt(n).widget() for n in range(grid.count())]
        for number, button in enumerate(buttons):
            grid.removeWidget(button)
            grid.addWidget(button, number // columns, number % columns)

    def _undo_changed(self) -> None:
        self._undo.setVisible(vars(self).get("_undoEnabled", True))

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        if scene is None:
            self.setMRMLSegmentEditorNode(None)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if self._node is not None and self._node_tag is not None:
            self._node.RemoveObserver(self._node_tag)
        self._node = node
        self._node_tag = node.AddObserver("ModifiedEvent", self._refresh) if node is not None else None
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
        row = QtWidgets.QListWidget.currentRow(self._list) + 1
        if row < QtWidgets.QListWidget.count(self._list):
            self.setCurrentSegmentID(QtWidgets.QListWidget.item(self._list, row).data(QtCore.Qt.ItemDataRole.UserRole))

    def installKeyboardShortcuts(self, *_parent: Any) -> None:
        """Shortcuts of the real editor are not covered."""

    def uninstallKeyboardShortcuts(self) -> None:
        """Shortcuts of the real editor are not covered."""

    def setupViewObservations(self) -> None:
        """The stand-in has no effects that would look at views."""

    def removeViewObservations(self) -> None:
        """The stand-in has no effects that would look at views."""

    def setActiveEffectByName(self, name: str) -> None:
        self._node.SetActiveEffectName(name)

    def activeEffect(self) -> Any:
        return (self._node.GetActiveEffectName() or None) if self._node else None

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


class TableView(QtWidgets.QTableWidget):
    """qMRMLTableView: a table node's cells."""

    def setMRMLScene(self, _scene: Any) -> None:
        """The stand-in is given its node."""

    def setMRMLTableNode(self, node: Any) -> None:
        rows, columns = (node.GetNumberOfRows(), node.GetNumberOfColumns()) if node is not None else (0, 0)
        QtWidgets.QTableWidget.setRowCount(self, rows)
        QtWidgets.QTableWidget.setColumnCount(self, columns)
        titles = [node.GetColumnName(column) for column in range(columns)]
        QtWidgets.QTableWidget.setHorizontalHeaderLabels(self, titles)
        for row in range(rows):
            for column in range(columns):
                item = QtWidgets.QTableWidgetItem(node.GetCellText(row, column))
                QtWidgets.QTableWidget.setItem(self, row, column, item)


# Of Slicer 5.10 and the button that puts an effect down.
_EFFECTS = 15
CTK = {"ctkCollapsibleButton": CollapsibleButton}
SLICER = {
    "qMRMLWidget": MRMLWidget,
    "qMRMLNodeComboBox": NodeComboBox,
    "qMRMLSegmentEditorWidget": SegmentEditorWidget,
    "qMRMLTableView": TableView,
}
