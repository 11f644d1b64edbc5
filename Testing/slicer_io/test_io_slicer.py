"""3D Slicer's own libraries find each voxel where we say that it lies, and each segment with its name."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from biosam2.io import read_segmentation, read_video, read_volume, same_grid, write_segmentation
from biosam2.io.colours import segment_colour
from biosam2.volume import Volume
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from io_helpers import LABELMAPS, Segments, grids, image_on, two_boxes

slicer_core = pytest.importorskip("slicer_core", reason="3D Slicer's libraries are not installed (pip: slicer-core)")
vtk = pytest.importorskip("vtk", reason="VTK comes with slicer-core")

from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy  # noqa: E402 - comes with slicer-core

round_trip = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def matrix(filled: "vtk.vtkMatrix4x4") -> np.ndarray:
    return np.array([[filled.GetElement(row, column) for column in range(4)] for row in range(4)])


def voxels(image: "vtk.vtkImageData") -> np.ndarray:
    """(K, J, I)."""
    i, j, k = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def load_segmentation(path: Path) -> "slicer_core.vtkSegmentation":
    scene = slicer_core.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    assert storage.GetUserMessages().GetNumberOfMessages() == 0, storage.GetUserMessages().GetAllMessagesAsString()
    return node.GetSegmentation()


def voxels_in_lps(array: np.ndarray, lps: np.ndarray, first: tuple[int, ...] = (0, 0, 0)) -> np.ndarray:
    """Positions of the voxels that are set, sorted."""
    kji = np.argwhere(array)
    ijk = np.column_stack([kji[:, ::-1] + first, np.ones(len(kji))])
    points = (ijk @ lps.T)[:, :3]
    return points[np.lexsort(np.round(points, 3).T)]


def segment_in_lps(segment: "slicer_core.vtkSegment") -> np.ndarray:
    image = segment.GetRepresentation("Binary labelmap")
    to_ras = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_ras)
    extent = image.GetExtent()
    return voxels_in_lps(voxels(image) == segment.GetLabelValue(), RAS @ matrix(to_ras), extent[::2])


@round_trip
@given(grid=grids())
def test_slicer_finds_every_segment_where_it_lies(tmp_path, grid):
    assume(grid.array.size > 1)  # Slicer 5.11 crashes on a volume of one voxel, its own too
    session = two_boxes(grid)
    write_segmentation(tmp_path / "s.seg.nrrd", session)
    loaded = load_segmentation(tmp_path / "s.seg.nrrd")
    assert loaded.GetNumberOfSegments() == 2
    for number, name in enumerate(session.segments):
        segment = loaded.GetNthSegment(number)
        assert segment.GetName() == name
        np.testing.assert_allclose(
            segment_in_lps(segment), voxels_in_lps(session.mask(name), grid.ijk_to_lps), atol=1e-6
        )


def test_slicer_keeps_overlaps_names_colours_and_terminology(tmp_path):
    volume = Volume(np.zeros((4, 5, 6), np.int16), (0.7, 0.8, 3.0), (10, 20, 30), np.diag([1.0, -1.0, -1.0]))
    names = ("liver", 'tumour "core" \\ rand 1–2 | ~é', "empty", "liver and all")
    masks = {name: np.zeros(volume.shape, bool) for name in names}
    masks[names[0]][1:3, 1:4, 1:4] = True
    masks[names[1]][2:4, 2:5, 2:6] = True
    masks[names[3]][:] = True
    session = Segments(volume, masks)
    write_segmentation(tmp_path / "s.seg.nrrd", session)

    loaded = load_segmentation(tmp_path / "s.seg.nrrd")

    assert [loaded.GetNthSegment(n).GetName() for n in range(4)] == list(names)
    assert loaded.GetNumberOfLayers() == 3  # the empty one shares the first
    for number, name in enumerate(names):
        segment = loaded.GetNthSegment(number)
        np.testing.assert_allclose(segment.GetColor(), segment_colour(number), atol=1e-5)
        terminology = vtk.reference("")
        assert segment.GetTag("TerminologyEntry", terminology)
        assert "~SCT^85756007^Tissue~SCT^85756007^Tissue~" in str(terminology)
        np.testing.assert_allclose(segment_in_lps(segment), voxels_in_lps(masks[name], volume.ijk_to_lps), atol=1e-6)


def test_what_slicer_writes_is_read_back(tmp_path):
    """Through Slicer and back: its writer uses the reference geometry, layers and extents that we gave it."""
    volume = Volume(np.zeros((4, 5, 6), np.int16), (0.7, 0.8, 3.0), (10, 20, 30), np.eye(3)[[1, 2, 0]])
    masks = {name: np.zeros(volume.shape, bool) for name in ("a", "b", "c")}
    masks["a"][1, 1:3, 1:3] = masks["b"][3, 4, 5] = masks["c"][1:3, 2:4, 2:4] = True
    write_segmentation(tmp_path / "ours.seg.nrrd", Segments(volume, masks))
    scene = slicer_core.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "ours.seg.nrrd"))
    assert storage.ReadData(node)
    storage.SetFileName(str(tmp_path / "slicers.seg.nrrd"))
    assert storage.WriteData(node)

    grid, back = read_segmentation(tmp_path / "slicers.seg.nrrd")

    assert same_grid(volume, grid)
    assert list(back) == ["a", "b", "c"]
    for name, mask in masks.items():
        np.testing.assert_array_equal(back[name], mask)


@pytest.mark.parametrize("extension", LABELMAPS)
@round_trip
@given(grid=grids())
def test_slicer_finds_every_label_where_it_lies(tmp_path, extension, grid):
    session = two_boxes(grid)
    path = tmp_path / f"labels{extension}"
    write_segmentation(path, session)
    array, to_lps = load_volume(path)
    for label in (1, 2):
        np.testing.assert_allclose(
            voxels_in_lps(array == label, to_lps),
            voxels_in_lps(session.labelmap() == label, grid.ijk_to_lps),
            atol=1e-3 if ".nii" in extension else 1e-5,
        )


@pytest.mark.parametrize("extension", LABELMAPS)
@round_trip
@given(grid=grids())
def test_an_image_lies_where_slicer_sees_it(tmp_path, extension, grid):
    """Each value is at the same place; Slicer turns left-handed volumes round, so that its k may run the other way."""
    numbers = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape)
    path = tmp_path / f"image{extension}"
    sitk.WriteImage(image_on(grid, numbers), str(path))
    array, to_lps = load_volume(path)
    volume = read_volume(path)
    np.testing.assert_allclose(
        places(volume.array, volume.ijk_to_lps), places(array, to_lps), atol=1e-3 if ".nii" in extension else 1e-5
    )


def places(numbers: np.ndarray, lps: np.ndarray) -> np.ndarray:
    """LPS of the voxels with values 0, 1, 2, ..."""
    kji = np.argwhere(numbers >= 0)[np.argsort(numbers, axis=None)]
    return (np.column_stack([kji[:, ::-1], np.ones(len(kji))]) @ lps.T)[:, :3]


def load_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (K, J, I) and the IJK to LPS matrix, as Slicer's volume storage reads them."""
    scene = slicer_core.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    storage.SetCenterImage(0)
    storage.SetSingleFile(1)
    assert storage.ReadData(node)
    to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    return voxels(node.GetImageData()), RAS @ matrix(to_ras)


