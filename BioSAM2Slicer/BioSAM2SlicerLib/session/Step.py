"""What one undo takes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..scene.PromptNodes import PlacedPrompt
from ..scene.SegmentSlices import SliceChange


@dataclass(eq=False)
class Step:
    """What one undo takes back. Masks that are answered later become part of the step that asked for them.

    Attributes:
        before, after: the state's head before the step and after it.
        promptsBefore, promptsAfter: the markups before it and after it.
        changes: voxels that it wrote.
        marks: owners of slices before it; while it is undone, after it.
        inForce: whether it is done and not undone.
        stateSaved: whether the Segment Editor has kept the segmentation from before it, to which its undo goes back: it
            is an edit made there, or elsewhere, or was done through the editor's effect.
    """

    before: int
    after: int
    promptsBefore: dict[str, PlacedPrompt]
    promptsAfter: dict[str, PlacedPrompt] = field(default_factory=dict)
    changes: list[SliceChange] = field(default_factory=list)
    marks: dict[tuple[str, int], str] = field(default_factory=dict)
    inForce: bool = True
    stateSaved: bool = False

    @property
    def nbytes(self) -> int:
        """Memory that its voxels take."""
        return sum(change.nbytes for change in self.changes)

    def traces(self) -> dict[str, int]:
        """What it changes, see `tracesOf`."""
        return tracesOf(self.changes)


def tracesOf(changes: Iterable[SliceChange]) -> dict[str, int]:
    """For each segment that changes as a whole, the trace of its voxels; what is changed and changed back cancels."""
    found: dict[str, int] = {}
    for change in changes:
        found[change.segmentId] = found.get(change.segmentId, 0) ^ change.trace
    return {name: trace for name, trace in found.items() if trace}
