"""Strokes that 3D Slicer's own nodes save are read as the curves that they show, with the kinds that classes name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from biosam2.cli.markups import read_markups
from biosam2.prompts import BY_NAME
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

slicer_core = pytest.importorskip("slicer_core", reason="3D Slicer's libraries are not installed (pip: slicer-core)")

PLACES = st.lists(st.tuples(*[st.floats(-80, 80)] * 3), min_size=3, max_size=9, unique=True)
MARKED = {name: kind.markup for name, kind in BY_NAME.items() if kind.markup is not None}


def saved(path: Path, node_class: str, places: list[tuple]) -> slicer_core.vtkMRMLMarkupsNode:
    """A markups node with control points, in RAS, saved by its own storage node."""
    scene = slicer_core.vtkMRMLScene()
    roi = "ROI" if "ROI" in node_class else ""
    for each in (node_class, f"vtkMRMLMarkups{roi}JsonStorageNode"):
        scene.RegisterNodeClass(getattr(slicer_core, each)())
    node = scene.AddNewNodeByClass(node_class, "lesion")
    for place in places:
        node.AddControlPoint(place)
    storage = scene.AddNewNodeByClass(f"vtkMRMLMarkups{roi}JsonStorageNode")
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    node.scene = scene  # lives as long as the node
    return node


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=PLACES)
@pytest.mark.parametrize("name", ["scribble", "lasso"])
def test_a_curve_is_read_as_slicer_shows_it(tmp_path, name, places) -> None:
    node = saved(tmp_path / "lesion −.mrk.json", MARKED[name].node, places)
    ((segment, text),) = read_markups(tmp_path / "lesion −.mrk.json")
    assert (segment, text.kind, text.positive, text.system) == ("lesion", name, False, "lps")
    shown = node.GetCurvePointsWorld()
    expected = np.array([shown.GetPoint(n) for n in range(shown.GetNumberOfPoints())]) * (-1, -1, 1)
    assert np.allclose(text.places, expected[: len(text.places)], atol=1e-3)
    assert len(expected) - len(text.places) == (1 if name == "lasso" else 0)  # a closed one repeats its first point


@pytest.mark.parametrize("name", MARKED)
def test_what_a_class_says_of_its_markup_is_so(tmp_path, name) -> None:
    markup = MARKED[name]
    places = [(0, 0, 0), (10, 0, 0), (10, 10, 0), (0, 10, 0)][: markup.places]
    node = saved(tmp_path / f"lesion {markup.name}.mrk.json".replace(" .", "."), markup.node, places)
    if name == "box":
        node.SetSize(4, 4, 4)
        node.GetStorageNode().WriteData(node) if node.GetStorageNode() else None
    ((segment, text), *_) = read_markups(next(tmp_path.iterdir()))
    assert (segment, text.kind) == ("lesion", name)
