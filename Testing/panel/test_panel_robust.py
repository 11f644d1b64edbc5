"""At any moment, in the middle of anything: the scene closed, things deleted or replaced, the module left."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from biosam2 import Point
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from host import event_loop
from panel_helpers import add_transform, add_volume
from session_desk import paint
from test_panel_widget import Panel, open_panel  # noqa: F401 - fixture


def drawing_a_box(panel):
    panel.click("box")
    view = panel.host.views["Red"]
    view.go_to(panel.world(18, 12, 12))
    view.press(*view.xy(panel.world(18, 12, 12)))
    view.point(*view.xy(panel.world(30, 24, 12)))


def awaiting_an_outline(panel):
    panel.click("point")
    panel.host.views["Red"].click(panel.world(26, 20, 12))


def propagating(panel):
    awaiting_an_outline(panel)
    panel.settle()
    panel.click("propagate")
    event_loop.wait_until(lambda: panel.session.resultSlices(panel.segment()))


def close_the_scene(panel):
    panel.host.close_scene()


def delete_the_volume(panel):
    panel.host.scene.RemoveNode(panel.host.scene.GetFirstNodeByName("image"))


def delete_the_segmentation(panel):
    panel.host.scene.RemoveNode(panel.host.scene.GetFirstNodeByName("image segmentation"))


def delete_the_segment(panel):
    node = panel.host.scene.GetFirstNodeByName("image segmentation")
    node.GetSegmentation().RemoveSegment(panel.segment())


def replace_the_voxels(panel):
    node = panel.host.scene.GetFirstNodeByName("image")
    panel.host.slicer.util.updateVolumeFromArray(node, panel.host.slicer.util.arrayFromVolume(node)[::-1].copy())


def replace_by_another_shape(panel):
    node = panel.host.scene.GetFirstNodeByName("image")
    panel.host.slicer.util.updateVolumeFromArray(node, np.zeros((9, 30, 20), np.int16))


def leave_the_module(panel):
    panel.widget.exit()


@pytest.mark.parametrize(
    "act",
    [
        close_the_scene,
        delete_the_volume,
        delete_the_segmentation,
        delete_the_segment,
        replace_the_voxels,
        replace_by_another_shape,
        leave_the_module,
    ],
)
def test_in_the_middle_of_anything(open_panel, host, sphere, act):  # noqa: F811
    """No fault (the fixture looks), at most one thing to read, nothing left running, and the work can go on."""
    panel = open_panel()
    for moment in (drawing_a_box, awaiting_an_outline, propagating):
        host.close_scene()
        panel.widget.enter()
        host.show(add_volume(host, sphere))
        panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
        problems: list[str] = []
        panel.session.problem.connect(problems.append)
        moment(panel)
        act(panel)
        event_loop.process_events()
        panel.settle()
        panel.session.problem.disconnect(problems.append)
        assert len(problems) <= 1, (moment.__name__, problems)
        if act is close_the_scene:
            assert host.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsNode") == 0
        if act in (close_the_scene, delete_the_volume, delete_the_segmentation):
            assert panel.session.prompts is None
        if act is delete_the_segment:
            assert not panel.prompts()
    # And on with the work.
    host.close_scene()
    panel.widget.enter()
    host.show(add_volume(host, sphere))
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    awaiting_an_outline(panel)
    panel.settle()
    assert panel.voxels()[12].any()


@pytest.mark.parametrize("moment", [drawing_a_box, propagating])
def test_quitting(host, sphere, make_driver, model_fields, moment):
    """Nothing listens to the scene any more: whatever happens to it, nothing is said and nothing fails."""
    host.show(add_volume(host, sphere))
    panel = Panel(host, make_driver, model_fields)
    moment(panel)
    segmentation, volume = panel.session.segmentationNode, panel.volume
    panel.widget.cleanup()
    panel.window.deleteLater()
    event_loop.process_events()
    said: list[str] = []
    for signal_ in (panel.session.statusChanged, panel.session.stateChanged, panel.session.problem):
        signal_.connect(lambda *what: said.append(str(what)))
    host.slicer.util.updateVolumeFromArray(volume, sphere[::-1].copy())
    volume.SetAndObserveTransformNodeID(add_transform(host).GetID())
    host.slicer.util.updateSegmentBinaryLabelmapFromArray(
        (sphere > 300).astype(np.uint8), segmentation, segmentation.GetSegmentation().GetNthSegmentID(0), volume
    )
    segmentation.GetSegmentation().RemoveSegment(segmentation.GetSegmentation().GetNthSegmentID(0))
    host.scene.RemoveNode(volume)
    host.close_scene()
    event_loop.process_events()
    assert not said


def test_killed_while_an_outline_is_awaited(own_desk):
    desk = own_desk
    desk.point("a", (26, 20, 12))
    event_loop.wait_until(lambda: desk.clients[0].state == "ready")
    os.kill(desk.clients[0].processId, signal.SIGKILL)
    event_loop.wait_until(lambda: desk.problems)
    desk.settle()
    assert desk.voxels("a")[12].any()
    assert len(desk.problems) == 1


def test_other_voxels_in_the_same_volume_are_what_the_model_sees_next(desk, sphere, model_fields):
    """A real reader's way: the same node, new image data, here the volume upside down."""
    desk.point("a", (26, 20, 12))
    desk.settle()
    before = desk.voxels("a")
    desk.host.slicer.util.updateVolumeFromArray(desk.volume, sphere[:, ::-1].copy())
    event_loop.process_events()
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), before)
    desk.point("a", (26, 19, 13))
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    engine.add_prompt("a", Point((26, 19, 13)))
    np.testing.assert_array_equal(desk.voxels("a")[13], engine.predict("a", 13))
    desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    list(engine.propagate(["a"], first=11, last=14))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert not desk.problems


