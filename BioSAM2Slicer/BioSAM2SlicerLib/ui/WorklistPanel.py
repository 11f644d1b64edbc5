"""The section with the list of cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from biosam2.datasets.work_table import WorkCase
from biosam2.errors import BioSAM2Error
from biosam2.worklist import Claim, find_work, make_worklist
from slicer.i18n import tr as _

from .Controls import loadSection
from .WorklistLogic import STATE_TEXTS, WorklistLogic

_SETTING = "BioSAM2Slicer/worklist"


def askList(folder: str) -> str:
    """Let the user choose a list; empty where the user changed their mind."""
    return str(
        qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Open worklist"), folder, _("Worklist (*.csv)"))
        or ""
    )


def askFolder(folder: str) -> str:
    """Let the user choose a folder of images; empty where the user changed their mind."""
    return str(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of images"), folder) or "")


def confirmTakeOver(text: str) -> bool:
    """Whether the user takes a case over."""
    return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("BioSAM2Slicer")))


class WorklistPanel:
    """Shows a list of cases with their states, and opens them.

    Args:
        logic: what opens and saves.
        ask: lets the user choose a list, see `askList`.
        askImages: lets the user choose a folder, see `askFolder`.
        confirm: asks whether a case is to be taken over, see `confirmTakeOver`.
    """

    def __init__(
        self,
        logic: WorklistLogic,
        ask: Callable[[str], str] = askList,
        askImages: Callable[[str], str] = askFolder,
        confirm: Callable[[str], bool] = confirmTakeOver,
    ) -> None:
        self._logic = logic
        self._ask = ask
        self._askImages = askImages
        self._confirm = confirm
        self._claims: dict[str, Claim] = {}
        self.widget, self._ui = loadSection("Worklist")
        self._ui.openList.clicked.connect(lambda *_: self.openList())
        self._ui.newList.clicked.connect(lambda *_: self.newList())
        self._ui.nextCase.clicked.connect(lambda *_: logic.openNext())
        self._ui.approve.clicked.connect(lambda *_: logic.approveAndNext())
        self._ui.needsWork.clicked.connect(lambda *_: logic.needsWork())
        self._ui.takeOver.clicked.connect(lambda *_: self.takeOver())
        self._ui.cases.itemSelectionChanged.connect(self._offerTakeOver)
        self._ui.cases.itemDoubleClicked.connect(lambda item: self._onDoubleClicked(item.row()))
        self._ui.cases.horizontalHeader().setStretchLastSection(True)
        logic.changed.connect(self.refresh)
        self.refresh()

    def cleanup(self) -> None:
        """Follow the logic no longer."""
        self._logic.changed.disconnect(self.refresh)

    def openList(self) -> None:
        """Ask for a list, and take it."""
        self._load(self._ask(self._folder()))

    def newList(self) -> None:
        """Ask for a folder, and make a list of its images beside it."""
        text = self._askImages(self._folder())
        if not text:
            return
        folder = Path(text)
        path = folder.parent / f"{folder.name}.csv"
        try:
            make_worklist(path, find_work(folder)[0])
        except BioSAM2Error as error:
            self._logic.problem.emit(str(error))
            return
        self._load(str(path))

    def takeOver(self) -> None:
        """Open the chosen case, which somebody else has open, if the user means it."""
        name = self._chosen()
        claim = self._claims.get(name)
        if claim is None:
            return
        text = _(
            "{name} is open for {who}.\n\nIf you take it over they cannot save it any more, and you begin with what "
            "they saved last. What they did since stays in their window only; they can export it there under another "
            "name.\n\nTake it over?"
        )
        if self._confirm(text.format(name=name, who=claim)):
            self._logic.takeOver(name, claim)

    def refresh(self) -> None:
        """Show the list as its file has it now."""
        logic = self._logic
        chosen = self._chosen()
        try:
            rows = logic.rows()
        except BioSAM2Error as error:
            logic.problem.emit(str(error))
            rows = []
        self._claims = {case.name: claim for case, claim in rows if claim is not None}
        table = self._ui.cases
        table.setRowCount(len(rows))
        for number, (case, claim) in enumerate(rows):
            own = logic.case is not None and case.name == logic.case.name
            for column, text in enumerate(_texts(case, claim)):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
                item.setToolTip(str(claim) if claim is not None else str(case.image))
                font = item.font()
                font.setBold(own)
                item.setFont(font)
                table.setItem(number, column, item)
            # A case that is about to be taken over stays chosen while the own one is saved.
            if case.name == chosen if chosen in self._claims else own:
                table.selectRow(number)
        table.visible = bool(rows)
        table.resizeColumnsToContents()
        done = sum(case.state == "approved" for case, _claim in rows)
        listed = logic.worklist.path.name if logic.worklist is not None else ""
        self._ui.summary.text = (
            _("{list}: {done} of {count} approved").format(list=listed, done=done, count=len(rows)) if listed else ""
        )
        for button in (self._ui.approve, self._ui.needsWork):
            button.enabled = logic.case is not None
        self._ui.nextCase.enabled = logic.worklist is not None
        self._offerTakeOver()

    # -- inside ---------------------------------------------------------------------------------

    def _load(self, text: str) -> None:
        if text and self._logic.load(Path(text)):
            slicer.app.userSettings().setValue(_SETTING, str(Path(text).parent))

    def _folder(self) -> str:
        return str(slicer.app.userSettings().value(_SETTING) or Path.home())

    def _chosen(self) -> str:
        """Name of the case whose row is chosen; empty for none."""
        row = self._ui.cases.currentRow()
        item = self._ui.cases.item(row, 0) if row >= 0 else None
        return str(item.text()) if item is not None else ""

    def _offerTakeOver(self) -> None:
        """A case that somebody else has open can be taken over."""
        self._ui.takeOver.enabled = self._chosen() in self._claims

    def _onDoubleClicked(self, row: int) -> None:
        self._logic.open(str(self._ui.cases.item(row, 0).text()))


def _texts(case: WorkCase, claim: Claim | None) -> tuple[str, ...]:
    """Name, state and time of a case."""
    state = _("open: {user}").format(user=claim.user) if claim is not None else STATE_TEXTS[case.state]
    if not case.seconds:
        return case.name, state, ""
    minutes, seconds = divmod(round(case.seconds), 60)
    return case.name, state, f"{minutes}:{seconds:02}"
