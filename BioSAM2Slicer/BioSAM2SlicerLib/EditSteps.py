"""Edits made elsewhere become steps too; the Segment Editor's own undo and redo go along the same stack."""

from __future__ import annotations

from collections.abc import Sequence

from .History import Step, tracesOf
from .SegmentSlices import SliceChange
from .SessionSteps import SessionSteps
from .SliceLedger import SliceLedger


class EditSteps:
    """What others do to the voxels.

    The Segment Editor keeps states of the segmentation from before its effects and goes back to them, over everything
    that the model wrote since. That is noticed by what it changes: exactly what some last steps had changed.

    Args:
        steps, ledger: of the session.
    """

    def __init__(self, steps: SessionSteps, ledger: SliceLedger) -> None:
        self._steps = steps
        self._ledger = ledger
        ledger.edited.connect(self._onEdited)

    def _onEdited(self, changes: list[SliceChange]) -> None:
        wanted = tracesOf(changes)
        history = self._steps.history
        # Its states are from before an effect was used.
        back = _stepsThatMake(wanted, tuple(reversed(history.done)), deepestByOthers=True)
        forth = _stepsThatMake(wanted, tuple(reversed(history.undone)), deepestByOthers=False)
        for _number in range(back):
            self._steps.undo(voxels=False)
        for _number in range(0 if back else forth):
            self._steps.redo(voxels=False)
        if not back and not forth:
            step = self._steps.new(connect=False)
            step.byOthers = True
            step.changes = changes
            self._ledger.claim(step, changes)
            self._steps.commit(step)


def _stepsThatMake(wanted: dict[str, int], steps: Sequence[Step], deepestByOthers: bool) -> int:
    """How many of these steps, from the first on, change together what is wanted; 0 where none do.

    Args:
        wanted: traces.
        steps: those next to be undone or redone, in that order.
        deepestByOthers: whether the last of them, not the first, must be an edit made elsewhere.
    """
    if not deepestByOthers and steps and not steps[0].byOthers:
        return 0
    together: dict[str, int] = {}
    for number, step in enumerate(steps, start=1):
        for name, trace in step.traces().items():
            together[name] = together.get(name, 0) ^ trace
        if (step.byOthers or not deepestByOthers) and {n: t for n, t in together.items() if t} == wanted:
            return number
    return 0
