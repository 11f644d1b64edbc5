"""Segmentations of every format: the same masks come back, and what cannot be written is refused in one line."""

import re

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from biosam2.errors import DependencyError, InputError, OutputError
from biosam2.io import read_labelmap, read_segmentation, read_volume, same_grid, write_segmentation
from biosam2.io.terminology import Code, Terminology
from biosam2.volume import Volume
from dicom_helpers import SHIPPED, write_enhanced, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_helpers import LABELMAPS, Segments, grids, two_boxes

round_trip = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20)


@round_trip
@given(grid=grids(), labels=st.lists(names, min_size=1, max_size=5, unique=True), seed=st.integers(0, 99))
def test_seg_nrrd_keeps_overlapping_segments_and_any_name(tmp_path, grid, labels, seed):
    rng = np.random.default_rng(seed)
    masks = {name: rng.random(grid.shape) < 0.4 for name in labels}
    write_segmentation(tmp_path / "s.seg.nrrd", Segments(grid, masks))
    back_grid, back = read_segmentation(tmp_path / "s.seg.nrrd")
    assert same_grid(grid, back_grid, tolerance=1e-6)
    assert [name.strip() for name in back] == [name.strip() for name in masks]
    for found, mask in zip(back.values(), masks.values(), strict=True):
        np.testing.assert_array_equal(found, mask)


def test_segments_that_do_not_overlap_share_one_plain_labelmap(tmp_path):
    session = two_boxes(Volume(np.zeros((4, 5, 6), np.int16), (1, 2, 3)))
    write_segmentation(tmp_path / "s.seg.nrrd", session)
    image = sitk.ReadImage(str(tmp_path / "s.seg.nrrd"))
    assert image.GetNumberOfComponentsPerPixel() == 1
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), session.labelmap())
    assert image.GetMetaData("Segment1_Name") == "second"


def test_more_than_255_segments(tmp_path):
    volume = Volume(np.zeros((3, 10, 10), np.int16))
    masks = {}
    for number in range(300):
        masks[f"s{number}"] = np.zeros(volume.shape, bool)
        masks[f"s{number}"].flat[number] = True
    write_segmentation(tmp_path / "s.seg.nrrd", Segments(volume, masks))
    _, back = read_segmentation(tmp_path / "s.seg.nrrd")
    assert all(np.array_equal(back[name], masks[name]) for name in masks)
    assert read_labelmap(tmp_path / "s.seg.nrrd").array.max() == 300


def test_the_same_segmentation_gives_the_same_bytes(tmp_path):
    session = two_boxes(Volume(np.zeros((4, 5, 6), np.int16)))
    for name in ("a.seg.nrrd", "b.seg.nrrd"):
        write_segmentation(tmp_path / name, session)
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()


@pytest.mark.parametrize("extension", [*LABELMAPS, ".seg.nrrd"])
def test_every_labelmap_format_starts_a_session_again(tmp_path, extension):
    session = two_boxes(Volume(np.zeros((4, 5, 6), np.int16), (1, 2, 3), (4, 5, 6)))
    write_segmentation(tmp_path / f"s{extension}", session)
    labels = read_labelmap(tmp_path / f"s{extension}", like=session.volume)
    np.testing.assert_array_equal(labels.array, session.labelmap())


def test_a_segmentation_is_no_image(tmp_path):
    write_segmentation(tmp_path / "s.seg.nrrd", two_boxes(Volume(np.zeros((4, 5, 6)))))
    with pytest.raises(InputError, match="is a segmentation, not an image"):
        read_volume(tmp_path / "s.seg.nrrd")


def test_an_image_is_no_segmentation(tmp_path):
    sitk.WriteImage(sitk.Image([3, 4, 5], sitk.sitkUInt8), str(tmp_path / "s.seg.nrrd"))
    with pytest.raises(InputError, match="holds no segments"):
        read_segmentation(tmp_path / "s.seg.nrrd")


def test_what_cannot_be_written(tmp_path):
    session = two_boxes(Volume(np.zeros((4, 5, 6))))
    with pytest.raises(OutputError, match=r"known are \.seg\.nrrd"):
        write_segmentation(tmp_path / "s.stl", session)
    with pytest.raises(InputError, match="no segment yet"):
        write_segmentation(tmp_path / "s.nrrd", Segments(session.volume, {}))
    with pytest.raises(InputError, match=r"read from DICOM; write \.seg\.nrrd"):
        write_segmentation(tmp_path / "s.dcm", session)
    with pytest.raises(OutputError, match="there is no folder"):
        write_segmentation(tmp_path / "absent" / "s.seg.nrrd", session)
    (tmp_path / "there.nrrd").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_segmentation(tmp_path / "there.nrrd", session, overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["there.nrrd"]


def dicom_volume(n_slices: int = 5) -> Volume:
    direction = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1.0]])
    return Volume(np.zeros((n_slices, 7, 6), np.uint16), (0.6, 0.8, 2.5), (-40, 30, 100), direction)


