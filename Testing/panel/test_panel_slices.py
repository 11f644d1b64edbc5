"""Writing a slice changes that slice of that segment, and nothing else unless the user said so."""

from __future__ import annotations

import numpy as np
import pytest
from BioSAM2SlicerLib.scene.SegmentSlices import SegmentSlices, fitSegmentationToVolume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from panel_helpers import GRIDS, add_transform, add_volume
from PIL import Image

SHAPE = (7, 9, 11)
ROWS = {"k": (9, 11), "j": (7, 11), "i": (7, 9)}
COUNT = {"k": 7, "j": 9, "i": 11}


class Desk:
    """A segmentation with segments on a volume, and the truth beside it."""

    def __init__(self, host, grid="axial", names=("a", "b"), transform=False):
        self.host = host
        self.volume = add_volume(host, np.zeros(SHAPE, np.int16), GRIDS[grid])
        if transform:
            self.volume.SetAndObserveTransformNodeID(add_transform(host).GetID())
        self.node = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.node.CreateDefaultDisplayNodes()
        assert fitSegmentationToVolume(self.node, self.volume)
        for name in names:
            self.node.GetSegmentation().AddEmptySegment(name, name)
        self.editor = host.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.editor.SetOverwriteMode(self.editor.OverwriteNone)
        self.slices = SegmentSlices(self.node, self.editor, self.volume)

    def voxels(self, name: str) -> np.ndarray:
        """All voxels of a segment by Slicer's own function, bool (k, j, i)."""
        self.node.GetSegmentation().GetSegment(name)
        array = self.host.slicer.util.arrayFromSegmentBinaryLabelmap(self.node, name, self.volume)
        return np.zeros(SHAPE, bool) if array is None else array.astype(bool)


def on_slice(array: np.ndarray, axis: str, index: int) -> np.ndarray:
    return array[(slice(None),) * "kji".index(axis) + (index,)]


def some_mask(axis: str, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(ROWS[axis]) < 0.4


@pytest.mark.parametrize("transform", [False, True])
@pytest.mark.parametrize("axis", "kji")
@pytest.mark.parametrize("grid", GRIDS)
def test_the_mask_lies_on_its_voxels(host, grid, axis, transform):
    desk = Desk(host, grid, transform=transform)
    mask = some_mask(axis, 1)
    desk.slices.writeSlice("a", axis, 3, mask)
    expected = np.zeros(SHAPE, bool)
    on_slice(expected, axis, 3)[:] = mask
    np.testing.assert_array_equal(desk.voxels("a"), expected)
    np.testing.assert_array_equal(desk.slices.readSlice("a", axis, 3), mask)
    assert desk.slices.usedSlices("a", axis) == [3]
    assert not desk.slices.usedSlices("b", axis)


writes = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from("kji"), st.integers(0, 6), st.integers(0, 50)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=writes)
def test_any_writes_leave_what_was_last_written_where_overlap_is_allowed(host, writes):
    """Shrinking, emptied and overlapping masks on any axis, in any order; each also by way of undo and redo."""
    desk = Desk(host, names=("a", "b", "c"))
    truth = {name: np.zeros(SHAPE, bool) for name in "abc"}
    history = []
    for name, axis, index, seed in writes:
        mask = some_mask(axis, seed) if seed else np.zeros(ROWS[axis], bool)
        history.append(({n: t.copy() for n, t in truth.items()}, desk.slices.writeSlice(name, axis, index, mask)))
        on_slice(truth[name], axis, index)[:] = mask
        for other in "abc":
            np.testing.assert_array_equal(desk.voxels(other), truth[other])
    for before, changes in reversed(history):
        for change in reversed(changes):
            desk.slices.restore(change)
        for name in "abc":
            np.testing.assert_array_equal(desk.voxels(name), before[name])
    for _, changes in history:
        for change in changes:
            desk.slices.restore(change, forward=True)
    for name in "abc":
        np.testing.assert_array_equal(desk.voxels(name), truth[name])


def test_a_finished_neighbour_is_overwritten_only_if_the_user_said_so(host):
    desk = Desk(host)
    neighbour = np.zeros(ROWS["k"], bool)
    neighbour[2:6, 2:6] = True
    ours = np.zeros(ROWS["k"], bool)
    ours[4:8, 4:8] = True
    desk.slices.writeSlice("b", "k", 2, neighbour)
    desk.slices.writeSlice("a", "k", 2, ours)
    np.testing.assert_array_equal(desk.voxels("b")[2], neighbour)
    np.testing.assert_array_equal(desk.voxels("a")[2], ours)

    desk.editor.SetOverwriteMode(desk.editor.OverwriteAllSegments)
    desk.slices.writeSlice("a", "k", 2, np.zeros_like(ours))
    changes = desk.slices.writeSlice("a", "k", 2, ours)
    np.testing.assert_array_equal(desk.voxels("b")[2], neighbour & ~ours)
    assert {change.segmentId for change in changes} == {"a", "b"}
    for change in reversed(changes):
        desk.slices.restore(change)
    np.testing.assert_array_equal(desk.voxels("b")[2], neighbour)


