"""The area of each segment of a video over time: a table and a plot in the scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from biosam2.io.areas import Areas
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from .Exporter import namesOf

_TABLE_ROLE = "BioSAM2Slicer.areas"
_CHART_ROLE = "BioSAM2Slicer.areasChart"


def plotAreas(segmentationNode: Any, areas: Areas) -> Any:
    """Put areas into the segmentation's table and its plot, which are made the first time.

    Args:
        segmentationNode: whose segments they are; its colours are the curves'.
        areas: of all segments, by name.

    Returns:
        The vtkMRMLPlotChartNode.
    """
    sized = areas.pixel_mm2 is not None
    across = _("Frame") if areas.times is None else _("Time (s)")
    named = _("{name} (mm²)") if sized else _("{name} (pixels)")
    table = _node(segmentationNode, _TABLE_ROLE, "vtkMRMLTableNode", _("{name} areas"))
    columns = {name: named.format(name=name) for name in areas.pixels}
    frames = len(next(iter(areas.pixels.values())))
    wasModifying = table.StartModify()
    table.RemoveAllColumns()
    table.AddColumn(_column(across, np.arange(frames) if areas.times is None else areas.times))
    for name, pixels in areas.pixels.items():
        table.AddColumn(_column(columns[name], pixels * (areas.pixel_mm2 or 1.0)))
    table.SetLocked(True)
    table.SetUseColumnTitleAsColumnHeader(True)
    table.EndModify(wasModifying)
    chart = _node(segmentationNode, _CHART_ROLE, "vtkMRMLPlotChartNode", _("{name} areas over time"))
    for number in reversed(range(chart.GetNumberOfPlotSeriesNodes())):
        slicer.mrmlScene.RemoveNode(chart.GetNthPlotSeriesNode(number))
    chart.RemoveAllPlotSeriesNodeIDs()
    for segmentId, name in namesOf(segmentationNode).items():
        series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(across)
        series.SetYColumnName(columns[name])
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleNone)
        series.SetColor(segmentationNode.GetSegmentation().GetSegment(segmentId).GetColor())
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetXAxisTitle(across)
    chart.SetYAxisTitle(_("Area (mm²)") if sized else _("Area (pixels)"))
    return chart


def _node(segmentationNode: Any, role: str, kind: str, name: str) -> Any:
    """The segmentation's node of a role, made where there is none."""
    node = segmentationNode.GetNodeReference(role)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name.format(name=segmentationNode.GetName()))
        segmentationNode.SetNodeReferenceID(role, node.GetID())
    return node


def _column(title: str, values: NDArray[Any]) -> Any:
    column = numpy_to_vtk(np.ascontiguousarray(values, np.float64), deep=True)
    column.SetName(title)
    return column
