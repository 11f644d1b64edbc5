"""DICOM: series, enhanced multi-frame files, cines, colours and compressions; irregular series are named."""

import dataclasses
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from biosam2.errors import BioSAM2Error, DependencyError, InputError
from biosam2.io import read_image, read_video, read_volume
from biosam2.volume import Volume
from dicom_helpers import SHIPPED, write_enhanced, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_helpers import corners, grids
from pydicom.uid import UID, JPEGBaseline8Bit

round_trip = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def numbered(grid: Volume, dtype=np.int16) -> Volume:
    """Voxels that all differ, on a right-handed copy of the grid: DICOM slices have no other handedness."""
    direction = grid.direction * (1, 1, np.sign(np.linalg.det(grid.direction)))
    array = np.arange(np.prod(grid.shape), dtype=dtype).reshape(grid.shape)
    return Volume(array, grid.spacing, grid.origin, direction)


def a_volume(n_slices=6) -> Volume:
    direction = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1.0]])
    array = np.random.default_rng(0).integers(-900, 900, (n_slices, 7, 5)).astype(np.int16)
    return Volume(array, (0.6, 0.8, 2.5), (-40, 30, 100), direction)


def refused(path, *words: str) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


@round_trip
@given(grid=grids(), seed=st.integers(0, 99))
def test_a_series_is_sorted_by_position(tmp_path, grid, seed):
    expected = numbered(grid)
    shutil.rmtree(tmp_path / "s", ignore_errors=True)
    files = write_series(tmp_path / "s", expected, shuffle=seed)
    volume = read_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.lps_from_ijk(corners(grid)), expected.lps_from_ijk(corners(grid)), atol=1e-3)
    assert volume.metadata["dicom_files"] == [str(f) for f in files]
    assert volume.metadata["modality"] == "CT"


def test_a_series_lies_where_simpleitk_puts_it(tmp_path):
    write_series(tmp_path, a_volume(), shuffle=1)
    volume = read_volume(tmp_path)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    for ijk in corners(volume):
        there = image.TransformIndexToPhysicalPoint([int(n) for n in ijk])
        np.testing.assert_allclose(volume.lps_from_ijk(ijk), there, atol=1e-6)