@round_trip
@given(grid=grids(), timed=st.booleans())
def test_a_sequence_of_labelmaps_opens_in_slicer(grid, timed, tmp_path):
    metadata = {"fps": 25.0} if timed else {}
    video = Volume(grid.array, grid.spacing, grid.origin, grid.direction, metadata)
    found = two_boxes(video)
    write_segmentation(tmp_path / "masks.seq.nrrd", found)
    scene = slicer_core.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    storage.SetFileName(str(tmp_path / "masks.seq.nrrd"))
    assert storage.ReadData(node)
    assert storage.GetUserMessages().GetNumberOfMessages() == 0
    frames = grid.shape[0]
    assert node.GetNumberOfDataNodes() == frames
    assert (node.GetIndexName(), node.GetIndexUnit()) == (("time", "s") if timed else ("frame", ""))
    assert node.GetIndexTypeAsString() == "numeric"
    values = [float(node.GetNthIndexValue(n)) for n in range(frames)]
    np.testing.assert_allclose(values, np.arange(frames) / (25 if timed else 1))
    assert node.GetAttribute("Segment1_Name") == "second"
    for number in range(frames):
        frame = node.GetNthDataNode(number)
        assert frame.GetClassName() == "vtkMRMLLabelMapVolumeNode"
        np.testing.assert_array_equal(voxels(frame.GetImageData()), found.labelmap()[number : number + 1])
        to_ras = vtk.vtkMatrix4x4()
        frame.GetIJKToRASMatrix(to_ras)
        np.testing.assert_allclose(RAS @ matrix(to_ras), video.ijk_to_lps, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("slices", [1, 3])
def test_a_sequence_that_slicer_wrote_is_read_as_a_video(channels, slices, tmp_path):
    """Frames at uneven times in milliseconds, grey or in colour, of one slice or several."""
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (4, slices, 5, 6, channels)).astype(np.uint8)
    grid = Volume(array[0, ..., 0], (0.5, 0.7, 2.0), (3, -4, 5), [[0, -1, 0], [1, 0, 0], [0, 0, -1]])
    scene = slicer_core.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    node.SetIndexName("time")
    node.SetIndexUnit("ms")
    to_ras = vtk.vtkMatrix4x4()
    for row, column in np.ndindex(4, 4):
        to_ras.SetElement(row, column, (RAS @ grid.ijk_to_lps)[row, column])
    for frame, time in zip(array, ("0", "40", "90", "100"), strict=True):
        volume = slicer_core.vtkMRMLScalarVolumeNode() if channels == 1 else slicer_core.vtkMRMLVectorVolumeNode()
        image = vtk.vtkImageData()
        image.SetDimensions(6, 5, slices)
        image.GetPointData().SetScalars(numpy_to_vtk(frame.reshape(-1, channels), deep=True))
        volume.SetAndObserveImageData(image)
        if channels == 3:
            volume.SetVoxelVectorType(volume.VoxelVectorTypeColorRGB)
        volume.SetIJKToRASMatrix(to_ras)
        node.SetDataNodeAtValue(volume, time)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    storage.SetFileName(str(tmp_path / "cine.seq.nrrd"))
    assert storage.WriteData(node)
    chosen = slices - 1
    again = read_video(tmp_path / "cine.seq.nrrd", chosen if slices > 1 else None)
    np.testing.assert_array_equal(again.array, array[:, chosen, ..., 0] if channels == 1 else array[:, chosen])
    corners = np.array([(0, 0, 0), (5, 0, 0), (0, 4, 0)], float)
    there = grid.lps_from_ijk(corners + np.array([0, 0, chosen]))
    np.testing.assert_allclose(again.lps_from_ijk(corners), there, atol=1e-6)
    np.testing.assert_allclose(again.metadata["frame_times"], [0, 0.04, 0.09, 0.1])
