"""What the user corrects, paints or locks is the user's: it is never overwritten, and the model goes on from it."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2 import Mask, Point
from panel_helpers import load_scene, save_scene
from session_desk import paint


@pytest.fixture
def block():
    """A slice's mask, painted by hand."""
    mask = np.zeros((40, 48), bool)
    mask[12:28, 18:34] = True
    return mask


@pytest.fixture
def propagated(desk):
    """A segment that was marked on slice 12 and carried over slices 9 to 15."""
    desk.point("a", (26, 20, 12))
    desk.logic.propagate(["a"], first=9, last=15)
    desk.settle()
    return desk


def prompts(desk, segment="a"):
    return list(desk.logic.state.prompts(segment)) if desk.logic.isPrompted(segment) else []


def test_a_repainted_slice_and_an_emptied_one_become_prompts_and_stay(propagated, block, model_fields):
    desk = propagated
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    list(engine.propagate(["a"], first=9, last=15))
    paint(desk, "a", "k", 14, block)
    paint(desk, "a", "k", 10, np.zeros_like(block))
    assert desk.logic.correctedSlices("a") == {10, 14}
    desk.logic.propagate(["a"], first=9, last=15)
    desk.settle()
    empty = np.zeros_like(block)
    assert prompts(desk)[1:] == [Mask(10, empty), Mask(14, block)]
    np.testing.assert_array_equal(desk.voxels("a")[14], block)
    assert not desk.voxels("a")[10].any()
    engine.add_prompt("a", Mask(10, empty))
    engine.add_prompt("a", Mask(14, block))
    list(engine.propagate(["a"], first=9, last=15))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert desk.logic.correctedSlices("a") == {10, 14}
    assert not desk.problems


def test_propagate_from_here_goes_on_from_a_correction(propagated, block, model_fields):
    """Above the slice that was marked first: upwards only, what lies between stays."""
    desk = propagated
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    list(engine.propagate(["a"], first=9, last=15))
    before = desk.voxels("a")
    paint(desk, "a", "k", 14, block)
    assert desk.logic.propagateFrom("a", 14)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a")[:14], before[:14])
    np.testing.assert_array_equal(desk.voxels("a")[14], block)
    engine.add_prompt("a", Mask(14, block))
    list(engine.propagate(["a"], "forward", first=14))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    # Below it: downwards.
    desk.point("a", (5, 5, 10), positive=False)
    desk.settle()
    before = desk.voxels("a")
    assert desk.logic.propagateFrom("a", 10)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a")[11:], before[11:])
    engine.add_prompt("a", Point((5, 5, 10), positive=False))
    list(engine.propagate(["a"], "backward", last=10))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert not desk.problems


def test_from_here_on_the_only_marked_slice_is_everywhere(desk):
    desk.point("a", (26, 20, 12))
    desk.settle()
    assert desk.logic.propagateFrom("a", 12, "both")
    desk.settle()
    assert desk.logic.resultSlices("a") == set(range(24))


def test_a_locked_slice_stays_whatever_comes(propagated, block, model_fields):
    desk = propagated
    locked = desk.voxels("a")[13]
    assert desk.logic.lock("a", 13)
    paint(desk, "a", "k", 10, block)
    assert desk.logic.lock("a", 10)  # as it was painted
    assert desk.logic.lockedSlices("a") == {10, 13}
    desk.point("a", (6, 6, 12), positive=False)
    desk.logic.propagate(["a"], first=9, last=15)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a")[13], locked)
    np.testing.assert_array_equal(desk.voxels("a")[10], block)
    desk.point("a", (20, 20, 13))
    desk.settle()
    assert "locked" in desk.problems[-1]
    assert len(desk.logic.prompts.prompts()) == 2
    desk.logic.undo()  # the propagation
    desk.logic.undo()  # the point
    desk.logic.undo()
    assert desk.logic.lockedSlices("a") == {13}
    assert desk.logic.lock("a", 13, False)
    desk.point("a", (20, 20, 13))
    desk.settle()
    assert 13 in desk.logic.promptedSlices("a")
    engine = desk.engine(model_fields)
    for each in desk.logic.state.in_force:
        engine.replay(each.entry)
    np.testing.assert_array_equal(desk.voxels("a")[13], engine.predict("a", 13))


def test_nothing_marked_is_nothing_to_lock(desk):
    assert not desk.logic.lock("a", 3)
    assert "Mark the structure first" in desk.problems[0]


