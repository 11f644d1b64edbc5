"""``qt.QUiLoader`` as Slicer has it: widgets of Qt, CTK and MRML out of Designer's files."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets


class UiLoader(QtUiTools.QUiLoader):
    """Builds widgets from a file, of the classes that the panel gets by ``qt``, ``ctk`` and ``slicer``."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        import slicer

        if hasattr(slicer, class_name):
            kind = getattr(slicer, class_name)
        else:
            kind = getattr(sys.modules["ctk" if class_name.startswith("ctk") else "qt"], class_name)
        widget = kind(parent) if parent is not None else kind()
        widget.setObjectName(name)
        return widget

    def load(self, device: QtCore.QIODevice, parent: Any = None) -> QtWidgets.QWidget:
        tree = ElementTree.fromstring(bytes(device.readAll().data()))
        connections = tree.find("connections")
        if connections is not None:
            # Their signatures name classes of MRML, which PySide6 does not know.
            tree.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        root = super().load(buffer, parent)
        if root is None:
            raise RuntimeError(self.errorString())
        for connection in connections if connections is not None else ():
            sender, signal, receiver, slot = (
                connection.findtext(part, "").partition("(")[0] for part in ("sender", "signal", "receiver", "slot")
            )
            getattr(_named(root, sender), signal).connect(getattr(_named(root, receiver), slot))
        return root


def _named(root: QtWidgets.QWidget, name: str) -> Any:
    found = root if QtCore.QObject.objectName(root) == name else root.findChild(QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f"a connection names {name!r}, which the file does not hold")
    return found
