"""Working through a list of cases: opening, saving by itself, approving, and the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from biosam2.datasets.work_table import State, WorkCase
from biosam2.errors import BioSAM2Error
from biosam2.io.review import Review
from biosam2.session import ModelFacts
from biosam2.worklist import Claim, OpenCase, Worklist, WorkTimer
from slicer.i18n import tr as _

from ..export.Exporter import Exporter, namesOf, reviewOf
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
        noticed(str): what was not saved, though the user did not ask for it; one line.

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
        self.noticed = Signal()
        self.worklist: Worklist | None = None
        self.case: OpenCase | None = None
        self._session = session
        self._getParameterNode = getParameterNode
        self._exporter = Exporter(getModel)
        self._take = take
        self._volume: Any = None
        self._segmentation: Any = None
        self._saved: Any = None
        # Whether the case was approved when it was opened or saved last.
        self._isApproved = False
        self._work = WorkTimer()
        self._timer = qt.QTimer()
        self._timer.setInterval(AUTOSAVE_MS)
        self._timer.timeout.connect(self.autosave)
        session.given.connect(self._onGiven)
        session.leaving.connect(self._onLeaving)

    def cleanup(self) -> None:
        """Save and close the case, and follow the session no longer."""
        self.close()
        self._timer.stop()
        self._session.given.disconnect(self._onGiven)
        self._session.leaving.disconnect(self._onLeaving)

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
        cases = self.worklist.cases
        claims = self.worklist.claims(cases)
        own = self.case.name if self.case is not None else None
        return [(case, None if case.name == own else claims.get(case.name)) for case in cases]

    def open(self, name: str) -> bool:
        """Open a case; the one before is saved and closed."""
        if self.case is not None and self.case.name == name and self.case.is_open:
            self._showAgain()
            return True
        return self._change(lambda worklist: worklist.open(name))

    def openNext(self) -> bool:
        """Open the next case that is new or in work and that nobody has open."""
        after = self.case.name if self.case is not None else None
        return self._change(lambda worklist: worklist.open_next(after))

    def takeOver(self, name: str, who: Claim) -> bool:
        """Open a case that somebody else has open, who cannot save it any more then; see `open`.

        Args:
            name: of the case.
            who: has it open.
        """
        if not self._change(lambda worklist: worklist.open(name, take_over=True)):
            return False
        text = _("{name} was taken over from {who}: what was saved then is shown. They cannot save it any more.")
        self.noticed.emit(text.format(name=name, who=who))
        return True

    def approveAndNext(self) -> bool:
        """Save the case as approved, and open the next."""
        return self._finish("approved")

    def needsWork(self) -> bool:
        """Save the case as one to be looked at, and open the next."""
        return self._finish("to be looked at")

    def notice(self) -> None:
        """The user is at work, turning slices for example: the time counts."""
        if self._isShown:
            self._work.notice()

    def save(self) -> bool:
        """Save what was done, where something was.

        Returns:
            False where it could not be saved; the reason was told.
        """
        if self.case is None or self._isSaved:
            return True
        saved = self._save(self.problem)
        self.changed.emit()
        return saved

    def autosave(self) -> None:
        """Save, unless masks are still coming."""
        if not self._session.running:
            self.save()

    def close(self) -> bool:
        """Save and close the case, and take it out of the scene; False where it cannot be saved.

        A case that cannot be saved any more is closed, and stays in the scene.
        """
        if self.case is None:
            return True
        closed = self._close()
        self.changed.emit()
        return closed

    def leaveScene(self) -> None:
        """Save and close the case because the scene is about to be closed, which takes its nodes."""
        if self.case is None:
            return
        self._showAgain()
        self._work.notice()
        self._save(self.noticed)
        self._leave(remove=False)
        self.changed.emit()

    def review(self) -> Review:
        """What was looked at in the session, and, where it is a case's, whether and by whom it was approved.

        An approval holds for what was saved with it: none is told of a case that was changed since.

        Raises:
            InputError: the list is damaged.
        """
        if self.case is None or not self._isShown or self._fingerprint() != self._saved:
            return reviewOf(self._session)
        case = self.case.case
        if case.state != "approved":
            return reviewOf(self._session)
        return reviewOf(self._session, True, case.by, case.changed)

    # -- inside ---------------------------------------------------------------------------------

    def _finish(self, state: State) -> bool:
        if self.case is None:
            self.problem.emit(_("Open a case of the list first."))
            return False
        if self._session.running:
            self.problem.emit(_("A propagation is running; wait for it to end, or stop it."))
            return False
        name = self.case.name
        if not self._isShown:
            why = _("Choose the volume and the segmentation of {name} again, which the list has open.")
            self.problem.emit(why.format(name=name))
            return False
        self._work.notice()
        if not self._save(self.problem, state):
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
            done = False
        else:
            done = self._goTo(case)
        self.changed.emit()
        return done

    def _goTo(self, case: OpenCase | None) -> bool:
        """Close the case that is shown, and show another one; None where none is left."""
        closed = self._close()
        if case is None:
            self.said.emit(_("No case is left that is new or in work, and that nobody else has open."))
            return closed
        if not closed:
            case.close()
            return False
        return self._enter(case)

    def _enter(self, case: OpenCase) -> bool:
        assert self.worklist is not None
        volume = segmentation = None
        try:
            template = self.worklist.template
            listed = case.case
            self._isApproved = listed.state == "approved"
            volume = loadVolume(listed, template)
            segmentation = loadSegmentation(listed, template, volume)
            loadSession(case.files, segmentation, volume)
        except BioSAM2Error as error:
            self.problem.emit(str(error))
            if segmentation is None:
                removeCase(volume)
                case.close()
                return False
        self.case, self._volume, self._segmentation = case, volume, segmentation
        self._take(volume, segmentation)
        self._saved = self._fingerprint()
        self._work.restart()
        self._timer.start()
        if case.recovered is not None:
            self.problem.emit(
                _("{name} was left open by {who}; what was saved then is shown.").format(
                    name=case.name, who=case.recovered
                )
            )
        return True

    @property
    def _isShown(self) -> bool:
        """Whether the case is what the session works on; a segmentation that was deleted is nothing."""
        return (
            self.case is not None
            and self._segmentation.GetScene() is not None
            and self._session.volumeNode is self._volume
            and self._session.segmentationNode is self._segmentation
        )

    def _showAgain(self) -> None:
        """Make the case the input where another one was chosen: only then its session tells what is to be saved."""
        nodes = self._volume, self._segmentation
        if not self._isShown and all(node.GetScene() is not None for node in nodes):
            self._take(*nodes)

    @property
    def _isSaved(self) -> bool:
        """Whether nothing was done since the last save, and no work is to be counted."""
        return self._work.is_empty and (not self._isShown or self._fingerprint() == self._saved)

    def _save(self, failed: Signal, state: State | None = None) -> bool:
        """Save what was done; of a case that is not shown, only the work is counted.

        Args:
            failed: is told why it could not be saved.
            state: that the case then has; without one only what was done is saved.
        """
        assert self.case is not None
        if state is None and self._isSaved:
            return True
        isChanged = self._isShown and self._fingerprint() != self._saved
        seconds, interactions = self._work.take()
        try:
            if (state is None and not isChanged) or not namesOf(self._segmentation):
                self.case.add_work(seconds, interactions, state)
            else:
                with self.case.saving(state=state, seconds=seconds, interactions=interactions) as files:
                    review = reviewOf(self._session, state == "approved")
                    record = self._session.toRecord()
                    self._exporter.write(files.segmentation, self._segmentation, self._volume, record, review)
                    if self._session.prompts is not None:
                        saveSession(files.session, self._getParameterNode(), self._session.prompts)
        except BioSAM2Error as error:
            self._work.put_back(seconds, interactions)
            failed.emit(_("The case was not saved: {why}").format(why=error))
            return False
        if state is not None or isChanged:
            self._isApproved = state == "approved"
        if self._isShown:
            self._saved = self._fingerprint()
        return True

    def _close(self) -> bool:
        if self.case is None:
            return True
        if self._session.running:
            self._session.stop()
        self._showAgain()
        if not self.case.is_open:
            self._keep(_("it is not open here any more"))
            return True
        if not self._isShown and self._segmentation.GetScene() is not None:
            self._keep(_("its volume is gone, or lies elsewhere"))
            return True
        self._work.notice()
        if not self._save(self.problem):
            return False
        self._leave()
        return True

    def _keep(self, why: str) -> None:
        """Close a case that cannot be saved any more; what was done stays in the scene, under a name that says so."""
        assert self.case is not None
        self._segmentation.SetName(_("{name} (not saved)").format(name=self._segmentation.GetName()))
        text = _(
            "{name} was closed without saving it: {why}. "
            "Its segmentation stays in the scene, to be exported: {segmentation}"
        )
        self.noticed.emit(text.format(name=self.case.name, why=why, segmentation=self._segmentation.GetName()))
        self._leave(remove=False)

    def _leave(self, remove: bool = True) -> None:
        """Close the case without saving it, and take its nodes out of the scene."""
        assert self.case is not None
        self._timer.stop()
        shown, case = self._isShown, self.case
        self.case = None
        if remove:
            if shown and self._session.prompts is not None:
                for segmentId in namesOf(self._segmentation):
                    self._session.prompts.removeSegment(segmentId)
            if shown:
                self._take(None, None)
            removeCase(self._segmentation, self._volume)
        self._volume = self._segmentation = self._saved = None
        try:
            case.close()
        except BioSAM2Error as error:
            self.problem.emit(str(error))

    def _fingerprint(self) -> Any:
        """Another value when voxels, names or prompts have changed, or slices were looked at.

        To look through a case that is approved takes nothing back, and so changes nothing.
        """
        names = namesOf(self._segmentation)
        stamps = tuple(self._session.voxelStamp(segmentId) for segmentId in names)
        done = self._session.toRecord() if self._isApproved else keptText(self._getParameterNode())
        return tuple(names.items()), stamps, done

    def _onGiven(self) -> None:
        """The user gave a prompt or a correction."""
        if self._isShown:
            self._work.interact()

    def _onLeaving(self) -> None:
        """Another input is chosen: what was done on the case is known completely for the last time."""
        if self._isShown and not self._isSaved:
            self._save(self.noticed)
            self.changed.emit()
