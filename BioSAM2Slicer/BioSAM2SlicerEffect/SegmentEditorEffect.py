"""The Segment Editor's effect "BioSAM-2": another door to the session of the module's panel.

Slicer loads this file by its path, as a module that is named after its folder; so the folder holds nothing else.
"""

from __future__ import annotations

from typing import Any

import qt
import slicer
from BioSAM2SlicerLib.ui.EditorChoice import EFFECT
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from BioSAM2Slicer import iconPath, newEffect


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """What Slicer calls of an effect; what the tools do is the panel's business.

    Args:
        scriptedEffect: Slicer's side of it, a qSlicerSegmentEditorScriptedEffect.
    """

    def __init__(self, scriptedEffect: Any) -> None:
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        scriptedEffect.name = EFFECT
        scriptedEffect.title = _("BioSAM-2")
        # The tool in hand has a pointer of its own.
        scriptedEffect.showEffectCursorInSliceView = False
        self._options: Any = None

    def clone(self) -> Any:
        """A copy for another Segment Editor."""
        return newEffect()

    def icon(self) -> Any:
        path = iconPath()
        return qt.QIcon(str(path)) if path is not None else qt.QIcon()

    def helpText(self) -> str:
        return _(
            "<html>Click into a structure or draw a box around it on one slice: BioSAM-2 outlines it there, and "
            "carries the outline through the volume.<p>The session and the keys are those of the module BioSAM2Slicer; "
            "Esc, undo and redo are the Segment Editor's.</p></html>"
        )

    def activate(self) -> None:
        # Only now: it needs packages that Slicer does not bring, which the module installs.
        panel = slicer.util.getModuleWidget("BioSAM2Slicer").panel
        from BioSAM2SlicerLib.ui.EffectOptions import EffectOptions

        self._options = EffectOptions(self.scriptedEffect, panel)

    def deactivate(self) -> None:
        if self._options is not None:
            self._options.cleanup()
            self._options = None

    def interactionNodeModified(self, _interactionNode: Any) -> None:
        """The point tool places markups; without this method that would put the effect down."""

    def cleanup(self) -> None:
        self.deactivate()