@round_trip
@given(grid=grids(), seed=st.integers(0, 99))
def test_an_enhanced_file_is_sorted_and_rescaled_by_frame(tmp_path, grid, seed):
    rng = np.random.default_rng(seed)
    expected = numbered(grid, np.uint16)
    order = rng.permutation(len(expected.array))
    slope, intercept = rng.uniform(0.5, 2, len(order)), rng.uniform(-5, 5, len(order))
    path = write_enhanced(tmp_path / "e.dcm", expected, order, slope=slope, intercept=intercept)
    volume = read_volume(path)
    frame_of = np.argsort(order)
    scaled = expected.array * slope[frame_of, None, None] + intercept[frame_of, None, None]
    np.testing.assert_allclose(volume.array, scaled, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(volume.lps_from_ijk(corners(grid)), expected.lps_from_ijk(corners(grid)), atol=1e-3)
    assert volume.metadata["dicom_frames"] == frame_of.tolist()
    # As a video the frames stay as they are.
    video = read_video(path)
    np.testing.assert_allclose(video.array, scaled[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(video.spacing[:2], expected.spacing[:2], rtol=1e-5)


def test_time_points_in_an_enhanced_file_are_named(tmp_path):
    volume = dataclasses.replace(a_volume(3), array=np.ones((3, 7, 5), np.uint16))
    refused(write_enhanced(tmp_path / "e.dcm", volume, [0, 1, 2, 0, 1, 2]), "share a position", "frame 1 and frame 4")


def test_several_series_are_listed_and_one_is_chosen_by_its_uid(tmp_path):
    first = write_series(tmp_path / "a", a_volume(), SeriesDescription="Lung")
    write_series(tmp_path / "b", a_volume(4), SeriesDescription="Bone")
    uid = str(pydicom.dcmread(first[0]).SeriesInstanceUID)
    refused(tmp_path, "holds 2 series", uid, "CT", "Lung, 6 slices", "Bone, 4 slices")
    assert read_volume(tmp_path, series_uid=uid).shape == (6, 7, 5)
    with pytest.raises(InputError, match=r"holds no series 1\.2\.3; there are"):
        read_volume(tmp_path, series_uid="1.2.3")


def test_a_missing_slice_is_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    files[2].unlink()
    refused(tmp_path, "slices are missing", "IM0001 and IM0003", "5.00 mm apart, others 2.50 mm")


def test_a_second_copy_is_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    shutil.copy(files[2], tmp_path / "copy")
    refused(tmp_path, "share a position", "IM0002", "copy")


def change(path, **values) -> None:
    ds = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def test_mixed_orientations_are_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    change(files[0], ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    refused(tmp_path, "mixes orientations", "5 with 0.8 -0.6 0 0.6 0.8 0", "1 with 0 1 0 0 0 1 such as IM0000")


def test_mixed_sizes_are_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    change(files[0], Rows=5, Columns=7)
    refused(tmp_path, "mixes sizes", "7×5 such as IM0000", "5×7 such as IM0001")


def test_mixed_pixel_spacings_are_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    change(files[3], PixelSpacing=[1, 1])
    refused(tmp_path, "mixes pixel spacings", "1 with 1 1 such as IM0003")


def test_gantry_tilt_is_named(tmp_path):
    volume = a_volume()
    for k, file in enumerate(write_series(tmp_path, volume)):
        change(file, ImagePositionPatient=(volume.lps_from_ijk((0, 0, k)) + np.array([0, 0.7, 0]) * k).tolist())
    refused(tmp_path, "gantry tilt", "resample")


def test_uneven_slices_are_named(tmp_path):
    volume = a_volume()
    for k, file in enumerate(write_series(tmp_path, volume)):
        change(file, ImagePositionPatient=volume.lps_from_ijk((0, 0, k**1.3)).tolist())
    refused(tmp_path, "unevenly spaced", "resample")


def test_positions_with_one_decimal_are_even_enough(tmp_path):
    volume = dataclasses.replace(a_volume(), spacing=(0.6, 0.8, 0.625))
    for k, file in enumerate(write_series(tmp_path, volume)):
        change(file, ImagePositionPatient=np.round(volume.lps_from_ijk((0, 0, k)), 1).tolist())
    assert read_volume(tmp_path).spacing[2] == pytest.approx(0.625, abs=0.02)


def test_slices_without_a_position_are_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    ds = pydicom.dcmread(files[4])
    del ds.ImagePositionPatient
    ds.save_as(files[4])
    refused(tmp_path, "1 of 6 slices do not say where they lie", "IM0004")


def test_a_damaged_slice_is_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    files[1].write_bytes(files[1].read_bytes()[:-40])
    refused(tmp_path, "IM0001")


def test_a_slice_that_may_not_be_opened_is_named(tmp_path):
    files = write_series(tmp_path, a_volume())
    files[-1].unlink()
    files[-1].symlink_to(files[-1])  # of itself: nobody can open it, not even root
    refused(tmp_path, "IM0005")


def test_folders_and_files_without_an_image(tmp_path):
    shutil.copy(SHIPPED / "reportsi.dcm", tmp_path)
    refused(tmp_path, "holds no DICOM image (1 Basic Text SR Storage)")
    refused(SHIPPED / "rtplan.dcm", "holds no image (RT Plan Storage)")
    refused(SHIPPED / "liver_1frame.dcm", "is a DICOM segmentation")
    refused(SHIPPED / "no_meta.dcm", "is not a DICOM file")


def test_other_files_among_the_slices_do_not_matter(tmp_path):
    write_series(tmp_path, a_volume())
    shutil.copy(SHIPPED / "reportsi.dcm", tmp_path)
    (tmp_path / "README.txt").write_text("from the archive")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    assert read_volume(tmp_path).shape == (6, 7, 5)


def test_an_ultrasound_cine():
    """Real: 30 frames of JPEG in YBR."""
    cine = read_video(SHIPPED / "examples_ybr_color.dcm")
    assert cine.array.shape == (30, 240, 320, 3)
    assert cine.array.dtype == np.uint8
    assert cine.metadata["fps"] == pytest.approx(30, abs=0.01)
    assert cine.spacing[:2] == pytest.approx((0.510, 0.510), abs=1e-3)  # of its ultrasound regions
    # The picture is grey but for its colour bars: YBR that was taken for RGB would be green throughout.
    spread = np.ptp(cine.array.astype(int), axis=-1)
    assert (spread < 12).mean() > 0.9


def test_a_damaged_cine_does_not_end_the_process(tmp_path):
    """gdcm aborts at these four bytes, before any exception."""
    damaged = bytearray((SHIPPED / "examples_ybr_color.dcm").read_bytes())
    damaged[71804:71808] = bytes((54, 183, 183, 205))
    (tmp_path / "cine.dcm").write_bytes(damaged)
    with pytest.raises(InputError, match=r"cine\.dcm as DICOM: it is damaged"):
        read_video(tmp_path / "cine.dcm")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("examples_rgb_color.dcm", (1, 240, 320, 3)),
        ("examples_palette.dcm", (1, 350, 800, 3)),
        ("examples_jpeg2k.dcm", (1, 480, 640, 3)),
        ("SC_rgb_rle_16bit_2frame.dcm", (2, 100, 100, 3)),
        ("SC_ybr_full_422_uncompressed.dcm", (1, 100, 100, 3)),
        ("SC_rgb_jpeg_gdcm.dcm", (1, 100, 100, 3)),
        ("SC_rgb_jpeg_dcmtk.dcm", (1, 100, 100, 3)),
    ],
)
def test_colour_becomes_rgb_of_eight_bits(name, shape):
    volume = read_volume(SHIPPED / name)
    assert volume.array.shape == shape
    assert volume.array.dtype == np.uint8
    assert volume.array.max() > 200


def test_all_codings_of_one_picture_agree():
    """The same test card in RGB and YBR, compressed and not: a red band at the top."""
    for name in ("SC_rgb_rle.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle_16bit.dcm"):
        red, green, blue = read_image(SHIPPED / name).array[0, 5, 50].astype(int)
        assert red > 240, name
        assert max(green, blue) < 15, name


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_every_transfer_syntax_gives_the_same_voxels(name):
    expected, found = read_image(SHIPPED / "MR_small.dcm"), read_image(SHIPPED / name)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.array.dtype.isnative
    np.testing.assert_allclose(found.ijk_to_lps, expected.ijk_to_lps)


def test_a_ct_is_in_hounsfield_units():
    stored = pydicom.dcmread(SHIPPED / "CT_small.dcm")
    volume = read_image(SHIPPED / "CT_small.dcm")
    np.testing.assert_array_equal(volume.array[0], stored.pixel_array.astype(int) - 1024)
    assert volume.array.dtype == np.int16


def test_monochrome1_is_turned_round():
    path = SHIPPED / "dicomdirtests" / "77654033" / "CR1" / "6154"
    stored = pydicom.dcmread(path)
    assert stored.PhotometricInterpretation == "MONOCHROME1"
    scaled = (4095 - stored.pixel_array) * float(stored.RescaleSlope) + float(stored.RescaleIntercept)
    np.testing.assert_allclose(read_image(path).array[0], scaled, rtol=1e-6)


def test_a_missing_decoder_is_named(monkeypatch):
    decoder = pydicom.pixels.get_decoder(UID("1.2.840.10008.1.2.4.80"))
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(DependencyError, match=r"JPEG-LS Lossless.*pip install 'biosam2\[dicom\]'"):
        read_volume(SHIPPED / "MR_small_jpeg_ls_lossless.dcm")


def test_a_compression_that_nobody_decodes_is_named(tmp_path):
    ds = pydicom.dcmread(SHIPPED / "SC_rgb_jpeg_dcmtk.dcm")
    assert ds.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    ds.save_as(tmp_path / "x.dcm")
    refused(tmp_path / "x.dcm", "MPEG-4", "cannot be read")


def test_several_cines_in_a_folder_are_listed(tmp_path):
    for name in ("one.dcm", "two.dcm"):
        shutil.copy(SHIPPED / "examples_ybr_color.dcm", tmp_path / name)
    refused(tmp_path, "2 multi-frame files", "one.dcm, two.dcm")


@pytest.mark.parametrize("path", sorted(p for p in SHIPPED.glob("*") if p.is_file()), ids=lambda p: p.name)
def test_no_shipped_file_ends_in_a_traceback(path, capfd):
    """pydicom's own collection of odd files: each is read or refused in one line, and nothing is printed."""
    message = ""
    try:
        read_volume(path)
    except BioSAM2Error as error:
        message = str(error)
    assert "\n" not in message
    assert not message or str(path) in message
    assert capfd.readouterr() == ("", "")
