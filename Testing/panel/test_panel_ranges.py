"""How far a propagation goes, what it starts from, and volumes that are pictures or films."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2 import Box, Mask, Point
from biosam2.session.entries import Propagated
from BioSAM2SlicerLib.scene.PromptNodes import layOut
from BioSAM2SlicerLib.scene.PropagationRange import slicesOfRoi
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from host import event_loop
from panel_helpers import GRIDS, add_transform, add_volume
from session_desk import paint


def propagations(desk):
    return [each.entry for each in desk.logic.state.in_force if isinstance(each.entry, Propagated)]


@pytest.mark.parametrize("grid", ["flipped", "oblique"])
@pytest.mark.parametrize("transform", [False, True])
def test_a_region_of_interest_covers_slices(host, sphere, grid, transform):
    volume = add_volume(host, sphere, GRIDS[grid])
    if transform:
        volume.SetAndObserveTransformNodeID(add_transform(host).GetID())
    roi = host.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    layOut(roi, VolumeGeometry(volume), (3, 5, 7), (20, 31, 15))
    roi.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    assert slicesOfRoi(roi, volume, "i") == (3, 20)
    assert slicesOfRoi(roi, volume, "j") == (5, 31)
    assert slicesOfRoi(roi, volume, "k") == (7, 15)
    layOut(roi, VolumeGeometry(volume), (-30, 5, 7), (20, 31, 400))
    assert slicesOfRoi(roi, volume, "i") == (0, 20)
    assert slicesOfRoi(roi, volume, "k") == (7, 23)
    layOut(roi, VolumeGeometry(volume), (60, 5, 7), (70, 31, 15))
    assert slicesOfRoi(roi, volume, "k") is None


def test_to_the_end_of_the_object_in_both_directions(desk, model_fields):
    """The same masks as one propagation both ways gives as far as it goes, and the rest is left alone."""
    desk.logic.addBox("a", (18, 12, 12), (34, 28, 12), "k")
    desk.settle()
    progress = []
    desk.logic.progressChanged.connect(lambda *what: progress.append(what[:2]))
    # From 9 on there is nothing to be seen, whatever the network thinks of noise.
    empty = np.zeros((40, 48), bool)
    for index in (5, 6, 7, 16, 17, 18):
        desk.logic._results.adopt("a", index)
        paint(desk, "a", "k", index, empty)
    assert desk.logic.propagate(["a"], untilGone=True)
    desk.settle()
    up, down = propagations(desk)
    assert (up.direction, down.direction) == ("forward", "backward")
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Box((18, 12, 12), (34, 28, 12)))
    forward = [index for _name, index in up.finished]
    backward = [index for _name, index in down.finished]
    list(engine.propagate(["a"], "both", first=min(backward), last=max(forward)))
    reached = slice(min(backward), max(forward) + 1)
    np.testing.assert_array_equal(desk.voxels("a")[reached], engine.mask("a")[reached])
    assert not desk.voxels("a")[: reached.start].any()
    assert not desk.voxels("a")[reached.stop :].any()
    assert progress[-1][0] == len(forward) + len(backward)
    assert "Ready" in desk.logic.status
    desk.logic.undo()
    desk.settle()
    assert not propagations(desk)
    desk.logic.redo()
    desk.settle()
    assert propagations(desk) == [up, down]
    assert not desk.problems


def test_a_click_on_the_way_there_can_be_undone_alone(desk, model_fields):
    desk.point("a", (26, 20, 12))
    desk.settle()
    desk.logic.propagate(["a"], untilGone=True)
    event_loop.wait_until(lambda: len(propagations(desk)[0].finished) >= 2)
    desk.point("b", (10, 10, 5))
    desk.settle()
    assert len(propagations(desk)) == 2
    assert desk.logic.undo()  # the way back
    desk.settle()
    assert len(propagations(desk)) == 1
    assert desk.logic.undo()  # the click
    desk.settle()
    assert not desk.logic.isPrompted("b")
    engine = desk.engine(model_fields)
    for each in desk.logic.state.in_force:
        engine.replay(each.entry)
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    desk.logic.propagate(["a"], "backward")
    desk.settle()
    list(engine.propagate(["a"], "backward"))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))


def test_an_existing_segment_can_be_the_start(desk, model_fields):
    """Its largest section is propagated from; a click on another slice refines it, and the rest stays."""
    there = np.zeros((24, 40, 48), bool)
    for index in range(8, 17):
        there[index, 12 + abs(index - 12) : 28 - abs(index - 12), 18:34] = True
        paint(desk, "a", "k", index, there[index])
    assert desk.logic.startFrom("a", "k")
    np.testing.assert_array_equal(desk.voxels("a"), there)
    assert list(desk.logic.state.prompts("a")) == [Mask(12, there[12])]
    desk.point("a", (30, 20, 10), positive=False)
    desk.settle()
    engine = desk.engine(model_fields)
    engine.start_from("a", there)
    engine.add_prompt("a", Mask(12, there[12]))
    engine.add_prompt("a", Point((30, 20, 10), positive=False))
    expected = there.copy()
    expected[10] = engine.predict("a", 10)
    np.testing.assert_array_equal(desk.voxels("a"), expected)
    desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    list(engine.propagate(["a"], first=11, last=14))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    for _step in range(3):
        assert desk.logic.undo()
        desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), there)
    assert not desk.logic.startFrom("b", "k")
    assert "empty" in desk.problems[-1]


@pytest.mark.parametrize("directions", ["axial", "sagittal"])
def test_a_single_picture_is_outlined_and_not_propagated(desks, host, sphere, model_fields, directions):
    """One slice: the 2D pipeline, in whatever view it is clicked."""
    desk = desks(add_volume(host, np.ascontiguousarray(sphere[12:13]), GRIDS[directions]))
    desk.logic.axisOfPointer = lambda: "i"
    desk.point("a", (26, 20, 0))
    desk.settle()
    assert desk.logic.axis == "k"
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 0)))
    np.testing.assert_array_equal(desk.voxels("a")[0], engine.predict("a", 0))
    assert not desk.logic.propagate()
    assert "single image" in desk.problems[0]


def test_a_film_in_colour_goes_along_its_frames(desks, host, sphere, model_fields):
    """As an ultrasound cine in Slicer: the third axis is time, and views across it begin no other session."""
    frames = np.clip(sphere[6:14] / 2, 0, 255).astype(np.uint8)
    film = np.stack([frames, frames // 2, 255 - frames], axis=-1)
    node = host.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "cine")
    host.slicer.util.updateVolumeFromArray(node, film)
    node.CreateDefaultDisplayNodes()
    desk = desks(node)
    assert desk.logic.parameters.film
    desk.logic.axisOfPointer = lambda: "j"
    desk.point("a", (26, 20, 3))
    desk.logic.addBox("b", (18, 20, 2), (34, 20, 6), "j")
    desk.settle()
    assert desk.logic.axis == "k"
    assert "use points" in desk.problems[0]
    desk.logic.propagate(["a"])
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 3)))
    list(engine.propagate(["a"]))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert desk.logic.resultSlices("a") == set(range(8))


def test_a_grey_stack_can_be_called_a_film(desks, host, sphere):
    desk = desks(add_volume(host, sphere))
    assert not desk.logic.parameters.film
    desk.logic.setParameters(film=True)
    desk.logic.axisOfPointer = lambda: "i"
    desk.point("a", (26, 20, 3))
    desk.settle()
    assert desk.logic.axis == "k"


def test_the_surface_is_made_once_for_many_slices(desk):
    """In 3D: taken away before the first slice, which would otherwise each make it anew, and there again soon."""
    name = desk.host.slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    segmentation = desk.segmentation.GetSegmentation()
    made = []
    segmentation.AddObserver(
        desk.host.slicer.vtkSegmentation.ContainedRepresentationNamesModified,
        lambda *_: made.append(segmentation.ContainsRepresentation(name)),
    )
    ball = np.zeros((40, 48), bool)
    ball[12:28, 18:34] = True
    paint(desk, "a", "k", 12, ball)
    desk.segmentation.CreateClosedSurfaceRepresentation()
    assert made[-1]
    made.clear()
    desk.logic.addBox("a", (18, 12, 13), (34, 28, 13), "k")
    desk.logic.propagate(["a"], first=10, last=16)
    desk.settle()
    event_loop.wait_until(lambda: not desk.logic._surface.owed)
    assert segmentation.ContainsRepresentation(name)
    assert segmentation.GetSegment("a").GetRepresentation(name).GetNumberOfPoints() > 0
    assert made.count(True) < 7
