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


CTK = {"ctkCollapsibleButton": CollapsibleButton}
SLICER = {
    "qMRMLWidget": MRMLWidget,
    "qMRMLNodeComboBox": NodeComboBox,
    "qMRMLTableView": TableView,
}
