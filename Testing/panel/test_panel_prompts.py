"""Prompts are markups: placed, dragged and deleted with the mouse or by any other part of Slicer, and saved."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2 import Box, Point, Volume
from biosam2.frames import Frames
from BioSAM2SlicerLib.scene.PromptNodes import PlacedPrompt, PromptNodes, bounds, layOut
from BioSAM2SlicerLib.scene.SegmentSlices import fitSegmentationToVolume
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from BioSAM2SlicerLib.ui.BoxDrawing import BoxDrawing
from panel_helpers import GRIDS, add_transform, add_volume, load_scene, save_scene


class Scene:
    """A volume, a segmentation with two segments, prompts, and what was said about them."""

    def __init__(self, host, array, grid="axial", transform=False):
        self.host = host
        self.volume = add_volume(host, array, GRIDS[grid])
        if transform:
            self.volume.SetAndObserveTransformNodeID(add_transform(host).GetID())
        host.show(self.volume)
        if transform or grid == "oblique":
            for view in host.views.values():
                view.sliceLogic().RotateSliceToLowestVolumeAxes(True)
        self.segmentation = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "masks")
        fitSegmentationToVolume(self.segmentation, self.volume)
        for name in ("a", "b"):
            self.segmentation.GetSegmentation().AddEmptySegment(name, name)
        self.prompts = PromptNodes(self.segmentation, self.volume)
        self.said: list[tuple] = []
        for name in ("added", "moved", "removed", "refused"):
            getattr(self.prompts, name).connect(lambda *what, name=name: self.said.append((name, *what)))

    @property
    def geometry(self):
        return VolumeGeometry(self.volume)

    def world(self, *ijk):
        return self.geometry.worldFromIjk(ijk)

    def view_along(self, axis):
        return next(
            view for view in self.host.views.values() if self.geometry.axisOfView(view.mrmlSliceNode())[0] == axis
        )

    def place(self, segment="a", positive=True):
        """Slicer's place mode, as the panel starts it."""
        node = self.prompts.pointsNode(segment, positive)
        self.host.slicer.modules.markups.logic().SetActiveList(node)
        interaction = self.host.core.app_logic.GetInteractionNode()
        interaction.SetPlaceModePersistence(1)
        interaction.SetCurrentInteractionMode(interaction.Place)

    def stop_placing(self):
        interaction = self.host.core.app_logic.GetInteractionNode()
        interaction.SetCurrentInteractionMode(interaction.ViewTransform)


@pytest.fixture
def scene(host, sphere):
    scene = Scene(host, sphere)
    yield scene
    scene.stop_placing()
    scene.prompts.cleanup()


@pytest.mark.parametrize("transform", [False, True])
@pytest.mark.parametrize("axis", "kji")
@pytest.mark.parametrize("grid", GRIDS)
def test_a_click_is_a_point_at_that_voxel(host, sphere, grid, axis, transform):
    scene = Scene(host, sphere, grid, transform)
    scene.place(positive=False)
    scene.view_along(axis).click(scene.world(25, 19, 11))
    scene.stop_placing()
    [(what, name, placed)] = scene.said
    assert what == "added"
    assert placed.segmentId == "a"
    assert not placed.prompt.positive
    np.testing.assert_allclose(placed.prompt.ijk, (25, 19, 11), atol=0.51)
    frames = Frames(Volume(sphere), axis, (300.0, 400.0), 0)
    assert placed.prompt.slice_of(frames) == {"i": 25, "j": 19, "k": 11}[axis]
    assert scene.prompts.prompts() == {name: placed}
    scene.prompts.cleanup()


