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
        back = _stepsThatMake(wanted, tuple(reversed(history.done)))
        forth = _stepsThatMake(wanted, tuple(reversed(history.undone)))
        # Its states are from before an effect was used, or the last one.
        back = [number for number in back if history.done[-number].byOthers]
        forth = forth if history.undone and history.undone[-1].byOthers else []
        for _step in range(back[0] if back else 0):
            self._steps.undo(voxels=False)
        for _step in range(forth[-1] if forth and not back else 0):
            self._steps.redo(voxels=False)
        if not back and not forth:
            step = self._steps.new(connect=False)
            step.byOthers = True
            step.changes = changes
            self._ledger.claim(step, changes)
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
