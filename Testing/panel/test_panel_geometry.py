"""Voxels, local and world positions agree on volumes of every orientation, under transforms too."""

from __future__ import annotations

import biosam2
import numpy as np
import pytest
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry, fillNode, volumeOf
from panel_helpers import GRIDS, add_transform, add_volume


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("transform", [None, "linear", "bent"])
def test_world_and_voxels_are_inverse(host, sphere, grid, transform):
    volume = add_volume(host, sphere, GRIDS[grid])
    if transform:
        volume.SetAndObserveTransformNodeID(add_transform(host, bent=transform == "bent").GetID())
    geometry = VolumeGeometry(volume)
    for ijk in [(0, 0, 0), (47, 39, 23), (10.25, 3.5, 7.75)]:
        world = geometry.worldFromIjk(ijk)
        np.testing.assert_allclose(geometry.ijkFromWorld(world), ijk, atol=1e-3)
        if transform:
            assert not np.allclose(world, geometry.localFromIjk(ijk))


@pytest.mark.parametrize("grid", GRIDS)
def test_the_engine_sees_the_same_places(host, sphere, grid):
    geometry = VolumeGeometry(add_volume(host, sphere, GRIDS[grid]))
    spacing, origin, direction = geometry.lps()
    volume = biosam2.Volume(sphere, spacing, origin, np.array(direction))
    assert volume.shape == geometry.shape
    ijk = np.array([[0, 0, 0], [5, 7, 9], [47, 39, 23.0]])
    np.testing.assert_allclose(volume.ijk_from_ras(geometry.localFromIjk(ijk)), ijk, atol=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_node_filled_with_the_engines_volume_holds_it(host, sphere, grid):
    source = add_volume(host, sphere, GRIDS[grid])
    node = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    fillNode(node, volumeOf(source))
    np.testing.assert_array_equal(volumeOf(node).array, sphere)
    np.testing.assert_allclose(VolumeGeometry(node).ijkToLocal, VolumeGeometry(source).ijkToLocal, atol=1e-6)


@pytest.mark.parametrize("transform", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_view_knows_its_axis_and_slice(host, sphere, grid, transform):
    volume = add_volume(host, sphere, GRIDS[grid])
    if transform:
        volume.SetAndObserveTransformNodeID(add_transform(host, degrees=25).GetID())
    host.show(volume)
    geometry = VolumeGeometry(volume)
    seen = set()
    for view in host.views.values():
        # RotateSliceToLowestVolumeAxes, as Slicer's button of that name: the volume's own planes.
        view.sliceLogic().RotateSliceToLowestVolumeAxes(True)
        axis, degrees = geometry.axisOfView(view.mrmlSliceNode())
        assert degrees < 0.1
        seen.add(axis)
        view.go_to(geometry.worldFromIjk((11, 17, 5)))
        assert geometry.sliceOfView(view.mrmlSliceNode(), axis) == {"i": 11, "j": 17, "k": 5}[axis]
    assert seen == {"i", "j", "k"}


def test_an_oblique_view_shows_no_slice(host, sphere):
    volume = add_volume(host, sphere, GRIDS["oblique"])
    host.show(volume)
    geometry = VolumeGeometry(volume)
    node = host.views["Red"].mrmlSliceNode()
    node.SetOrientation("Axial")
    axis, degrees = geometry.axisOfView(node)
    assert degrees > 1
    assert geometry.sliceOfView(node, axis) is None


def test_a_view_past_the_volume_shows_no_slice(host, sphere):
    volume = add_volume(host, sphere)
    host.show(volume)
    geometry = VolumeGeometry(volume)
    view = host.views["Red"]
    view.go_to(geometry.worldFromIjk((5, 5, 23)))
    assert geometry.sliceOfView(view.mrmlSliceNode(), "k") == 23
    view.mrmlSliceNode().SetSliceOffset(view.mrmlSliceNode().GetSliceOffset() + 500)
    assert geometry.sliceOfView(view.mrmlSliceNode(), "k") is None


def test_what_lies_in_the_volume(host, sphere):
    geometry = VolumeGeometry(add_volume(host, sphere))
    assert geometry.contains((-0.5, 0, 0))
    assert geometry.contains((47.4, 39.4, 23.4))
    assert not geometry.contains((-0.6, 0, 0))
    assert not geometry.contains((0, 39.6, 0))
    assert [geometry.count(axis) for axis in "ijk"] == [48, 40, 24]
    assert geometry.sliceIndex((3.4, 3.5, 3.6), "i") == 3
    assert geometry.sliceIndex((3.4, 3.5, 3.6), "j") == 4
