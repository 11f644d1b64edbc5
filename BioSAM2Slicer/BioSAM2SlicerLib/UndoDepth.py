"""How many steps can be undone, and what they cost."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from .SessionLogic import SessionLogic

_MOST = 200


class UndoDepth:
    """A number to set, and the memory that the steps take now.

    Args:
        session: whose steps they are.
    """

    def __init__(self, session: SessionLogic) -> None:
        self._session = session
        self.widget = qt.QWidget()
        row = qt.QHBoxLayout(self.widget)
        row.setContentsMargins(0, 0, 0, 0)
        self._box = qt.QSpinBox()
        self._box.objectName = "undoStates"
        self._box.setRange(1, _MOST)
        self._box.toolTip = _("Steps that can be taken back. Each keeps the voxels that it changed.")
        row.addWidget(qt.QLabel(_("Steps kept:")))
        row.addWidget(self._box)
        self._memory = qt.QLabel("")
        self._memory.objectName = "undoMemory"
        row.addWidget(self._memory, 1)
        self.refresh()
        self._box.valueChanged.connect(lambda value: session.setParameters(undoStates=value))
        session.stateChanged.connect(self.refresh)

    def refresh(self) -> None:
        """Show what the scene says, and what it costs."""
        self._box.value = self._session.parameters.undoStates
        count, size = self._session.undoCount, self._session.undoBytes
        self._memory.text = _("{count} kept, {size:.1f} MB").format(count=count, size=size / 1e6)

    def cleanup(self) -> None:
        """Follow the session no longer."""
        self._session.stateChanged.disconnect(self.refresh)
