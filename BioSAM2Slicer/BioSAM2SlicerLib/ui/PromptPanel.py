"""The section of the prompts: its buttons do what `PromptActions` does, and show what can be done."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..scene.Stroke import STROKES
from .Controls import loadSection, setIcon
from .PromptActions import PromptActions
from .PromptTools import BOX, POINT


class PromptPanel:
    """Buttons for prompts.

    Attributes:
        widget: the buttons.

    Args:
        actions: what they do.
    """

    def __init__(self, actions: PromptActions) -> None:
        self._actions = actions
        self.widget, self._ui = loadSection("Prompts")
        self._toolButtons = {tool: getattr(self._ui, tool) for tool in (POINT, BOX, *STROKES)}
        for tool, button in self._toolButtons.items():
            button.clicked.connect(lambda *_, tool=tool: actions.toggle(tool))
        for button, action in (
            (self._ui.sign, actions.switchSign),
            (self._ui.mask, actions.mask),
            (self._ui.startFrom, actions.startFrom),
            (self._ui.reset, actions.reset),
            (self._ui.undo, actions.undo),
            (self._ui.redo, actions.redo),
        ):
            button.clicked.connect(lambda *_checked, action=action: action())
        self._ui.show.toggled.connect(lambda *_: actions.show(bool(self._ui.show.checked)))
        actions.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what can be done, and which tool is in hand."""
        session, tools = self._actions.session, self._actions.tools
        working = session.prompts is not None
        self._ui.sign.text = _("Positive + (T)") if tools.positive else _("Negative − (T)")
        setIcon(self._ui.sign, "positive" if tools.positive else "negative")
        for tool, button in self._toolButtons.items():
            button.checked = tools.tool == tool
            button.enabled = working or self._actions.volume() is not None
        for button in (self._ui.mask, self._ui.reset, self._ui.startFrom):
            button.enabled = working
        self._ui.undo.enabled = session.canUndo
        self._ui.redo.enabled = session.canRedo
        self._ui.show.checked = self._actions.shown

    def cleanup(self) -> None:
        """Follow the actions no longer."""
        self._actions.changed.disconnect(self.refresh)
