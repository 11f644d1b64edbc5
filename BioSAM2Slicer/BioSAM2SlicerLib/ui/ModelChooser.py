"""The choice of a model; one that is not here is downloaded, after its licence was shown and accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import qt
import slicer
from biosam2.errors import BioSAM2Error
from biosam2.models import Recommendation, recommend
from biosam2.models.registry import ModelEntry, list_models
from slicer.i18n import tr as _

from ..Signal import Signal
from ..worker.Tether import endModule, startModule
from ..worker.WorkerPlace import SERVER, WorkerPlace
from .Controls import loadSection

_ACCEPTED = "BioSAM2Slicer/acceptedLicence."


def askLicence(text: str) -> bool:
    """Whether the user accepts a model's terms."""
    return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Licence of a model")))


class ModelChooser:
    """A list of models, and what fetches the one that is missing.

    Signals:
        chosen(name): a model was chosen, and is here.
        said(str): one line for the user, while it downloads.
        refused(str): why the model is not used.

    Args:
        place: where the network runs; a server has its own models.
        accept: shows a licence and asks for agreement, see `askLicence`.
        makeProcess: makes the process that downloads.
    """

    def __init__(
        self,
        place: WorkerPlace,
        accept: Callable[[str], bool] = askLicence,
        makeProcess: Callable[[], Any] | None = None,
    ) -> None:
        self.chosen = Signal()
        self.said = Signal()
        self.refused = Signal()
        self._place = place
        self._accept = accept
        self._makeProcess = makeProcess or qt.QProcess
        self._process: Any = None
        self._wanted = ""
        self._current = ""
        # What the server has; None before it was asked.
        self._offered: list[str] | None = None
        # What is segmented, and on what; no model is recommended before the device is known.
        self._modality = self._device = ""
        self._networkAvailable = True
        self._outcome: dict[str, Any] = {}
        self.widget, ui = loadSection("Model")
        self._box, self._button, self._purpose = ui.model, ui.download, ui.modelPurpose
        self.placeButton = ui.place
        self._fill()
        self._box.currentIndexChanged.connect(lambda *_index: self._onChosen())
        self._button.clicked.connect(lambda *_arguments: self._onButton())

    @property
    def name(self) -> str:
        """The model that is used."""
        return self._current

    def show(self, name: str) -> None:
        """Show what is used, without choosing it anew."""
        self._current = name
        self._box.blockSignals(True)
        self._box.currentIndex = self._box.findData(name)
        self._box.blockSignals(False)
        self._refresh()

    def offer(self, names: list[str]) -> None:
        """Let the user choose among the models that the server has, instead of those known here."""
        self._offered = list(names)
        self._fill()

    def advise(self, modality: str, device: str) -> None:
        """Recommend a model, the first in the list.

        Args:
            modality: DICOM code of what is segmented; empty if unknown.
            device: where the network runs; empty as long as it is unknown.
        """
        if (modality, device) != (self._modality, self._device):
            self._modality, self._device = modality, device
            self._fill()

    def cleanup(self) -> None:
        """Stop a download; what has arrived is kept for the next time."""
        self._stop()

    # -- inside ---------------------------------------------------------------------------------

    def _entries(self) -> dict[str, ModelEntry | None]:
        """What can be chosen, by name; None for a server's model of which nothing is known here."""
        known = {entry.name: entry for entry in list_models()}
        return dict(known) if self._offered is None else {name: known.get(name) for name in self._offered}

    def _recommended(self) -> Recommendation | None:
        """The model to begin with; None where none fits, or the device is not known yet."""
        entries = [entry for entry in self._entries().values() if entry is not None]
        here = [entry.name for entry in entries if self._isHere(entry)]
        try:
            return recommend(self._modality, self._device, self._networkAvailable, models=entries, here=here)
        except BioSAM2Error:
            return None

    def _fill(self) -> None:
        recommended = self._recommended()
        best = recommended.entry.name if recommended is not None else ""
        entries = sorted(
            self._entries().items(),
            key=lambda item: (item[0] != best, item[1] is not None and item[1].purpose == "archive"),
        )
        self._box.blockSignals(True)
        self._box.clear()
        for name, entry in entries:
            self._box.addItem(f"{name}{_(' (recommended)') if name == best else ''}{self._note(entry)}", name)
            self._box.setItemData(self._box.count - 1, entry.description if entry else "", qt.Qt.ToolTipRole)
        self._box.currentIndex = self._box.findData(self._current)
        self._box.blockSignals(False)
        self._refresh()

    def _note(self, entry: ModelEntry | None) -> str:
        if entry is not None and entry.source == "shipped":
            return _(" (for trying out)")
        if entry is None or self._isHere(entry):
            return ""
        return _(" (to download, {size:.0f} MB)").format(size=entry.size / 1e6) if entry.size else _(" (to download)")

    def _isHere(self, entry: ModelEntry | None) -> bool:
        return entry is None or entry.present or self._place.kind == SERVER

    def _refresh(self) -> None:
        entry = self._entries().get(self._box.currentData or "")
        self._button.text = _("Stop") if self._process is not None else _("Download")
        self._button.visible = self._process is not None or (entry is not None and not self._isHere(entry))
        self._box.enabled = self._process is None
        self._box.toolTip = entry.description if entry is not None else ""
        self._purpose.text = "\n".join(filter(None, (self._box.toolTip, self._advice(entry))))
        self._purpose.visible = bool(self._purpose.text)

    def _advice(self, entry: ModelEntry | None) -> str:
        """The model to begin with, and why, in one line."""
        recommended = self._recommended()
        if recommended is None:
            return ""
        if entry is not None and recommended.entry.name == entry.name:
            return _("Recommended: {why}.").format(why=recommended.reason)
        return _("Recommended: {model} ({why}).").format(model=recommended.summary, why=recommended.reason)

    def _onChosen(self) -> None:
        name = self._box.currentData or ""
        if name not in self._entries():
            return
        entry = self._entries()[name]
        if entry is None or self._isHere(entry):
            self._current = name
            self._refresh()
            self.chosen.emit(name)
        else:
            self._download(entry)

    def _onButton(self) -> None:
        if self._process is not None:
            self._stop()
            self._goBack(_("The download was stopped; it continues from there the next time."))
            return
        entry = self._entries().get(self._box.currentData or "")
        if entry is not None:
            self._download(entry)

    def _download(self, entry: ModelEntry) -> None:
        settings = slicer.app.userSettings()
        if settings.value(_ACCEPTED + entry.name) != entry.conditions:
            if not self._accept(self._terms(entry)):
                self._goBack(_("{name} is not downloaded: its licence was not accepted.").format(name=entry.name))
                return
            settings.setValue(_ACCEPTED + entry.name, entry.conditions)
        self._wanted, self._outcome = entry.name, {}
        process = self._process = self._makeProcess()
        process.setProcessEnvironment(self._place.moduleEnvironment())
        process.readyReadStandardOutput.connect(lambda: self._onOutput(process))
        process.finished.connect(lambda *_arguments: self._onFinished(process))
        process.errorOccurred.connect(lambda *_arguments: self._onFault(process))
        startModule(process, self._place.interpreter(), "biosam2.models.fetch", [entry.name])
        self.said.emit(_("Downloading {name} …").format(name=entry.name))
        self._refresh()

    def _terms(self, entry: ModelEntry) -> str:
        size = _("{size:.0f} MB").format(size=entry.size / 1e6) if entry.size else _("of unknown size")
        lines = [
            _("{name}: {what}").format(name=entry.name, what=entry.description),
            _("Licence of its weights: {licence}").format(licence=entry.licence or _("not stated")),
            entry.licence_url or "",
            _("Its host also asks: {terms}").format(terms=entry.terms) if entry.terms else "",
            entry.terms_url or "",
            _("It is downloaded ({size}) from {url}.").format(size=size, url=entry.url),
            _("Do you accept these conditions and want to download it?"),
        ]
        return "\n\n".join(line for line in lines if line)

    def _onOutput(self, process: Any) -> None:
        if process is not self._process:
            return
        while process.canReadLine():
            said = json.loads(bytes(process.readLine().data()))
            if "received" in said:
                self.said.emit(
                    _("Downloading {name}: {received:.0f} of {total:.0f} MB").format(
                        name=self._wanted, received=said["received"] / 1e6, total=said["total"] / 1e6
                    )
                )
            else:
                self._outcome = said

    def _onFault(self, process: Any) -> None:
        if process is self._process and process.state() == qt.QProcess.NotRunning:
            self._process = None
            self._goBack(_("Python could not be started: {why}").format(why=process.errorString()))

    def _onFinished(self, process: Any) -> None:
        if process is not self._process:
            return
        self._onOutput(process)
        self._process = None
        if "path" not in self._outcome:
            # What is here is recommended from now on.
            self._networkAvailable = False
            self._fill()
            why = self._outcome.get("error") or _("The download ended unexpectedly; choose the model again.")
            self._goBack(_("{name} is not downloaded: {why}").format(name=self._wanted, why=why))
            return
        self._current = self._wanted
        self._networkAvailable = True
        self._fill()
        self.said.emit(_("{name} is downloaded.").format(name=self._wanted))
        self.chosen.emit(self._wanted)

    def _goBack(self, text: str) -> None:
        """Show the model that is used still, and why."""
        self.show(self._current)
        self.refused.emit(text)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            endModule(process)
