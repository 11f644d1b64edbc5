"""What is in a scene that is saved at any moment: nobody is told before, so it has to be there already."""

from __future__ import annotations

import json

import numpy as np
import pytest
from biosam2 import Point
from biosam2.session import SessionSettings
from biosam2.session.entries import Prompted, Propagated
from biosam2.session.executor import Found
from BioSAM2SlicerLib.scene.Parameters import NO_BOUND, Parameters, readParameters, writeParameters
from BioSAM2SlicerLib.session.SceneState import SceneState
from host import event_loop
from panel_helpers import load_bundle, save_bundle
from PySide6 import QtCore
from test_panel_review import propagated
from test_panel_widget import open_panel, panel  # noqa: F401 - fixtures


def test_nobody_is_told_that_a_scene_is_saved(host, tmp_path):
    kinds = host.slicer.vtkMRMLScene
    told = []
    for event in (kinds.StartSaveEvent, kinds.EndSaveEvent):
        host.scene.AddObserver(event, lambda *_event: told.append(1))
    save_bundle(host, tmp_path / "scene.mrb")
    assert host.scene.Commit(str(tmp_path / "scene.mrml"))
    assert not told


def reopen(host, path):
    """Close the scene, and open the one in a file; the panel follows."""
    host.close_scene()
    load_bundle(host, path)
    event_loop.process_events()


def test_what_was_looked_at_is_in_the_scene(panel, host, tmp_path):  # noqa: F811
    review = propagated(panel, host)
    segment = panel.segment()
    host.views["Red"].go_to(panel.world(20, 20, 10))
    event_loop.wait_until(lambda: review.strip.states[10].reviewed, 10, "the look")
    before = review.review.slices(segment)
    save_bundle(host, tmp_path / "scene.mrb")
    reopen(host, tmp_path / "scene.mrb")
    after = panel.widget._review.review.slices(segment)
    assert after[10].reviewed
    assert [state.reviewed for state in after] == [state.reviewed for state in before]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_finished_slices_of_a_running_propagation_are_in_the_scene(panel, host, tmp_path, count):  # noqa: F811
    panel.click("box")
    host.views["Red"].drag(panel.world(17, 11, 12), panel.world(35, 29, 12))
    panel.settle()
    segment = panel.segment()
    panel.find("untilGone").checked = False
    panel.click("propagate")
    event_loop.wait_until(lambda: len(panel.session.resultSlices(segment)) >= count, 60, "slices")
    save_bundle(host, tmp_path / "scene.mrb")
    finished, voxels = panel.session.resultSlices(segment), panel.voxels()
    assert panel.session.running
    reopen(host, tmp_path / "scene.mrb")
    np.testing.assert_array_equal(panel.voxels(segment), voxels)
    assert panel.session.resultSlices(segment) == finished
    # They are not taken for the user's own: a propagation may replace them.
    assert not any(panel.session._results.isUsers(segment, index) for index in finished)
    panel.find("untilGone").checked = False
    panel.click("propagate")
    panel.settle()
    assert panel.session.resultSlices(segment) == set(range(24))


def test_where_to_propagate_is_in_the_scene(panel, host, tmp_path):  # noqa: F811
    panel.click("box")
    host.views["Red"].drag(panel.world(17, 11, 12), panel.world(35, 29, 12))
    panel.settle()
    panel.find("first").value, panel.find("last").value = 9, 14
    panel.find("direction").currentIndex = panel.find("direction").findData("forward")
    panel.find("untilGone").checked = False
    save_bundle(host, tmp_path / "scene.mrb")
    reopen(host, tmp_path / "scene.mrb")
    assert (panel.find("first").value, panel.find("last").value) == (9, 14)
    assert panel.find("direction").currentData == "forward"
    assert not panel.find("untilGone").checked
    # Of another segmentation they are not; and the first one's come back with it.
    segmentation = panel.find("segmentation")
    first = segmentation.currentNode()
    panel.press(QtCore.Qt.Key.Key_Escape)
    segmentation.setCurrentNode(None)
    panel.click("point")
    assert segmentation.currentNode() is not first
    assert (panel.find("first").value, panel.find("last").value) == (NO_BOUND, NO_BOUND)
    segmentation.setCurrentNode(first)
    assert (panel.find("first").value, panel.find("last").value) == (9, 14)


def test_a_scene_from_before_keeps_going_through_all_slices(host):
    """A new session ends with the object; one that was saved when that was no setting does what it did."""
    assert readParameters(host.slicer.vtkMRMLScriptedModuleNode()).untilGone
    node = host.slicer.vtkMRMLScriptedModuleNode()
    writeParameters(node, Parameters())
    node.UnsetParameter("BioSAM2Slicer.untilGone")
    assert not readParameters(node).untilGone


def test_a_slice_that_arrives_is_the_only_one_that_is_made_text(monkeypatch):
    """The scene is told of every slice at once, however many came before; what is told is the whole all the same."""
    scene, shape = SceneState(), (40, 12, 10)
    scene.begin(SessionSettings(axis="k", window=(100.0, 200.0)), shape)
    scene.add(Prompted("a", Point((3, 4, 20))), "p")
    run = scene.add(Propagated(("a",), "both", None, None))
    written: list[int] = []
    dumps = json.dumps

    def counting(data):
        text = dumps(data)
        written.append(len(text))
        return text

    monkeypatch.setattr(json, "dumps", counting)
    lengths = []
    for index in range(shape[0]):
        written.clear()
        scene.take(run, Found("a", index, np.full(shape[1:], index % 3 > 0), 0.125 + index % 4 / 8), run)
        text = scene.toText()
        lengths.append(sum(written))
    assert max(lengths[1:]) - min(lengths[1:]) <= 4
    again = SceneState()
    again.load(text, shape)
    assert again.reviewed("a") == scene.reviewed("a")
    assert len(again.reviewed("a")) == 40
    assert again.toText() == text