def test_a_click_on_a_painted_slice_refines_what_is_painted(desk, block, model_fields):
    paint(desk, "a", "k", 12, block)
    desk.point("a", (26, 20, 12))
    desk.settle()
    assert prompts(desk) == [Mask(12, block), Point((26, 20, 12))]
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Mask(12, block))
    engine.add_prompt("a", Point((26, 20, 12)))
    np.testing.assert_array_equal(desk.voxels("a")[12], engine.predict("a", 12))
    desk.logic.undo()
    np.testing.assert_array_equal(desk.voxels("a")[12], block)
    assert not prompts(desk)
    assert not desk.logic.prompts.prompts()


def test_reset_leaves_what_the_user_drew(propagated, block):
    desk = propagated
    paint(desk, "a", "k", 14, block)
    desk.logic.propagate(["a"], first=12, last=15)
    desk.settle()
    desk.logic.clear("a")
    desk.settle()
    voxels = desk.voxels("a")
    np.testing.assert_array_equal(voxels[14], block)
    assert not np.delete(voxels, 14, axis=0).any()
    # And it is the user's from now on.
    desk.point("a", (26, 20, 12))
    desk.logic.propagate(["a"], first=11, last=15)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a")[14], block)


def test_hundreds_of_smoothed_slices_become_a_few_prompts(propagated):
    desk = propagated
    desk.logic.propagate(["a"])
    desk.settle()
    for index in range(24):  # an effect on the whole segment
        desk.logic._slices.writeSlice("a", "k", index, ~desk.voxels("a")[index])
    desk.settle()
    after = desk.voxels("a")
    assert len(desk.logic.correctedSlices("a")) == 24
    desk.logic.propagate(["a"])
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), after)
    assert len([p for p in prompts(desk) if isinstance(p, Mask)]) == 8


def test_corrections_and_locks_are_known_in_a_reopened_scene(propagated, desks, host, block, tmp_path):
    desk = propagated
    desk.logic.lock("a", 13)
    paint(desk, "a", "k", 14, block)
    paint(desk, "a", "k", 10, np.zeros_like(block))
    before = desk.voxels("a")
    save_scene(host, tmp_path)
    desk.logic.cleanup()
    host.close_scene()
    load_scene(host, tmp_path)
    find = host.scene.GetFirstNodeByName
    reopened = desks(find("image"), segmentation=find("masks"), node=find("settings"))
    assert reopened.logic.correctedSlices("a") == {10, 14}
    assert reopened.logic.lockedSlices("a") == {13}
    reopened.logic.propagate(["a"], first=9, last=15)
    reopened.settle()
    for index in (10, 13, 14):
        np.testing.assert_array_equal(reopened.voxels("a")[index], before[index])
    assert not reopened.problems


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_neighbour_loses_voxels_only_if_the_user_said_so(desk, overwrite):
    """Carried over several slices, with both segments on one layer at first."""
    neighbour = np.zeros((40, 48), bool)
    neighbour[:, 26:] = True
    for index in range(10, 15):
        paint(desk, "b", "k", index, neighbour)
    if overwrite:
        desk.editor.SetOverwriteMode(desk.editor.OverwriteAllSegments)
    desk.logic.addBox("a", (18, 12, 12), (34, 28, 12), "k")
    desk.logic.propagate(["a"], first=10, last=14)
    desk.settle()
    a, b = desk.voxels("a")[10:15], desk.voxels("b")[10:15]
    assert (a & neighbour).any()
    np.testing.assert_array_equal(b, neighbour & ~a if overwrite else np.stack([neighbour] * 5))
    if overwrite:
        assert not desk.logic.correctedSlices("b")
    while desk.logic.undo():
        desk.settle()
    assert not desk.voxels("a").any()
    assert not desk.voxels("b").any()  # painting is undone too


def test_the_editable_area_holds_for_previews_and_propagation(desk):
    """Inside another segment, and inside a range of intensities."""
    area = np.zeros((40, 48), bool)
    area[:, :26] = True
    for index in range(11, 14):
        paint(desk, "b", "k", index, area)
    desk.editor.SetMaskMode(desk.host.slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    desk.editor.SetMaskSegmentID("b")
    desk.logic.addBox("a", (18, 12, 12), (34, 28, 12), "k")
    desk.logic.propagate(["a"], first=11, last=13)
    desk.settle()
    assert desk.voxels("a").any()
    assert not desk.voxels("a")[:, ~area].any()
    desk.editor.SetMaskMode(desk.host.slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    desk.editor.SetSourceVolumeIntensityMask(True)
    desk.editor.SetSourceVolumeIntensityMaskRange(300, 600)
    desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    bright = desk.host.slicer.util.arrayFromVolume(desk.volume) >= 300
    assert desk.voxels("a")[14].any()
    assert not (desk.voxels("a")[14] & ~bright[14]).any()
    # What is masked away is no correction of the user's.
    assert not desk.logic.correctedSlices("a")
