"""Numbers on segments, as a table in the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from biosam2.masks import dice
from slicer.i18n import tr as _

from ..scene.VolumeGeometry import VolumeGeometry
from .Exporter import maskOf, namesOf

_ROLE = "BioSAM2Slicer.segmentation"


@dataclass(frozen=True)
class Measure:
    """One segment.

    Attributes:
        name: what it is called.
        voxels: how many.
        millilitres: their volume, before any transform.
        mean, deviation: of the volume's voxels in it; None where it is empty, or the volume is in colour.
        dice: its overlap with the segment that it is compared with, 0 to 1; None where it is compared with none.
    """

    name: str
    voxels: int
    millilitres: float
    mean: float | None = None
    deviation: float | None = None
    dice: float | None = None


def measure(segmentationNode: Any, volumeNode: Any, reference: str = "") -> list[Measure]:
    """Measure all segments.

    Args:
        segmentationNode: the segments.
        volumeNode: the volume under them.
        reference: identifier of the segment that the others are compared with.
    """
    voxel = abs(float(np.linalg.det(VolumeGeometry(volumeNode).ijkToLocal[:3, :3]))) / 1000
    array = slicer.util.arrayFromVolume(volumeNode)
    names = namesOf(segmentationNode)
    other = maskOf(segmentationNode, reference, volumeNode) if reference in names else None
    found = []
    for segmentId, name in names.items():
        mask = maskOf(segmentationNode, segmentId, volumeNode)
        values = array[mask] if array.ndim == 3 else array[:0]
        found.append(
            Measure(
                name,
                int(mask.sum()),
                float(mask.sum() * voxel),
                float(values.mean()) if values.size else None,
                float(values.std()) if values.size else None,
                None if other is None else dice(mask, other),
            )
        )
    return found


def showTable(measures: Sequence[Measure], segmentationNode: Any, referenceName: str = "") -> Any:
    """Put measures into the segmentation's table node, which is made the first time."""
    node = segmentationNode.GetNodeReference(_ROLE + ".measures")
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLTableNode", _("{name} measures").format(name=segmentationNode.GetName())
        )
        segmentationNode.SetNodeReferenceID(_ROLE + ".measures", node.GetID())
    columns: list[tuple[str, list[Any]]] = [
        (_("Segment"), [m.name for m in measures]),
        (_("Voxels"), [m.voxels for m in measures]),
        (_("Volume (mL)"), [m.millilitres for m in measures]),
        (_("Mean"), [m.mean for m in measures]),
        (_("Std. dev."), [m.deviation for m in measures]),
    ]
    if referenceName:
        columns.append((_("Dice with {name}").format(name=referenceName), [m.dice for m in measures]))
    wasModifying = node.StartModify()
    node.RemoveAllColumns()
    for title, values in columns:
        node.AddColumn(_column(title, values))
    node.SetLocked(True)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.EndModify(wasModifying)
    return node


def _column(title: str, values: list[Any]) -> Any:
    """Text, rounded for reading where it is a number."""
    column = vtk.vtkStringArray()
    column.SetName(title)
    for value in values:
        column.InsertNextValue("" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value))
    return column
