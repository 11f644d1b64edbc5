"""What the Segment Editor shows of the effect while it is chosen: the panel's tools, for what the editor shows."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from .Controls import loadSection


class EffectOptions:
    """Has the panel lent to a Segment Editor, and shows its status, prompts and propagation there.

    Args:
        effect: Slicer's side of the effect.
        panel: the module's panel, a `Widget`; None where it is not said yet where the network runs.
    """

    def __init__(self, effect: Any, panel: Any) -> None:
        self._effect = effect
        self._panel: Any = None
        self._parts: list[Any] = []
        self._root, self._ui = loadSection("Effect")
        self._ui.openModule.clicked.connect(lambda *_: slicer.util.selectModule("BioSAM2Slicer"))
        self._ui.notSetUp.visible = panel is None
        effect.addOptionsWidget(self._root)
        if panel is not None:
            self._open(panel)

    def cleanup(self) -> None:
        """The effect was put down."""
        if self._panel is not None:
            self._close()
        self._root.setParent(None)
        self._root.deleteLater()

    # -- inside ---------------------------------------------------------------------------------

    def _open(self, panel: Any) -> None:
        from .PromptPanel import PromptPanel
        from .PropagationPanel import PropagationPanel
        from .StatusPanel import StatusPanel

        self._panel = panel
        self._node = self._effect.parameterSetNode()
        panel.lend(self._effect)
        self._tag = self._node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_event: panel.followEditor())
        propagation = PropagationPanel(panel.session, lambda: panel.segment, panel.status, panel.range)
        # Esc is the Segment Editor's: it puts the effect down.
        propagation.stopButton.text = _("Stop")
        self._parts = [StatusPanel(panel.status), PromptPanel(panel.actions), propagation]
        for part in self._parts:
            self._ui.tools.layout().addWidget(part.widget)
        panel.status.refresh()
        # The editor goes on to set modes and pointers after it has chosen an effect.
        qt.QTimer.singleShot(0, self._takePoint)

    def _takePoint(self) -> None:
        if self._panel is not None:
            self._panel.actions.take("point")

    def _close(self) -> None:
        panel, self._panel = self._panel, None
        self._node.RemoveObserver(self._tag)
        for part in self._parts:
            part.cleanup()
        panel.takeBack(self._effect)