@pytest.mark.parametrize("axis", "kji")
@pytest.mark.parametrize("grid", GRIDS)
def test_a_drag_is_a_box_one_slice_thick(host, sphere, grid, axis):
    scene = Scene(host, sphere, grid)
    drawing = BoxDrawing()
    drawn = []
    drawing.drawn.connect(lambda *box: drawn.append(box))
    drawing.start(scene.volume)
    start, end = [18, 12, 8], [33, 27, 15]
    flat = "ijk".index(axis)
    end[flat] = start[flat]
    scene.view_along(axis).drag(scene.world(*start), scene.world(*end))
    drawing.stop()
    [(low, high, flat_axis)] = drawn
    assert flat_axis == axis
    np.testing.assert_allclose(low, start, atol=1)
    np.testing.assert_allclose(high, end, atol=1)
    assert low[flat] == high[flat] == start[flat]
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0  # the preview is gone
    scene.prompts.cleanup()


@pytest.mark.parametrize("grid", GRIDS)
def test_a_box_comes_back_from_its_markup(host, sphere, grid):
    scene = Scene(host, sphere, grid)
    name = scene.prompts.addBox("a", (3, 4, 5), (10, 12, 5))
    assert scene.prompts.prompts() == {name: PlacedPrompt("a", Box((3, 4, 5), (10, 12, 5)))}
    assert not scene.said
    scene.prompts.cleanup()


def test_a_tilted_view_takes_no_box(host, sphere):
    scene = Scene(host, sphere, "oblique")
    host.views["Red"].mrmlSliceNode().SetOrientation("Axial")
    drawing = BoxDrawing()
    refused, drawn = [], []
    drawing.refused.connect(refused.append)
    drawing.drawn.connect(lambda *box: drawn.append(box))
    drawing.start(scene.volume)
    host.views["Red"].drag(scene.world(18, 12, 8), scene.world(30, 20, 8))
    drawing.stop()
    assert len(refused) == 1
    assert "tilted" in refused[0]
    assert not drawn
    scene.prompts.cleanup()


def test_a_click_without_a_drag_is_no_box(scene):
    drawing = BoxDrawing()
    refused, drawn = [], []
    drawing.refused.connect(refused.append)
    drawing.drawn.connect(lambda *box: drawn.append(box))
    drawing.start(scene.volume)
    scene.host.views["Red"].click(scene.world(20, 20, 8))
    assert refused
    assert not drawn
    drawing.stop()
    assert not drawing.active
    scene.host.views["Red"].drag(scene.world(18, 12, 8), scene.world(30, 20, 8))
    assert not drawn


def test_dragging_a_point_says_once_where_it_was_dropped(scene):
    name = scene.prompts.addPoint("a", (20, 20, 8))
    assert not scene.said
    scene.host.views["Red"].drag(scene.world(20, 20, 8), scene.world(28, 14, 8))
    [(what, moved, placed, _before)] = scene.said
    assert (what, moved) == ("moved", name)
    np.testing.assert_allclose(placed.prompt.ijk, (28, 14, 8), atol=0.6)