def test_a_volume_of_another_shape_begins_anew(desk):
    desk.point("a", (26, 20, 12))
    desk.settle()
    desk.host.slicer.util.updateVolumeFromArray(desk.volume, np.zeros((9, 30, 20), np.int16))
    event_loop.process_events()
    desk.settle()
    assert not desk.logic.prompts.prompts()
    assert desk.logic.state is None
    assert VolumeGeometry(desk.volume).shape == (9, 30, 20)
    desk.point("a", (10, 10, 4))
    desk.settle()
    assert desk.logic.promptedSlices("a") == [4]


@pytest.mark.parametrize("bent", [False, True])
def test_a_transform_comes_in_the_middle(desk, model_fields, bent):
    """Prompts, masks and views move together; the voxels are the same."""
    desk.point("a", (26, 20, 12))
    desk.settle()
    before = desk.voxels("a")
    desk.volume.SetAndObserveTransformNodeID(add_transform(desk.host, bent=bent).GetID())
    event_loop.process_events()
    desk.settle()
    assert desk.segmentation.GetTransformNodeID() == desk.volume.GetTransformNodeID()
    [placed] = desk.logic.prompts.prompts().values()
    assert placed.prompt == Point((26, 20, 12))
    np.testing.assert_array_equal(desk.voxels("a"), before)
    desk.point("a", (5, 5, 12), positive=False)
    desk.logic.propagate(["a"], first=11, last=13)
    desk.settle()
    engine = desk.engine(model_fields)
    for prompt in desk.logic.state.prompts("a"):
        engine.add_prompt("a", prompt)
    list(engine.propagate(["a"], first=11, last=13))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))


def test_another_segmentation_has_a_session_of_its_own(desk, host):
    """Also where its segments are called the same; and the first one is as it was when one comes back to it."""
    desk.point("a", (26, 20, 12))
    desk.settle()
    desk.logic.lock("a", 12)
    paint(desk, "b", "k", 3, np.ones((40, 48), bool))
    journal = desk.logic.parameters.session
    masks = desk.voxels("a")
    other = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    other.GetSegmentation().AddEmptySegment("a", "a")
    assert desk.logic.setInput(desk.volume, other)
    assert desk.logic.state is None
    assert not desk.logic.prompts.prompts()
    desk.point("a", (20, 20, 5))
    desk.settle()
    assert desk.logic.promptedSlices("a") == [5]
    assert desk.logic.setInput(desk.volume, desk.segmentation)
    desk.settle()
    assert desk.logic.parameters.session == journal
    assert desk.logic.lockedSlices("a") == {12}
    np.testing.assert_array_equal(desk.voxels("a"), masks)
    assert len(desk.logic.prompts.prompts()) == 1
    assert not desk.problems
    other.SetAttribute("BioSAM2Slicer.session", '{"axis": 3')
    assert desk.logic.setInput(desk.volume, other)
    assert len(desk.problems) == 1
    assert "damaged" in desk.problems[0]
    assert desk.logic.state is None
