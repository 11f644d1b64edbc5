"""A sample volume for trying the panel out: the generated CT, which needs no network and is nobody's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

NAME = "BioSAM2SampleCT"


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
    """Put the volume into the scene, in a soft-tissue window, and show it."""
    from biosam2.phantom import ct_phantom

    return addVolume(ct_phantom().volume)


def addVolume(volume: Any) -> Any:
    """Put a `biosam2.Volume` into the scene, in a soft-tissue window, and show it."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", NAME)
    slicer.util.updateVolumeFromArray(node, volume.array)
    toRas = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.ijk_to_lps
    matrix = vtk.vtkMatrix4x4()
    for row, column in np.ndindex(4, 4):
        matrix.SetElement(row, column, toRas[row, column])
    node.SetIJKToRASMatrix(matrix)
    node.CreateDefaultDisplayNodes()
    display = node.GetScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(400, 40)
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames() if layout is not None else ():
        logic = layout.sliceWidget(name).sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
        logic.FitSliceToBackground()
    return node
