"""What Slicer's own Place button adds points to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import slicer


@dataclass(frozen=True)
class PlaceTarget:
    """A choice of what is placed.

    Args:
        kind: class of the node, None where none is chosen.
        nodeId: the node that is added to; None for a new one.
    """

    kind: str | None
    nodeId: str | None

    @classmethod
    def now(cls) -> PlaceTarget:
        """What is chosen now."""
        selection = _selection()
        return cls(selection.GetActivePlaceNodeClassName(), selection.GetActivePlaceNodeID())

    def restore(self) -> None:
        """Choose it again."""
        selection = _selection()
        selection.SetReferenceActivePlaceNodeClassName(self.kind)
        selection.SetReferenceActivePlaceNodeID(self.nodeId)


@contextmanager
def keptPlaceTarget() -> Iterator[None]:
    """Slicer places into every markup that is added to the scene from then on; not into one that is added in here."""
    target = PlaceTarget.now()
    try:
        yield
    finally:
        target.restore()


def _selection() -> Any:
    return slicer.app.applicationLogic().GetSelectionNode()
