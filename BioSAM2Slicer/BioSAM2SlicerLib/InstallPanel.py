"""What is shown in the panel's place until the packages that it needs are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from .InstallLogic import InstallLogic


class InstallPanel:
    """Says what would be installed, and does it when asked.

    Args:
        layout: where it is put.
        logic: what installs.
        onInstalled: called once everything is there.
    """

    def __init__(self, layout: Any, logic: InstallLogic, onInstalled: Callable[[], None]) -> None:
        self._logic = logic
        self._onInstalled = onInstalled
        self._root = qt.QWidget()
        column = qt.QVBoxLayout(self._root)
        self._text = qt.QLabel(logic.describe())
        self._text.objectName = "needed"
        self._text.wordWrap = True
        self._installButton = qt.QPushButton(_("Install"))
        self._installButton.objectName = "install"
        self._cancelButton = qt.QPushButton(_("Cancel"))
        self._cancelButton.objectName = "cancel"
        self._cancelButton.enabled = False
        self._line = qt.QLabel("")
        self._line.objectName = "line"
        self._line.wordWrap = True
        for widget in (self._text, self._installButton, self._cancelButton, self._line):
            column.addWidget(widget)
        column.addStretch(1)
        layout.addWidget(self._root)
        self._installButton.clicked.connect(lambda *_arguments: self._onInstall())
        self._cancelButton.clicked.connect(lambda *_arguments: logic.cancel())
        logic.progress.connect(self._say)
        logic.finished.connect(self._onFinished)

    def cleanup(self) -> None:
        """Stop installing, and show nothing any more."""
        self._logic.progress.disconnect(self._say)
        self._logic.finished.disconnect(self._onFinished)
        self._logic.cancel()
        self._root.setParent(None)
        self._root.deleteLater()

    def _onInstall(self) -> None:
        self._installButton.enabled = False
        self._cancelButton.enabled = True
        self._logic.install()

    def _say(self, text: str) -> None:
        self._line.text = text

    def _onFinished(self, complete: bool, text: str) -> None:
        self._say(text)
        self._installButton.enabled = True
        self._cancelButton.enabled = False
        self._text.text = self._logic.describe()
        if complete:
            self._onInstalled()