def test_editable_area_holds(host):
    desk = Desk(host)
    area = np.zeros(ROWS["k"], bool)
    area[:, :5] = True
    desk.slices.writeSlice("b", "k", 2, area)
    desk.editor.SetMaskMode(host.slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    desk.editor.SetMaskSegmentID("b")
    desk.slices.writeSlice("a", "k", 2, np.ones(ROWS["k"], bool))
    np.testing.assert_array_equal(desk.voxels("a")[2], area)


def test_segments_of_a_shared_layer_stay_apart(host):
    """Two segments side by side share a labelmap; shrinking and emptying one leaves the other."""
    desk = Desk(host)
    left, right = np.zeros(ROWS["k"], bool), np.zeros(ROWS["k"], bool)
    left[:, :5], right[:, 6:] = True, True
    for index in (1, 2, 3):
        desk.slices.writeSlice("a", "k", index, left)
        desk.slices.writeSlice("b", "k", index, right)
    assert desk.node.GetSegmentation().GetNumberOfLayers() == 1
    smaller = left.copy()
    smaller[:4] = False
    desk.slices.writeSlice("a", "k", 2, smaller)
    desk.slices.writeSlice("a", "k", 3, np.zeros_like(left))
    expected = np.zeros(SHAPE, bool)
    expected[1], expected[2] = left, smaller
    np.testing.assert_array_equal(desk.voxels("a"), expected)
    np.testing.assert_array_equal(desk.voxels("b")[1:4], np.stack([right] * 3))
    assert desk.slices.usedSlices("a", "k") == [1, 2]


def test_nothing_new_is_no_event(host):
    desk = Desk(host)
    mask = some_mask("k", 3)
    desk.slices.writeSlice("a", "k", 2, mask)
    events = []
    segmentation = desk.node.GetSegmentation()
    segmentation.AddObserver(host.slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: events.append(1))
    assert desk.slices.writeSlice("a", "k", 2, mask) == []
    assert not events


def test_a_mask_of_another_shape_is_a_fault(host):
    with pytest.raises(ValueError, match="shape"):
        Desk(host).slices.writeSlice("a", "k", 2, np.ones((3, 3), bool))


def test_a_segmentation_on_another_grid_is_left_alone(host):
    desk = Desk(host)
    desk.slices.writeSlice("a", "k", 2, some_mask("k", 3))
    other = add_volume(host, np.zeros((5, 5, 5), np.int16), GRIDS["sagittal"], name="other")
    assert not fitSegmentationToVolume(desk.node, other)
    np.testing.assert_array_equal(desk.slices.readSlice("a", "k", 2), some_mask("k", 3))


def test_a_growing_segment_is_not_copied_for_each_slice(host):
    """The layer is enlarged a few times only, holds what was written, and Slicer is told each time."""
    volume = add_volume(host, np.zeros((64, 40, 48), np.int16))
    node = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    assert fitSegmentationToVolume(node, volume)
    segmentation = node.GetSegmentation()
    for name in ("a", "b"):
        segmentation.AddEmptySegment(name, name)
    editor = host.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetOverwriteMode(editor.OverwriteNone)
    slices = SegmentSlices(node, editor, volume)
    told: list[int] = []
    segmentation.AddObserver(segmentation.SourceRepresentationModified, lambda *_event: told.append(1))
    expected = {name: np.zeros((64, 40, 48), bool) for name in ("a", "b")}
    extents = set()
    for index in (*range(30, 64), *range(29, 3, -1)):
        for name, columns in (("a", slice(4, 20)), ("b", slice(24, 44))):
            expected[name][index, 5:30, columns] = True
            before = len(told)
            slices.writeSlice(name, "k", index, expected[name][index])
            assert len(told) > before
            extents.add(slices.layer(name)[0])
    assert len(extents) <= 12
    for name, voxels in expected.items():
        found = host.slicer.util.arrayFromSegmentBinaryLabelmap(node, name, volume).astype(bool)
        np.testing.assert_array_equal(found, voxels)
    assert segmentation.GetNumberOfLayers() == 1


def test_a_view_across_shows_slices_as_they_arrive(host, tmp_path):
    """A view that stays where it is draws what is added to a layer, whether it had room or not."""
    volume = add_volume(host, np.zeros((64, 40, 48), np.int16))
    host.show(volume)
    node = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    assert fitSegmentationToVolume(node, volume)
    node.GetSegmentation().AddEmptySegment("a", "a")
    editor = host.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetOverwriteMode(editor.OverwriteNone)
    slices = SegmentSlices(node, editor, volume)
    view = host.views["Yellow"]
    view.mrmlSliceNode().SetOrientation("Sagittal")
    world = np.zeros(6)
    volume.GetRASBounds(world)
    view.go_to(world.reshape(3, 2).mean(axis=1))

    def coloured():
        view.picture(tmp_path / "view.png")
        pixels = np.asarray(Image.open(tmp_path / "view.png").convert("RGB")).astype(int)
        return int(np.count_nonzero(pixels.max(axis=2) - pixels.min(axis=2) > 40))

    before, ends = coloured(), set()
    for index in (30, 31, 32, 33, 50, 8):
        slices.writeSlice("a", "k", index, np.ones((40, 48), bool))
        ends.add(slices.layer("a")[0])
        assert coloured() > before, index
        before = coloured()
    assert 1 < len(ends) < 6
