"""A sample volume for trying the panel out: the generated CT, which needs no network and shows no patient."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ..scene.ViewPlanes import showVolume
from ..scene.VolumeGeometry import fillNode
from ..worker.Tether import endModule, startModule, withPackage
from ..worker.WorkerPlace import WorkerPlace

NAME = "BioSAM2SampleCT"
_START_MS = 5000


def registerSampleVolume(icon: Path | None) -> None:
    """Offer it in the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="BioSAM2Slicer",
        sampleName=_("Generated abdominal CT"),
        uris="",  # there is none; without the argument Slicer raises
        nodeNames=NAME,
        customDownloader=lambda *_source: makeSampleVolume(),
        thumbnailFileName=str(icon) if icon is not None else None,
    )


def makeSampleVolume() -> Any:
    """Put the volume into the scene, in a soft-tissue window, and show it.

    It is computed in a process of its own, which takes some seconds; Slicer stays usable, and a dialog says so and can
    cancel it.

    Returns:
        The volume's node; None where the user cancelled.

    Raises:
        RuntimeError: the process failed; why, in one line.
    """
    from biosam2.synthetic.phantom import placed

    dialog = slicer.util.createProgressDialog(
        labelText=_("Generating the abdominal CT …"), maximum=0, windowTitle=_("Sample data")
    )
    with tempfile.TemporaryDirectory(dir=slicer.app.temporaryPath) as folder:
        path = Path(folder) / "ct.npy"
        try:
            made = _generate(path, dialog)
        finally:
            dialog.close()
            dialog.deleteLater()
        return addVolume(placed(np.load(path))) if made else None


def _generate(path: Path, dialog: Any) -> bool:
    """Have the volume written to a file; False where the user cancelled.

    Raises:
        RuntimeError: it could not be.
    """
    process = qt.QProcess()
    loop = qt.QEventLoop()
    cancelled: list[bool] = []

    def cancel() -> None:
        cancelled.append(True)
        endModule(process)

    dialog.canceled.connect(cancel)
    process.finished.connect(lambda *_arguments: loop.quit())
    process.setProcessEnvironment(withPackage(qt.QProcessEnvironment.systemEnvironment()))
    startModule(process, WorkerPlace().interpreter(), "biosam2.synthetic.phantom", [str(path)])
    if not process.waitForStarted(_START_MS):
        raise RuntimeError(_("The sample volume cannot be generated: {why}").format(why=process.errorString()))
    if process.state() != qt.QProcess.NotRunning:
        loop.exec()
    if cancelled:
        return False
    if not path.exists():
        lines = bytes(process.readAllStandardError().data()).decode("utf-8", "replace").strip().splitlines()
        why = lines[-1] if lines else process.errorString()
        raise RuntimeError(_("The sample volume cannot be generated: {why}").format(why=why))
    return True


def addVolume(volume: Any) -> Any:
    """Put a `biosam2.Volume` into the scene, in a soft-tissue window, and show it."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", NAME)
    fillNode(node, volume)
    node.CreateDefaultDisplayNodes()
    display = node.GetScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(400, 40)
    showVolume(node)
    return node
