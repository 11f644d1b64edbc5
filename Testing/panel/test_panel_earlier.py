"""Scenes that were saved when a session was kept in several parameters, with a name for each entry, still go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from biosam2 import Box, Mask, Point
from biosam2.session.entries import Cleared, Locked, Prompted, Propagated, Removed, Started, unpack_mask
from BioSAM2SlicerLib.scene.PromptNodes import PromptNodes
from BioSAM2SlicerLib.scene.SegmentSlices import SegmentSlices, fitSegmentationToVolume
from panel_helpers import add_volume

# Written by the panel as it was: parameters, markups, voxels, and what it said of the slices. Point, box and mask
# prompts, a segment to start from, locks, a removed prompt, an undone one, propagations, painted slices. What the
# network drew is of the shipped weights: when these changed, the ones before still gave the voxels kept before.
SCENE = json.loads((Path(__file__).with_name("scenes") / "earlier.json").read_text())


@pytest.fixture(params=["open", "kept with the segmentation"])
def earlier(request, desks, host, sphere):
    """A session in that scene."""
    volume = add_volume(host, sphere)
    node = host.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "settings")
    segmentation = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "masks")
    segmentation.CreateDefaultDisplayNodes()
    for name in ("a", "b"):
        segmentation.GetSegmentation().AddEmptySegment(name, name)
    for name, text in SCENE["node"].items():
        of_session = name.split(".")[1] in ("axis", "sessionWindow", "policy", "first", "last", "journal", "corrected")
        if request.param == "open" or not of_session:
            node.SetParameter(name, text)
    if request.param != "open":
        segmentation.SetAttribute("BioSAM2Slicer.session", SCENE["segmentation"])
    assert fitSegmentationToVolume(segmentation, volume)
    slices = SegmentSlices(segmentation, host.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"), volume)
    for name, packed in SCENE["voxels"].items():
        for index, mask in enumerate(unpack_mask(packed)):
            slices.writeSlice(name, "k", index, mask)
    prompts = PromptNodes(segmentation, volume)
    prompts.addBox("b", (2, 2, 10), (12, 12, 14), "p4")
    point = prompts.addPoint("a", (26, 20, 12))
    prompts.pointsNode("a", True).SetNthControlPointDescription(0, "p2")
    assert point != "p2"
    prompts.cleanup()
    return desks(volume, segmentation=segmentation, node=node)


def test_all_is_there(earlier):
    desk = earlier
    assert not desk.problems
    kinds = [type(each.entry) for each in desk.logic.state.in_force]
    assert {Prompted, Removed, Started, Locked, Cleared, Propagated} == set(kinds)
    assert [type(prompt) for prompt in desk.logic.state.prompts("a")] == [Point, Mask]
    assert [type(prompt) for prompt in desk.logic.state.prompts("b")] == [Box]
    settings = desk.logic.state.settings
    assert (settings.axis, settings.window, settings.crop, settings.policy) == ("k", (292.0, 450.0), "auto", "path")
    assert (desk.logic.parameters.first, desk.logic.parameters.last) == (8, 17)
    for name in "ab":
        assert sorted(desk.logic.correctedSlices(name)) == SCENE["corrected"][name]
        assert sorted(desk.logic.lockedSlices(name)) == SCENE["locked"][name]
        assert desk.logic.promptedSlices(name) == SCENE["prompted"][name]
        reviewed = desk.logic.reviewed(name)
        for index, (sureness, seen) in SCENE["results"][name].items():
            assert reviewed[int(index)].sureness == pytest.approx(sureness, abs=1e-4)
            assert reviewed[int(index)].seen == seen
        np.testing.assert_array_equal(desk.voxels(name), unpack_mask(SCENE["voxels"][name]))


def test_it_goes_on_where_it_was(earlier, model_fields):
    """Replayed, the earlier entries give the masks in the scene; a click and a propagation go on from them."""
    desk = earlier
    engine = desk.engine(model_fields)
    for each in desk.logic.state.in_force:
        engine.replay(each.entry)
    before = engine.mask("a")
    before[12] = engine.predict("a", 12)  # a prompt was removed since
    before[10] = False  # painted, and no prompt yet
    np.testing.assert_array_equal(desk.voxels("a"), before)
    np.testing.assert_array_equal(desk.voxels("b"), engine.mask("b"))
    desk.point("a", (5, 5, 15), positive=False)
    desk.settle()
    engine.add_prompt("a", Point((5, 5, 15), positive=False))
    np.testing.assert_array_equal(desk.voxels("a")[15], engine.predict("a", 15))
    desk.logic.propagate(["a"], first=9, last=16)
    desk.settle()
    engine.add_prompt("a", Mask(10, np.zeros((40, 48), bool)))
    engine.propagate(["a"], first=9, last=16)
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert desk.logic.undo()
    assert desk.logic.undo()
    np.testing.assert_array_equal(desk.voxels("a"), before)
    # The markup of an earlier prompt is still its own.
    desk.logic.prompts.pointsNode("a", True).RemoveNthControlPoint(0)
    assert [type(prompt) for prompt in desk.logic.state.prompts("a")] == [Mask]
    assert not desk.problems


def test_it_is_saved_as_a_session_now(earlier, desks):
    desk = earlier
    record, reviewed = desk.logic.toRecord(), desk.logic.reviewed("a")
    desk.logic.setInput(None, None)
    for name in ("axis", "sessionWindow", "journal"):
        assert not desk.node.GetParameter("BioSAM2Slicer." + name)
    assert desk.logic.setInput(desk.volume, desk.segmentation)
    assert desk.logic.toRecord() == record
    assert desk.logic.reviewed("a") == reviewed
    assert sorted(desk.logic.correctedSlices("a")) == SCENE["corrected"]["a"]
