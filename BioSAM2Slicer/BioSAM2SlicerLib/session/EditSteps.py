"""Edits made elsewhere become steps too; the Segment Editor's own undo and redo go along the same stack."""

from __future__ import annotations

from collections.abc import Sequence

from ..scene.SegmentSlices import SliceChange
from .SceneResults import SceneResults
from .Step import Step, tracesOf
from .Steps import Steps


class EditSteps:
    """Edits of the voxels by other parts of Slicer.

    The Segment Editor keeps states of the segmentation from before its effects and goes back to them, over everything
    that the model wrote since. That is recognised by what it changes: exactly what some last steps had changed.

    Args:
        steps, results: of the session.
    """

    def __init__(self, steps: Steps, results: SceneResults) -> None:
        self._steps = steps
        self._results = results
        results.edited.connect(self._onEdited)

    def _onEdited(self, changes: list[SliceChange]) -> None:
        wanted = tracesOf(changes)
        steps = self._steps
        back = _stepsThatMake(wanted, tuple(reversed(steps.done)))
        forth = _stepsThatMake(wanted, tuple(reversed(steps.undone)))
        # Its states are from before an effect was used, or the last one.
        back = [number for number in back if steps.done[-number].stateSaved]
        forth = forth if steps.undone and steps.undone[-1].stateSaved else []
        for _step in range(back[0] if back else 0):
            self._steps.undo(voxels=False)
        for _step in range(forth[-1] if forth and not back else 0):
            self._steps.redo(voxels=False)
        if not back and not forth:
            step = self._steps.new(byOthers=True)
            step.changes = changes
            self._results.claim(step, changes)
            self._steps.commit(step)


def _stepsThatMake(wanted: dict[str, int], steps: Sequence[Step]) -> list[int]:
    """After how many of these steps, taken back or done in this order, what is wanted is changed; ascending.

    Args:
        wanted: traces, see `tracesOf`.
        steps: those next to be undone or redone.
    """
    together: dict[str, int] = {}
    found = []
    for number, step in enumerate(steps, start=1):
        for name, trace in step.traces().items():
            together[name] = together.get(name, 0) ^ trace
        if {name: trace for name, trace in together.items() if trace} == wanted:
            found.append(number)
    return found
