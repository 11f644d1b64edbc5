"""The section in which results leave the panel: files for others, and numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import qt
import slicer
from biosam2.errors import BioSAM2Error
from biosam2.io.review import Review
from biosam2.session import ModelFacts
from slicer.i18n import tr as _

from ..export.Exporter import DICOM, FORMATS, MOVIE, VIDEO_FORMATS, Exporter, namesOf, reviewOf
from ..export.Measures import measure, showTable
from ..session.PanelSession import PanelSession
from ..worker.InstallLogic import DICOM_PACKAGES, VIDEO_PACKAGES, InstallLogic, Package, slicersPip
from .Controls import loadSection

# What formats need that Slicer does not have.
_PACKAGES = {DICOM: DICOM_PACKAGES, MOVIE: VIDEO_PACKAGES}
_FOLDER_SETTING = "BioSAM2Slicer/exportFolder"


def askPath(title: str, suggested: str, kinds: str) -> str:
    """Let the user choose where to write; empty where the user changed their mind."""
    return str(qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, suggested, kinds) or "")


def askToInstall(text: str) -> bool:
    """Whether something may be installed."""
    return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("BioSAM2Slicer")))


class ExportPanel:
    """Writes the session's segmentation, and measures it.

    Args:
        session: what is exported.
        getModel: says which network drew.
        say: tells the user what was done.
        ask: lets the user choose a path, see `askPath`.
        askInstall: asks whether what a format needs may be installed, see `askToInstall`.
        makeInstaller: makes what installs packages.
        refuse: tells the user why something was not done; by default as `say`.
        getReview: tells what was looked at and approved; by default what was looked at in the session.
    """

    def __init__(
        self,
        session: PanelSession,
        getModel: Callable[[], ModelFacts],
        say: Callable[[str], None],
        ask: Callable[[str, str, str], str] = askPath,
        askInstall: Callable[[str], bool] = askToInstall,
        makeInstaller: Callable[[Sequence[Package]], InstallLogic] = lambda packages: InstallLogic(
            packages=packages, torch=False, pipInstall=slicersPip()
        ),
        refuse: Callable[[str], None] | None = None,
        getReview: Callable[[], Review] | None = None,
    ) -> None:
        self._session = session
        self._say = say
        self._refuse = refuse or say
        self._getReview = getReview or (lambda: reviewOf(session))
        self._ask = ask
        self._askInstall = askInstall
        self._makeInstaller = makeInstaller
        self._installer: InstallLogic | None = None
        self._exporter = Exporter(getModel)
        self._build()

    def cleanup(self) -> None:
        """Stop what is being installed, and release the scene."""
        installer, self._installer = self._installer, None
        if installer is not None:
            installer.progress.disconnect(self._say)
            installer.cancel()
        self._table.setMRMLTableNode(None)
        self.widget.setMRMLScene(None)

    def refresh(self) -> None:
        """Offer what can be done now."""
        node, volume = self._session.segmentationNode, self._session.volumeNode
        formats = self._exporter.formats(volume, self._session.parameters.film)
        if [self._formatBox.itemData(n) for n in range(self._formatBox.count)] != list(formats):
            self._formatBox.clear()
            for ending, text in formats.items():
                self._formatBox.addItem(f"{_(text)} ({ending})", ending)
        names = namesOf(node) if node is not None else {}
        offered = [("", _("nothing")), *names.items()]
        if [(self._compareBox.itemData(n), self._compareBox.itemText(n)) for n in range(self._compareBox.count)] != [
            (segmentId, text) for segmentId, text in offered
        ]:
            chosen = self._compareBox.currentData
            self._compareBox.clear()
            for segmentId, text in offered:
                self._compareBox.addItem(text, segmentId)
            self._compareBox.currentIndex = max(self._compareBox.findData(chosen), 0)
        for widget in (self._exportButton, self._measureButton):
            widget.enabled = bool(names)

    def export(self) -> None:
        """Ask where to, and write."""
        node = self._session.segmentationNode
        if node is None or self._busy():
            return
        ending = self._formatBox.currentData
        settings = slicer.app.userSettings()
        folder = settings.value(_FOLDER_SETTING) or str(Path.home())
        text = self._ask(
            _("Export segmentation"),
            str(Path(folder) / f"{_fileName(node.GetName())}{ending}"),
            f"{_({**FORMATS, **VIDEO_FORMATS}[ending])} (*{ending})",
        )
        if not text:
            return
        path = Path(text)
        if not path.name.lower().endswith(ending):
            path = path.with_name(path.name + ending)
        settings.setValue(_FOLDER_SETTING, str(path.parent))
        if ending in _PACKAGES:
            self._installAndWrite(path, _PACKAGES[ending])
        else:
            self._write(path)

    def measure(self) -> None:
        """Fill the table."""
        node = self._session.segmentationNode
        if node is None or self._busy():
            return
        reference = self._compareBox.currentData or ""
        table = showTable(
            measure(node, self._session.volumeNode, reference),
            node,
            namesOf(node).get(reference, "") if reference else "",
        )
        self._table.setMRMLTableNode(table)
        self._table.resizeColumnsToContents()
        self._measured = True
        self._showTable()
        self._say(_("Measured: the table “{name}” is in the scene.").format(name=table.GetName()))

    # -- inside ---------------------------------------------------------------------------------

    def _build(self) -> None:
        self.widget, ui = loadSection("Export")
        self._formatBox, self._exportButton = ui.format, ui.export
        self._compareBox, self._measureButton = ui.compare, ui.measure
        self._table = ui.measures
        self._measured = False
        self.widget.setMRMLScene(slicer.mrmlScene)
        self._showTable()
        # Unfolding shows what was hidden while the section was folded.
        ui.exportCollapsibleButton.contentsCollapsed.connect(lambda _folded: self._showTable())
        self._exportButton.clicked.connect(lambda *_arguments: self.export())
        self._measureButton.clicked.connect(lambda *_arguments: self.measure())
        self.refresh()

    def _showTable(self) -> None:
        self._table.visible = self._measured

    def _busy(self) -> bool:
        if self._session.running:
            self._refuse(_("A propagation is running; wait for it to end, or stop it."))
        return bool(self._session.running)

    def _write(self, path: Path) -> None:
        session = self._session
        try:
            written = self._exporter.write(
                path, session.segmentationNode, session.volumeNode, session.toRecord(), self._getReview()
            )
        except BioSAM2Error as error:
            self._refuse(_("Nothing was exported: {why}").format(why=error))
            return
        except ImportError as error:
            why = " ".join(str(error).split())
            self._refuse(_("Nothing was exported: {why}. Restart Slicer, and export again.").format(why=why))
            return
        names = ", ".join(file.name for file in written)
        self._say(_("Exported to {folder}: {names}").format(folder=path.parent, names=names))

    def _installAndWrite(self, path: Path, packages: Sequence[Package]) -> None:
        """Some formats need packages, which are installed only when the user says so."""
        if self._installer is not None:
            return
        installer = self._makeInstaller(packages)
        if installer.complete:
            self._write(path)
            return
        if not self._askInstall(installer.describe()):
            self._refuse(_("Nothing was installed, and nothing exported."))
            return

        def finished(complete: bool, text: str) -> None:
            if self._installer is not installer:
                return
            self._installer = None
            if complete:
                self._write(path)
            else:
                self._refuse(text)

        self._installer = installer
        installer.progress.connect(self._say)
        installer.finished.connect(finished)
        installer.install()


def _fileName(name: str) -> str:
    """A node's name as a file's: no sign that a file system refuses."""
    return (
        "".join("_" if sign in '<>:"/\\|?*' or ord(sign) < 32 else sign for sign in name).strip(". ") or "segmentation"
    )
