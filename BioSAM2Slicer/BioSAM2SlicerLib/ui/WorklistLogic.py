"""Working through a list of cases: opening, saving by itself, approving, and the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from biosam2 import record as records
from biosam2.datasets.work_table import State, WorkCase
from biosam2.errors import BioSAM2Error
from biosam2.io.review import Review
from biosam2.session import ModelFacts
from biosam2.worklist import Claim, OpenCase, Worklist, WorkTimer
from slicer.i18n import tr as _

from ..export.Exporter import Exporter, namesOf
from ..scene.CaseNodes import loadSegmentation, loadSession, loadVolume, removeCase, saveSession
from ..scene.Parameters import keptText
from ..session.PanelSession import PanelSession
from ..Signal import Signal

AUTOSAVE_MS = 60_000
STATE_TEXTS: dict[State, str] = {
    "new": _("new"),
    "in work": _("in work"),
    "to be looked at": _("to be looked at"),
    "approved": _("approved"),
}


class WorklistLogic:
    """The list that is worked through, and the case of it that is open.

    Signals:
        changed(): the list, or which case is open.
        said(str), problem(str): what was done, and what could not be; one line.

    Args:
        session: in which a case is worked on.
        getParameterNode: gives the node that holds the session.
        getModel: says which network drew.
        take: makes a volume and a segmentation the panel's input; None twice for none.

    Example:
        >>> logic = WorklistLogic(session, getParameterNode, lambda: session.model, take)
        >>> logic.load(Path("liver.csv"))
        >>> logic.openNext()
        >>> logic.approveAndNext()
    """

    def __init__(
        self,
        session: PanelSession,
        getParameterNode: Callable[[], Any],
        getModel: Callable[[], ModelFacts],
        take: Callable[[Any, Any], None],
    ) -> None:
        self.changed = Signal()
        self.said = Signal()
        self.problem = Signal()
        self.worklist: Worklist | None = None
        self.case: OpenCase | None = None
        self._session = session
        self._getParameterNode = getParameterNode
        self._exporter = Exporter(getModel)
        self._take = take
        self._volume: Any = None
        self._segmentation: Any = None
        self._saved: Any = None
        self._steps = 0
        self._work = WorkTimer()
        self._timer = qt.QTimer()
        self._timer.setInterval(AUTOSAVE_MS)
        self._timer.timeout.connect(self.autosave)
        session.stateChanged.connect(self._onStateChanged)

    def cleanup(self) -> None:
        """Save and close the case, and follow the session no longer."""
        self.close()
        self._session.stateChanged.disconnect(self._onStateChanged)

    def load(self, path: Path) -> bool:
        """Take a list; the case that is open is saved and closed before."""
        if not self.close():
            return False
        try:
            worklist = Worklist(path)
            _cases = worklist.cases, worklist.template
        except BioSAM2Error as error:
            self.problem.emit(str(error))
            return False
        self.worklist = worklist
        self.changed.emit()
        return True

    def rows(self) -> list[tuple[WorkCase, Claim | None]]:
        """Each case, and who else has it open."""
        if self.worklist is None:
            return []
        claims = self.worklist.claims()
        own = self.case.name if self.case is not None else None
        return [(case, None if case.name == own else claims.get(case.name)) for case in self.worklist.cases]

    def open(self, name: str) -> bool:
        """Open a case; the one before is saved and closed."""
        return self._change(lambda worklist: worklist.open(name))

    def openNext(self) -> bool:
        """Open the next case that is new or in work and that nobody has open."""
        after = self.case.name if self.case is not None else None
        return self._change(lambda worklist: worklist.open_next(after))

    def approveAndNext(self) -> bool:
        """Save the case as approved, and open the next."""
        return self._finish("approved")

    def needsWork(self) -> bool:
        """Save the case as one to be looked at, and open the next."""
        return self._finish("to be looked at")

    def save(self, state: State | None = None) -> bool:
        """Save what was done; without a state, only where something was.

        Returns:
            False where it could not be saved; the reason was told.
        """
        if self.case is None:
            return True
        shown = self._session.segmentationNode is self._segmentation
        if state is not None and not shown:
            why = _("Choose the volume and the segmentation of {name} again, which the list has open.")
            self.problem.emit(why.format(name=self.case.name))
            return False
        self._work.notice()
        seconds, interactions = self._work.take()
        now = self._fingerprint() if shown else self._saved
        try:
            if not shown or (state is None and now == self._saved) or not namesOf(self._segmentation):
                self.case.add_work(seconds, interactions, state)
            else:
                with self.case.saving(state=state, seconds=seconds, interactions=interactions) as files:
                    self._exporter.write(files.segmentation, self._segmentation, self._volume, self._session.toRecord())
                    found = records.with_review(records.read(files.record), self._review(state))
                    records.write(files.record, found)
                    if self._session.prompts is not None:
                        saveSession(files.session, self._getParameterNode(), self._session.prompts)
        except BioSAM2Error as error:
            self._work.put_back(seconds, interactions)
            self.problem.emit(_("The case was not saved: {why}").format(why=error))
            return False
        self._saved = now
        self.changed.emit()
        return True

    def autosave(self) -> None:
        """Save, unless masks are still coming."""
        if not self._session.running:
            self.save()

    def close(self) -> bool:
        """Save and close the case, and take it out of the scene; False where it cannot be saved."""
        if self.case is None:
            return True
        if self._session.running:
            self._session.stop()
        if not self.save():
            return False
        self._leave()
        return True

    def leaveScene(self) -> None:
        """Save and close the case because the scene is about to be closed, which takes its nodes."""
        if self.case is not None:
            self.save()
            self._leave(remove=False)

    # -- inside ---------------------------------------------------------------------------------

    def _finish(self, state: State) -> bool:
        if self.case is None:
            self.problem.emit(_("Open a case of the list first."))
            return False
        if self._session.running:
            self.problem.emit(_("Masks are still coming; wait for the propagation to end, or stop it."))
            return False
        name = self.case.name
        if not self.save(state):
            return False
        self.said.emit(_("{name}: {state}").format(name=name, state=STATE_TEXTS[state]))
        return self.openNext()

    def _change(self, opening: Callable[[Worklist], OpenCase | None]) -> bool:
        """Close the case that is open and open another one."""
        if self.worklist is None:
            self.problem.emit(_("Choose a list first."))
            return False
        try:
            case = opening(self.worklist)
        except BioSAM2Error as error:
            self.problem.emit(str(error))
            return False
        if case is None:
            closed = self.close()
            self.said.emit(_("No case is left that is new or in work, and that nobody else has open."))
            return closed
        if self.case is not None and case.name == self.case.name:
            self.case = case  # the same one again; only its mark is new
            return True
        if not self.close():
            case.close()
            return False
        return self._enter(case)

    def _enter(self, case: OpenCase) -> bool:
        assert self.worklist is not None
        volume = segmentation = None
        try:
            template = self.worklist.template
            volume = loadVolume(case.case, template)
            segmentation = loadSegmentation(case.case, template, volume)
            loadSession(case.files, segmentation, volume)
        except BioSAM2Error as error:
            self.problem.emit(str(error))
            if segmentation is None:
                removeCase(volume)
                case.close()
                self.changed.emit()
                return False
        self.case, self._volume, self._segmentation = case, volume, segmentation
        self._take(volume, segmentation)
        self._steps = self._session.undoCount
        self._saved = self._fingerprint()
        self._work.restart()
        self._timer.start()
        if case.recovered is not None:
            self.problem.emit(
                _("{name} was left open by {who}; what was saved then is shown.").format(
                    name=case.name, who=case.recovered
                )
            )
        self.changed.emit()
        return True

    def _leave(self, remove: bool = True) -> None:
        """Close the case without saving it, and take its nodes out of the scene."""
        assert self.case is not None
        self._timer.stop()
        if remove:
            shown = self._session.segmentationNode is self._segmentation
            if shown and self._session.prompts is not None:
                for segmentId in namesOf(self._segmentation):
                    self._session.prompts.removeSegment(segmentId)
            if shown:
                self._take(None, None)
            removeCase(self._segmentation, self._volume)
        case, self.case = self.case, None
        self._volume = self._segmentation = self._saved = None
        try:
            case.close()
        except BioSAM2Error as error:
            self.problem.emit(str(error))
        self.changed.emit()

    def _fingerprint(self) -> Any:
        """Another value when voxels, names or prompts have changed."""
        names = namesOf(self._segmentation)
        stamps = tuple(self._session.voxelStamp(segmentId) for segmentId in names)
        return tuple(names.items()), stamps, keptText(self._getParameterNode())

    def _review(self, state: State | None) -> Review:
        """What was looked at, by the segments' names."""
        seen = {
            name: tuple(index for index, each in self._session.reviewed(segmentId).items() if each.seen)
            for segmentId, name in namesOf(self._segmentation).items()
        }
        return Review(state == "approved", axis=self._session.axis or "k", looked_at=seen)

    def _onStateChanged(self) -> None:
        """The user did something, or an answer came."""
        if self.case is None:
            return
        steps = self._session.undoCount
        if steps > self._steps:
            self._work.interact()
        self._steps = steps