@pytest.mark.parametrize("kind", ["series", "enhanced"])
@pytest.mark.parametrize("name", ["s.dcm", "s.seg.dcm"])
def test_dicom_seg_lies_on_the_images(tmp_path, kind, name):
    highdicom = pytest.importorskip("highdicom", reason="highdicom, which writes DICOM SEG, is not installed")
    if kind == "series":
        write_series(tmp_path / "in", dicom_volume(), shuffle=3)
        volume = read_volume(tmp_path / "in")
    else:
        volume = read_volume(write_enhanced(tmp_path / "in.dcm", dicom_volume(), order=[3, 1, 0, 4, 2]))
    rng = np.random.default_rng(0)
    masks = {label: rng.random(volume.shape) < 0.3 for label in ("liver", "tumour é")}
    masks["tumour é"][1:4] = False  # slices without it are left out of the file
    write_segmentation(tmp_path / name, Segments(volume, masks))

    seg = highdicom.seg.segread(tmp_path / name)
    assert [d.segment_label for d in map(seg.get_segment_description, seg.segment_numbers)] == list(masks)
    found = seg.get_volume()
    for number, mask in enumerate(masks.values()):
        positions = voxel_positions(found.array[..., number], found.affine)
        np.testing.assert_allclose(positions, voxel_positions(mask, volume.ijk_to_lps[:, [2, 1, 0, 3]]), atol=1e-3)
    assert {str(r.ReferencedSOPInstanceUID) for r in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
        str(pydicom.dcmread(f).SOPInstanceUID) for f in volume.metadata["dicom_files"]
    }


@given(st.one_of(st.text(max_size=40), st.text("~^ab", max_size=60)))
def test_a_terminology_entry_is_read_or_refused(entry):
    carets = [part.count("^") for part in entry.split("~")]
    if not entry.strip():
        assert Terminology.parse(entry) == Terminology()
    elif len(carets) != 7 or carets[1:4] + carets[5:] != [2] * 5:
        with pytest.raises(InputError, match="terminology"):
            Terminology.parse(entry)


def test_a_terminology_entry_of_slicer():
    code = "SCT^64033007^Kidney"
    found = Terminology.parse(f"list~SCT^123037004^Anatomical Structure~{code}~SCT^7771000^Left~other list~^^~^^")
    assert (found.type, found.modifier) == (Code("SCT", "64033007", "Kidney"), Code("SCT", "7771000", "Left"))
    assert found.region is None


def voxel_positions(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Sorted positions of the voxels of a mask whose matrix takes its own index order."""
    index = np.argwhere(mask)
    points = np.column_stack([index, np.ones(len(index))]) @ affine.T
    return points[np.lexsort(np.round(points, 2).T), :3]


def test_dicom_seg_of_what_has_no_place_in_the_patient(tmp_path):
    pytest.importorskip("highdicom", reason="highdicom, which writes DICOM SEG, is not installed")
    cine = read_volume(SHIPPED / "examples_ybr_color.dcm")
    with pytest.raises(InputError, match=re.escape("write .seg.nrrd or .nii.gz instead")):
        write_segmentation(tmp_path / "s.dcm", two_boxes(cine))


def test_dicom_seg_of_images_that_are_gone(tmp_path):
    pytest.importorskip("highdicom", reason="highdicom, which writes DICOM SEG, is not installed")
    files = write_series(tmp_path / "in", dicom_volume())
    volume = read_volume(tmp_path / "in")
    files[2].unlink()
    with pytest.raises(InputError, match=r"there is no file .*IM0002"):
        write_segmentation(tmp_path / "s.dcm", two_boxes(volume))


def test_a_name_that_dicom_cannot_hold(tmp_path):
    pytest.importorskip("highdicom", reason="highdicom, which writes DICOM SEG, is not installed")
    write_series(tmp_path / "in", dicom_volume())
    volume = read_volume(tmp_path / "in")
    with pytest.raises(OutputError, match="rename it"):
        write_segmentation(tmp_path / "s.dcm", Segments(volume, {"a\\b": np.ones(volume.shape, bool)}))


def test_without_highdicom_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(DependencyError, match=r"pip install 'biosam2\[dicom\]'"):
        write_segmentation(tmp_path / "s.dcm", two_boxes(Volume(np.zeros((4, 5, 6)))))
