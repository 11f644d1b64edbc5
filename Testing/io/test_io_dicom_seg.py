"""DICOM SEG is read back onto the image, whatever the order of files and frames, and refused on another image."""

import numpy as np
import pytest
from biosam2.datasets import load_dataset, open_case
from biosam2.datasets.finding import find_cases
from biosam2.errors import InputError
from biosam2.io import read_volume, write_segmentation
from biosam2.io.dicom import seg
from biosam2.volume import Volume
from dicom_helpers import write_enhanced, write_series
from io_helpers import Segments, two_boxes


def a_volume(n_slices=6, origin=(-40.0, 30.0, 100.0)):
    direction = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1.0]])
    array = np.random.default_rng(0).integers(0, 900, (n_slices, 11, 13)).astype(np.int16)
    return Volume(array, (0.6, 0.8, 2.5), origin, direction)


@pytest.fixture
def series(tmp_path):
    """A study's folder, the image as read from it, and two segments of which one overlaps the other."""
    write_series(tmp_path / "study" / "ct", a_volume(), shuffle=3)
    volume = read_volume(tmp_path / "study" / "ct")
    masks = dict(two_boxes(volume).masks)
    masks["both"] = np.logical_or(*masks.values())
    write_segmentation(tmp_path / "study" / "x.dcm", Segments(volume, masks))
    return tmp_path / "study", volume, masks


def test_segments_come_back_where_they_were(series):
    folder, volume, masks = series
    found = seg.read(folder / "x.dcm", volume)
    assert [label for label, _ in found.values()] == list(masks)
    for (_, mask), expected in zip(found.values(), masks.values(), strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_a_study_is_a_dataset(series):
    folder, volume, masks = series
    write_series(folder / "other", a_volume(3, (0.0, 0.0, 0.0)))
    (case,) = load_dataset(folder)
    assert (case.kind, case.modality, case.image) == ("3D", "CT", folder / "ct")
    sample = open_case(case)
    np.testing.assert_array_equal(sample.volume.array, volume.array)
    for name, expected in masks.items():
        np.testing.assert_array_equal(sample.masks[name], expected)


def test_two_segmentations_of_one_series_are_one_case(series):
    folder, volume, masks = series
    write_segmentation(folder / "y.dcm", Segments(volume, {"first": masks["first"]}))
    (case,) = find_cases(folder)
    assert [target.name for target in case.targets] == ["first", "second", "both", "first (2)"]


def test_an_enhanced_image_is_a_case(tmp_path):
    volume = a_volume()
    volume = volume.with_array(volume.array.astype(np.uint16))
    path = write_enhanced(
        tmp_path / "mr.dcm", volume, order=[3, 0, 5, 1, 2, 4], slope=np.ones(6), intercept=np.zeros(6)
    )
    read = read_volume(path)
    segments = two_boxes(read)
    write_segmentation(tmp_path / "seg.dcm", segments)
    (case,) = load_dataset(tmp_path)
    np.testing.assert_array_equal(open_case(case).masks["first"], segments.masks["first"])


def test_a_segmentation_of_another_image_is_refused(series, tmp_path):
    folder, _, _ = series
    for other in (a_volume(origin=(-40.0, 30.0, 101.0)), a_volume(1), Volume(np.zeros((6, 11, 12)))):
        with pytest.raises(InputError, match=r"x\.dcm does not lie on the image's voxels"):
            seg.read(folder / "x.dcm", other)
    with pytest.raises(InputError, match="not a DICOM segmentation"):
        seg.read(next((folder / "ct").iterdir()), a_volume())


def test_a_segmentation_without_its_image_is_named(series):
    folder, _, _ = series
    for file in (folder / "ct").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"x\.dcm refers to the series"):
        load_dataset(folder)