def test_what_other_modules_do_is_noticed(scene):
    point = scene.prompts.addPoint("a", (20, 20, 8))
    other = scene.prompts.addPoint("a", (22, 20, 8))
    box = scene.prompts.addBox("b", (3, 4, 5), (10, 12, 5))
    node = scene.prompts.pointsNode("a", True)
    node.SetNthControlPointPosition(0, *scene.geometry.localFromIjk((21, 20, 8)))
    node.RemoveNthControlPoint(1)
    scene.host.scene.RemoveNode(scene.host.slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLMarkupsROINode"))
    assert [(what, name) for what, name, *_ in scene.said] == [("moved", point), ("removed", other), ("removed", box)]
    scene.host.scene.RemoveNode(node)
    assert scene.said[-1][:2] == ("removed", point)
    assert not scene.prompts.prompts()


def test_a_prompt_outside_the_volume_is_refused(scene):
    box = scene.prompts.addBox("b", (3, 4, 5), (10, 12, 5))
    scene.prompts.pointsNode("a", True).AddControlPoint(*scene.geometry.localFromIjk((-3, 20, 8)))
    assert [what for what, *_ in scene.said] == ["refused"]
    node = scene.host.scene.GetFirstNodeByClass("vtkMRMLMarkupsROINode")
    node.InvokeEvent(scene.host.slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent)
    layOut(node, scene.geometry, (-5, 4, 5), (10, 12, 5))
    node.InvokeEvent(scene.host.slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    assert [what for what, *_ in scene.said] == ["refused", "refused"]
    assert scene.prompts.prompts() == {box: PlacedPrompt("b", Box((3, 4, 5), (10, 12, 5)))}
    assert bounds(node, scene.geometry) == ((3, 4, 5), (10, 12, 5))


def test_prompts_are_restored_under_their_names(scene):
    point = scene.prompts.addPoint("a", (20.25, 20, 8))
    negative = scene.prompts.addPoint("b", (5, 20, 8), positive=False)
    box = scene.prompts.addBox("b", (3, 4, 5), (10, 12, 5))
    before = scene.prompts.prompts()
    scene.prompts.remove(box)
    scene.prompts.remove(negative)
    scene.prompts.pointsNode("a", True).SetNthControlPointPosition(0, *scene.geometry.localFromIjk((1, 2, 3)))
    scene.prompts.addPoint("a", (7, 7, 7))
    scene.said.clear()
    scene.prompts.restore(before)
    assert scene.prompts.prompts() == before
    assert list(before) == [point, negative, box]
    assert not scene.said


def test_prompts_are_saved_with_the_scene(scene, tmp_path):
    scene.prompts.addPoint("a", (20.25, 20, 8))
    scene.prompts.addPoint("a", (22, 19, 8), positive=False)
    scene.prompts.addBox("b", (3, 4, 5), (10, 12, 5))
    before = scene.prompts.prompts()
    host = scene.host
    save_scene(host, tmp_path)
    scene.prompts.cleanup()
    host.close_scene()
    load_scene(host, tmp_path)
    reopened = PromptNodes(host.scene.GetFirstNodeByName("masks"), host.scene.GetFirstNodeByName("image"))
    assert set(reopened.prompts()) == set(before)
    assert all(placed.sameAs(before[name]) for name, placed in reopened.prompts().items())
    assert reopened.addPoint("a", (1, 1, 1)) not in before
    reopened.cleanup()


def test_prompts_move_with_the_volume(scene):
    name = scene.prompts.addPoint("a", (20, 20, 8))
    scene.volume.SetAndObserveTransformNodeID(add_transform(scene.host).GetID())
    scene.prompts.followTransform()
    np.testing.assert_allclose(scene.prompts.prompts()[name].prompt.ijk, (20, 20, 8), atol=0.01)
    node = scene.prompts.pointsNode("a", True)
    np.testing.assert_allclose(node.GetNthControlPointPositionWorld(0), scene.world(20, 20, 8), atol=0.01)
    assert not scene.said


def test_prompts_are_seen_on_their_slice_only(scene, tmp_path):
    from PIL import Image

    view = scene.host.views["Red"]
    view.mrmlSliceCompositeNode().SetBackgroundVolumeID("")

    def seen(k):
        view.go_to(scene.world(20, 20, k))
        view.picture(tmp_path / "view.png")
        pixels = np.asarray(Image.open(tmp_path / "view.png").convert("RGB")).astype(int)
        x, y = view.xy(scene.world(20, 20, k))
        around = pixels[::-1][y - 25 : y + 25, x - 25 : x + 25]
        return bool((around.max(axis=2) - around.min(axis=2) > 100).any())

    view.mrmlSliceNode().SetOrientation("Axial")
    assert not seen(8)
    scene.prompts.addPoint("a", (20, 20, 8))
    assert [k for k in range(5, 12) if seen(k)] == [8]
    scene.prompts.setVisible(False)
    assert not seen(8)
    scene.prompts.setVisible(True)
    scene.prompts.removeSegment("a")
    scene.prompts.addBox("b", (15, 15, 8), (25, 25, 8))
    assert [k for k in range(5, 12) if seen(k)] == [8]


def test_points_are_numbers_of_the_engine(scene):
    scene.prompts.addPoint("a", (20.25, 20, 8))
    [placed] = scene.prompts.prompts().values()
    assert placed.prompt == Point((20.25, 20, 8))
