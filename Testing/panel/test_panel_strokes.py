"""Scribbles, lassos and lines in the panel: drawn, moved, deleted, undone and saved, with mouse and keys."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2 import Lasso, Line, Scribble
from BioSAM2SlicerLib.scene.PromptNodes import PlacedPrompt, PromptNodes
from BioSAM2SlicerLib.scene.Stroke import Stroke
from BioSAM2SlicerLib.ui.StrokeDrawing import StrokeDrawing
from host import event_loop
from panel_helpers import GRIDS, add_volume, load_scene, save_scene
from PySide6 import QtCore
from test_panel_prompts import Scene
from test_panel_widget import open_panel, panel  # noqa: F401 - fixtures

KEY = QtCore.Qt.Key
CURVE, CLOSED, LINE = "vtkMRMLMarkupsCurveNode", "vtkMRMLMarkupsClosedCurveNode", "vtkMRMLMarkupsLineNode"
WAVE = [(20, 20), (22, 17), (25, 21), (28, 18), (31, 21)]
RING = [(20, 14), (32, 14), (34, 20), (32, 26), (20, 26), (18, 20)]


def draw(panel, host, key, way, index=12, view="Red"):  # noqa: F811
    """Take up a tool, unless it is in hand, and draw on slice `index` through (i, j)."""
    name = {KEY.Key_S: "scribble", KEY.Key_L: "lasso", KEY.Key_D: "line"}[key]
    if not panel.find(name).checked:
        panel.press(key)
    host.views[view].draw([panel.world(i, j, index) for i, j in way])
    panel.settle()


def undo(panel):  # noqa: F811
    panel.press(KEY.Key_Z, QtCore.Qt.KeyboardModifier.ControlModifier)
    panel.settle()


def redo(panel):  # noqa: F811
    both = QtCore.Qt.KeyboardModifier.ControlModifier | QtCore.Qt.KeyboardModifier.ShiftModifier
    panel.press(KEY.Key_Z, both)
    panel.settle()


def given(panel):  # noqa: F811
    """The prompts that the session has of the chosen segment."""
    return panel.session.state.prompts(panel.segment())


def nodes(host, kind):
    """The markups of exactly this class."""
    scene = host.scene
    found = [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in found if node.GetClassName() == kind]


def test_a_scribble_is_drawn_propagated_undone_and_deleted(panel, host):  # noqa: F811
    draw(panel, host, KEY.Key_S, WAVE)
    [placed] = panel.prompts()
    [scribble] = given(panel)
    assert isinstance(scribble, Scribble)
    assert (scribble.slice_index, scribble.positive) == (12, True)
    np.testing.assert_allclose(scribble.polyline, [(j, i) for i, j in WAVE], atol=0.6)
    [curve] = nodes(host, CURVE)
    assert curve.GetName() == "Segment_1 scribble +"
    assert curve.GetNumberOfControlPoints() == len(WAVE)
    assert curve.GetDisplayNode().GetSelectedColor() == pytest.approx((0.2, 0.9, 0.2))
    outlined = panel.voxels()
    assert outlined[12, 20, 26]
    assert outlined.any(axis=(1, 2)).sum() == 1
    undo(panel)
    assert not panel.prompts()
    assert not panel.voxels().any()
    assert not nodes(host, CURVE)
    redo(panel)
    assert panel.prompts() == [placed]
    assert given(panel) == (scribble,)
    np.testing.assert_array_equal(panel.voxels(), outlined)
    panel.press(KEY.Key_Space, QtCore.Qt.KeyboardModifier.ShiftModifier)
    panel.settle()
    assert panel.voxels()[9:16].any(axis=(1, 2)).all()
    undo(panel)
    panel.press(KEY.Key_Escape)
    view = host.views["Red"]
    view.go_to(panel.world(25, 21, 12))
    view.point(*view.xy(panel.world(25, 21, 12)))
    panel.press(KEY.Key_Delete)
    panel.settle()
    assert not panel.prompts()
    assert not panel.voxels().any()
    undo(panel)
    assert given(panel) == (scribble,)
    np.testing.assert_array_equal(panel.voxels(), outlined)


def test_a_sign_holds_for_strokes_while_their_tool_is_in_hand(panel, host):  # noqa: F811
    draw(panel, host, KEY.Key_S, WAVE)
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_S, [(40, 30), (42, 34), (45, 30)])
    draw(panel, host, KEY.Key_S, [(4, 4), (8, 6)])
    assert [prompt.positive for prompt in given(panel)] == [True, False, False]
    assert [node.GetName() for node in nodes(host, CURVE)] == [f"Segment_1 scribble {sign}" for sign in "+−−"]
    assert nodes(host, CURVE)[1].GetDisplayNode().GetSelectedColor() == pytest.approx((1, 0.25, 0.2))
    draw(panel, host, KEY.Key_L, RING)
    assert given(panel)[-1].positive
    panel.press(KEY.Key_Escape)
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_S, [(2, 2), (2, 8)])
    assert not given(panel)[-1].positive


def test_a_lasso_adds_what_it_encloses_and_erases_it_when_it_is_negative(panel, host):  # noqa: F811
    draw(panel, host, KEY.Key_L, RING)
    [lasso] = given(panel)
    assert isinstance(lasso, Lasso)
    assert len(nodes(host, CLOSED)) == 1
    ring = lasso.inside((40, 48))
    assert 100 < ring.sum() < 200
    np.testing.assert_array_equal(panel.voxels()[12], ring)
    assert panel.session.correctedSlices(panel.segment()) == {12}
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_L, [(26, 10), (40, 10), (40, 30), (26, 30)])
    erased = given(panel)[1].inside((40, 48))
    assert erased[20, 30]
    assert not erased[20, 22]
    np.testing.assert_array_equal(panel.voxels()[12], ring & ~erased)
    undo(panel)
    np.testing.assert_array_equal(panel.voxels()[12], ring)
    redo(panel)
    np.testing.assert_array_equal(panel.voxels()[12], ring & ~erased)
    # The first lasso is taken away from under the second.
    host.scene.RemoveNode(nodes(host, CLOSED)[0])
    event_loop.process_events()
    panel.settle()
    assert not panel.voxels().any()


def test_a_lasso_corrects_what_the_model_drew_and_the_rest_follows(panel, host):  # noqa: F811
    panel.press(KEY.Key_B)
    host.views["Red"].drag(panel.world(17, 11, 12), panel.world(35, 29, 12))
    panel.settle()
    panel.press(KEY.Key_Space, QtCore.Qt.KeyboardModifier.ShiftModifier)
    panel.settle()
    before = panel.voxels()
    assert before[14].any()
    panel.press(KEY.Key_L)
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_L, [(26, 5), (44, 5), (44, 36), (26, 36)], index=14)
    *_, lasso = given(panel)
    assert not lasso.positive
    erased = lasso.inside((40, 48))
    np.testing.assert_array_equal(panel.voxels()[14], before[14] & ~erased)
    panel.press(KEY.Key_Space, QtCore.Qt.KeyboardModifier.ShiftModifier)
    panel.settle()
    np.testing.assert_array_equal(panel.voxels()[14], before[14] & ~erased)
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_L, [(26, 5), (44, 5), (44, 36), (26, 36)], index=20)
    panel.press(KEY.Key_T)
    count = len(given(panel))
    draw(panel, host, KEY.Key_L, [(2, 2), (6, 2), (6, 6)], index=1)
    assert "shows nothing of the segment" in panel.status
    assert len(given(panel)) == count == len(panel.prompts())


def test_a_lasso_corrects_what_was_painted(panel, host):  # noqa: F811
    panel.click("point")
    panel.press(KEY.Key_Escape)
    painted = np.zeros((24, 40, 48), np.uint8)
    painted[12, 10:30, 10:30] = 1
    host.slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted, panel.session.segmentationNode, panel.segment(), panel.volume
    )
    event_loop.process_events()
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_L, [(20, 5), (44, 5), (44, 36), (20, 36)])
    expected = painted[12].astype(bool) & ~given(panel)[-1].inside((40, 48))
    assert expected.any()
    np.testing.assert_array_equal(panel.voxels()[12], expected)
    undo(panel)
    np.testing.assert_array_equal(panel.voxels(), painted.astype(bool))


def test_a_vertex_is_dragged_and_the_mask_follows(panel, host):  # noqa: F811
    draw(panel, host, KEY.Key_L, RING)
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_L, [(30, 16), (44, 16), (44, 24), (30, 24)])
    panel.press(KEY.Key_Escape)
    first, second = given(panel)
    drawn = panel.voxels()
    host.views["Red"].drag(panel.world(30, 16, 12), panel.world(22, 16, 12))
    panel.settle()
    [_, moved] = given(panel)
    assert moved.polygon[0] == pytest.approx((16, 22), abs=0.6)
    np.testing.assert_allclose(moved.polygon[1:], second.polygon[1:], atol=0.01)
    inside = first.inside((40, 48))
    np.testing.assert_array_equal(panel.voxels()[12], inside & ~moved.inside((40, 48)))
    assert not np.array_equal(panel.voxels(), drawn)
    undo(panel)
    np.testing.assert_array_equal(panel.voxels(), drawn)
    assert nodes(host, CLOSED)[1].GetNumberOfControlPoints() == 4
    assert given(panel) == (first, second)
    # Dragged across another side, it is no outline any more, and goes back.
    host.views["Red"].drag(panel.world(30, 16, 12), panel.world(37, 30, 12))
    panel.settle()
    assert "crosses itself" in panel.status
    assert given(panel) == (first, second)
    np.testing.assert_array_equal(panel.voxels(), drawn)
    assert panel.prompts()[1].prompt.places[0] == pytest.approx((30, 16, 12), abs=0.6)


def test_strokes_come_back_with_the_scene(open_panel, host, sphere, tmp_path):  # noqa: F811
    host.show(add_volume(host, sphere))
    panel = open_panel()  # noqa: F811
    draw(panel, host, KEY.Key_S, WAVE)
    draw(panel, host, KEY.Key_D, [(18, 20), (34, 20)], index=13)
    draw(panel, host, KEY.Key_L, RING, index=14)
    panel.press(KEY.Key_T)
    draw(panel, host, KEY.Key_L, [(30, 16), (44, 16), (44, 24), (30, 24)], index=14)
    before, drawn, prompts = given(panel), panel.voxels(), panel.prompts()
    assert [type(prompt) for prompt in before] == [Scribble, Line, Lasso, Lasso]
    save_scene(host, tmp_path)
    host.scene.Clear(0)
    event_loop.process_events()
    load_scene(host, tmp_path)
    event_loop.process_events()
    panel.settle()
    assert given(panel) == before
    assert all(now.sameAs(then) for now, then in zip(panel.prompts(), prompts, strict=True))
    np.testing.assert_array_equal(panel.voxels(), drawn)
    assert nodes(host, CURVE)[0].GetCurveTypeAsString(nodes(host, CURVE)[0].GetCurveType()) == "linear"
    host.scene.RemoveNode(nodes(host, CLOSED)[1])
    event_loop.process_events()
    panel.settle()
    assert given(panel) == before[:3]
    np.testing.assert_array_equal(panel.voxels()[14], before[2].inside((40, 48)))


def test_a_line_gives_a_box_around_its_disc(panel, host):  # noqa: F811
    draw(panel, host, KEY.Key_D, [(18, 20), (24, 25), (34, 20)])
    [line] = given(panel)
    assert isinstance(line, Line)
    np.testing.assert_allclose(line.ends, [(20, 18), (20, 34)], atol=0.6)
    [node] = nodes(host, LINE)
    assert node.GetName() == "Segment_1 line"
    assert panel.voxels()[12].any()


def test_a_line_that_was_measured_is_used_and_stays(panel, host):  # noqa: F811
    panel.press(KEY.Key_P)
    panel.press(KEY.Key_Escape)
    ruler = host.scene.AddNewNodeByClass(LINE, "longest diameter")
    for i in (18, 34):
        ruler.AddControlPointWorld(panel.world(i, 20, 12))
    view = host.views["Red"]
    view.go_to(panel.world(18, 20, 12))
    view.point(*view.xy(panel.world(18, 20, 12)))
    panel.press(KEY.Key_D)
    panel.settle()
    assert panel.widget.actions.tools.tool == "none"
    [line] = given(panel)
    np.testing.assert_allclose(line.ends, [(20, 18), (20, 34)], atol=0.01)
    assert panel.voxels()[12].any()
    undo(panel)
    assert nodes(host, LINE) == [ruler]
    # A prompt's own line is no ruler.
    host.scene.RemoveNode(ruler)
    redo(panel)
    view.point(*view.xy(panel.world(26, 30, 12)))
    view.point(*view.xy(panel.world(18, 20, 12)))
    panel.press(KEY.Key_D)
    assert panel.widget.actions.tools.tool == "line"
    assert len(given(panel)) == 1


def test_what_cannot_be_drawn_is_said_and_leaves_nothing(panel, host):  # noqa: F811
    draw(panel, host, KEY.Key_L, [(10, 10), (30, 30), (30, 10), (10, 30)])
    assert "crosses itself" in panel.status
    draw(panel, host, KEY.Key_S, [(10, 10), (10, 10)])
    assert "Keep the button down" in panel.status
    assert not panel.prompts()
    draw(panel, host, KEY.Key_S, WAVE)
    host.views["Green"].draw([panel.world(20, 20, 8), panel.world(30, 20, 10)])
    panel.settle()
    assert "runs along the k axis" in panel.status
    assert len(panel.prompts()) == 1
    panel.press(KEY.Key_Escape)
    assert not panel.find("scribble").checked
    host.views["Red"].draw([panel.world(i, j, 12) for i, j in WAVE])
    assert len(panel.prompts()) == 1
    panel.click("lock")
    draw(panel, host, KEY.Key_L, RING)
    assert "is locked" in panel.status
    assert len(panel.prompts()) == 1
    assert not nodes(host, CLOSED)


@pytest.mark.parametrize("axis", "kji")
@pytest.mark.parametrize("grid", GRIDS)
def test_a_stroke_lies_on_the_slice_that_it_was_drawn_on(host, sphere, grid, axis):
    scene = Scene(host, sphere, grid)
    drawing, drawn = StrokeDrawing(), []
    drawing.drawn.connect(lambda *what: drawn.append(what))
    drawing.name = "scribble"
    drawing.start(scene.volume)
    way = np.array([(18.0, 12, 8), (25, 20, 11), (33, 14, 15)])
    flat = "ijk".index(axis)
    way[:, flat] = way[0, flat]
    scene.view_along(axis).draw([scene.world(*place) for place in way])
    drawing.stop()
    [(stroke, along)] = drawn
    assert along == axis
    np.testing.assert_allclose(stroke.places, way, atol=1)
    assert {place[flat] for place in stroke.places} == {way[0, flat]}
    assert not nodes(host, CURVE), "the preview is gone"
    name = scene.prompts.addStroke("a", stroke)
    [placed] = scene.prompts.prompts().values()
    assert placed.sameAs(PlacedPrompt("a", stroke))
    assert not scene.said
    scene.prompts.cleanup()
    reopened = PromptNodes(scene.segmentation, scene.volume)
    assert reopened.prompts() == {name: placed}
    reopened.cleanup()


def test_what_other_modules_do_with_strokes_is_noticed(host, sphere):
    scene = Scene(host, sphere)
    lasso = Stroke("lasso", ((10.0, 10, 5), (20.0, 10, 5), (20.0, 20, 5)), positive=False)
    name = scene.prompts.addStroke("a", lasso)
    [node] = nodes(host, CLOSED)
    node.SetNthControlPointPosition(0, scene.geometry.localFromIjk((8, 8, 5)))
    [(what, moved, now, before)] = scene.said
    assert (what, moved, before) == ("moved", name, PlacedPrompt("a", lasso))
    assert now.prompt.places[0] == pytest.approx((8, 8, 5))
    scene.prompts.restore({name: before})
    assert scene.prompts.prompts()[name].sameAs(before)
    scene.said.clear()
    node.SetNthControlPointPosition(0, scene.geometry.localFromIjk((-8, 8, 5)))
    assert [each[0] for each in scene.said] == ["refused"]
    assert scene.prompts.prompts()[name].sameAs(before)
    node.RemoveAllControlPoints()
    assert [each[0] for each in scene.said] == ["refused", "removed"]
    assert not nodes(host, CLOSED)
    scene.prompts.cleanup()


def test_a_lasso_that_the_network_cannot_take_is_refused(host, desks):
    """It vanishes at the network's resolution."""
    volume = np.random.default_rng(0).normal(100, 10, (3, 1200, 1200))
    desk = desks(add_volume(host, volume.astype(np.int16)))
    desk.logic.setParameters(crop=False)
    dot = Stroke("lasso", ((10.0, 10, 2), (11.2, 10, 2), (11.2, 11.2, 2), (10.0, 11.2, 2)))
    desk.logic.addStroke("a", dot, "k")
    desk.settle()
    assert len(desk.problems) == 1
    assert not desk.logic.prompts.prompts()
    assert not desk.voxels("a").any()
    assert not desk.logic.begun
    desk.logic.undo()
    desk.logic.redo()
    assert not desk.logic.prompts.prompts()
