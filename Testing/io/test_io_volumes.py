"""Volumes of every format: what is written lies where it lay, and what cannot be used is refused in one line."""

import gzip
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from biosam2.errors import InputError, OutputError
from biosam2.io import guards, read_image, read_labelmap, read_volume, same_grid, write_labelmap
from biosam2.volume import Volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_helpers import LABELMAPS, corners, grids, image_on

# The folder of a function-scoped tmp_path is shared by all examples, which overwrite each other's file.
round_trip = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64)


def write(path: Path, array: np.ndarray, *, colour: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=colour), str(path))
    return path


@pytest.mark.parametrize("extension", LABELMAPS)
@round_trip
@given(grid=grids(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_a_volume_is_read_as_it_was_written(tmp_path, extension, grid, dtype, seed):
    array = np.random.default_rng(seed).integers(0, 100, grid.shape).astype(dtype)
    path = tmp_path / f"volume{extension}"
    sitk.WriteImage(image_on(grid, array), str(path))

    volume = read_volume(path)

    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    # NIfTI keeps float32 matrices.
    off = np.abs(volume.lps_from_ijk(corners(grid)) - grid.lps_from_ijk(corners(grid))).max()
    assert off < (1e-3 if ".nii" in extension else 1e-6)
    np.testing.assert_allclose(volume.spacing, grid.spacing, rtol=1e-5)


@pytest.mark.parametrize("extension", LABELMAPS)
@round_trip
@given(grid=grids(), top=st.sampled_from([1, 255, 256, 65535]), seed=st.integers(0, 99))
def test_a_labelmap_lies_on_the_image_for_simpleitk(tmp_path, extension, grid, top, seed):
    labels = np.random.default_rng(seed).integers(0, top + 1, grid.shape)
    labels.flat[0] = top
    path = tmp_path / f"labels{extension}"

    write_labelmap(path, grid, labels)

    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
    assert image.GetPixelID() == (sitk.sitkUInt8 if top <= 255 else sitk.sitkUInt16)
    for ijk in corners(grid):
        there = image.TransformIndexToPhysicalPoint([int(n) for n in ijk])
        np.testing.assert_allclose(there, grid.lps_from_ijk(ijk), atol=1e-3)
    back = read_labelmap(path, like=grid)
    np.testing.assert_array_equal(back.array, labels)


@pytest.mark.parametrize("extension", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_is_read_as_rgb(tmp_path, extension, channels):
    array = np.random.default_rng(0).integers(0, 256, (2, 5, 4, channels)).astype(np.uint8)
    volume = read_volume(write(tmp_path / f"colour{extension}", array, colour=True))
    assert volume.is_colour
    np.testing.assert_array_equal(volume.array, array[..., :3])


@pytest.mark.parametrize("extension", LABELMAPS)
@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 1, 5), (4, 5, 1), (1, 1, 7), (1, 1, 1)])
def test_flat_and_thin_volumes(tmp_path, extension, shape):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    np.testing.assert_array_equal(read_volume(write(tmp_path / f"thin{extension}", array)).array, array)


@pytest.mark.parametrize("extension", [".nrrd", ".mha", ".nii"])
def test_a_2d_file_is_one_slice(tmp_path, extension):
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.SetSpacing((0.5, 2.0))
    sitk.WriteImage(image, str(tmp_path / f"flat{extension}"))
    volume = read_image(tmp_path / f"flat{extension}")
    assert volume.shape == (1, 3, 4)
    assert volume.spacing == (0.5, 2.0, 1.0)


def test_a_fourth_dimension_of_one_is_dropped(tmp_path):
    path = tmp_path / "one.nrrd"
    sitk.WriteImage(sitk.JoinSeries([sitk.Image([4, 3, 2], sitk.sitkInt16)]), str(path))
    assert read_volume(path).shape == (2, 3, 4)


def test_a_constant_volume_is_allowed(tmp_path):
    assert read_volume(write(tmp_path / "c.nrrd", np.full((2, 3, 4), 7, np.int16))).array.max() == 7


def test_voxels_that_are_not_finite_become_the_smallest(tmp_path, caplog):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 3
    array[0, 0, 1:] = [np.nan, np.inf, -np.inf]
    with caplog.at_level(logging.WARNING):
        volume = read_volume(write(tmp_path / "nan.nrrd", array))
    assert volume.array[0, 0].tolist() == [-3, -3, -3, -3]
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        f"{tmp_path / 'nan.nrrd'} holds 3 voxels that are NaN or infinite; they are taken as -3"
    ]


def refused(path: Path, *words: str) -> None:
    """Reading raises an InputError of one line that names the file and holds the words."""
    with pytest.raises(InputError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def test_no_finite_voxel(tmp_path):
    refused(write(tmp_path / "nan.nrrd", np.full((2, 3, 4), np.nan, np.float32)), "no finite voxel")


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_four_dimensions_are_refused_with_what_to_do(tmp_path, extension):
    path = tmp_path / f"time{extension}"
    sitk.WriteImage(sitk.JoinSeries([sitk.Image([4, 3, 2], sitk.sitkInt16)] * 5), str(path))
    refused(path, "4 dimensions (4×3×2×5)", "[:, :, :, 0]")


def test_complex_numbers_are_refused(tmp_path):
    path = tmp_path / "k-space.nii"
    sitk.WriteImage(sitk.Image([4, 3, 2], sitk.sitkComplexFloat32), str(path))
    refused(path, "complex", "magnitude")


@pytest.mark.parametrize(("components", "dtype"), [(2, np.uint8), (6, np.float32), (3, np.float32)])
def test_vectors_are_refused(tmp_path, components, dtype):
    path = write(tmp_path / "field.nrrd", np.zeros((2, 3, 4, components), dtype), colour=True)
    refused(path, f"{components} numbers per voxel", "extract one")


def test_sheared_axes_are_refused(tmp_path):
    path = tmp_path / "sheared.nrrd"
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
        "space directions: (1,0,0) (0.3,1,0) (0,0,1)\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path.write_bytes(header.encode() + bytes(8))
    refused(path, "right angles", "resample")


def test_a_sheared_nifti_is_refused(tmp_path):
    import nibabel

    matrix = np.eye(4)
    matrix[0, 1] = 0.4
    path = tmp_path / "sheared.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), matrix), path)
    refused(path, "right angles", "resample")


@pytest.mark.parametrize("extension", LABELMAPS)
def test_empty_files(tmp_path, extension):
    path = tmp_path / f"empty{extension}"
    path.touch()
    refused(path, "empty")


@pytest.mark.parametrize("extension", LABELMAPS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_truncated_files(tmp_path, extension, part):
    noise = np.random.default_rng(0).integers(0, 30000, (8, 16, 16)).astype(np.int16)
    path = write(tmp_path / f"cut{extension}", noise)
    data = path
    if extension in (".nhdr", ".mhd"):  # their voxels are in a file of their own
        data = next(p for p in tmp_path.iterdir() if p != path)
    whole = data.read_bytes()
    data.write_bytes(whole[: int(len(whole) * part)])
    refused(path)


def test_a_header_without_its_data_file(tmp_path):
    path = write(tmp_path / "x.mhd", np.zeros((2, 3, 4), np.uint8))
    (tmp_path / "x.raw").unlink()
    refused(path)


def test_a_damaged_gzip_is_noticed(tmp_path):
    path = write(tmp_path / "x.nii.gz", np.random.default_rng(0).integers(0, 3000, (8, 16, 16)).astype(np.int16))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.write_bytes(damaged)
    refused(path, "damaged")


def test_a_nifti_whose_header_announces_more_than_there_is(tmp_path):
    path = write(tmp_path / "x.nii", np.zeros((4, 4, 4), np.int16))
    header = bytearray(path.read_bytes())
    header[42:44] = (400).to_bytes(2, "little")  # dim[1]
    path.write_bytes(header)
    refused(path, "truncated")
    with gzip.open(tmp_path / "x.nii.gz", "wb") as packed:
        packed.write(header)
    refused(tmp_path / "x.nii.gz", "truncated")


def test_a_pair_of_header_and_voxels(tmp_path):
    array = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    path = write(tmp_path / "x.hdr", array)
    np.testing.assert_array_equal(read_volume(path).array, array)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.img").array, array)
    voxels = (tmp_path / "x.img").read_bytes()
    (tmp_path / "x.img").write_bytes(voxels[:-20])
    refused(path, "truncated")
    (tmp_path / "x.img").unlink()
    refused(path, "keep the two together")
    path.write_bytes(path.read_bytes()[:100])
    (tmp_path / "x.img").write_bytes(voxels)
    refused(path, "header is truncated")


def test_a_volume_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.nrrd"
    path.write_text("NRRD0004\ntype: int16\ndimension: 3\nsizes: 90000 90000 90000\nendian: little\nencoding: raw\n\n")
    refused(path, "GiB")


def test_memory_counts_what_is_free_now(tmp_path, monkeypatch):
    path = write(tmp_path / "x.nrrd", np.zeros((64, 64, 64), np.int16))
    assert read_volume(path).shape == (64, 64, 64)
    monkeypatch.setattr(guards, "available_memory", lambda: 1 << 19)
    refused(path, "GiB")


def test_other_files(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_volume(tmp_path / "absent.nrrd")
    (tmp_path / "notes.txt").write_text("nothing to see")
    refused(tmp_path / "notes.txt", ".nrrd", ".nii.gz", "DICOM")
    (tmp_path / "film.mp4").write_bytes(b"x")
    refused(tmp_path / "film.mp4", "video")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "is empty")
    (tmp_path / "folder" / "notes.txt").write_text("nothing to see")
    refused(tmp_path / "folder", "neither DICOM slices nor pictures")


def test_the_libraries_remarks_do_not_reach_the_user(tmp_path, capfd):
    path = tmp_path / "x.mha"
    path.write_bytes(b"ObjectType = Image\nNDims = 3\nDimSize = 4 4\n")
    refused(path)
    assert capfd.readouterr() == ("", "")


def test_threads_that_read_at_once_leave_standard_error_as_it_was(tmp_path, capfd):
    good = write(tmp_path / "good.mha", np.zeros((4, 5, 6), np.int16))
    (tmp_path / "bad.mha").write_bytes(good.read_bytes()[:300])
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(read_volume, tmp_path / name) for name in ["good.mha", "bad.mha"] * 40]:
            assert isinstance(future.exception(), (InputError, type(None)))
    print("still here", file=sys.stderr)  # noqa: T201 - that it arrives is the test
    assert capfd.readouterr().err == "still here\n"


@round_trip
@given(grid=grids(), axis=st.integers(0, 2), shift=st.sampled_from([0.02, 0.2]))
def test_same_grid_forgives_rounding_and_nothing_more(grid, axis, shift):
    step = grid.lps_from_ijk(np.eye(3)[axis] * shift)
    moved = Volume(grid.array, grid.spacing, tuple(step), grid.direction)
    assert same_grid(grid, moved) == (shift < 0.05)
    assert not same_grid(grid, Volume(np.zeros((7, 7, 7)), grid.spacing, grid.origin, grid.direction))


def test_a_mask_of_another_grid_is_refused(tmp_path):
    image = Volume(np.zeros((3, 4, 5), np.int16))
    write_labelmap(tmp_path / "shifted.nrrd", Volume(image.array, origin=(0, 0, 0.5)), np.ones((3, 4, 5), bool))
    with pytest.raises(InputError, match=r"does not lie on the image's voxels: its first voxel lies at 0 0 0\.5 mm"):
        read_labelmap(tmp_path / "shifted.nrrd", like=image)


@pytest.mark.parametrize("bad", [np.full((2, 3, 4), 0.5), np.full((2, 3, 4), -1), np.full((2, 3, 4), 70000)])
def test_what_is_no_labelmap_is_refused(tmp_path, bad):
    sitk.WriteImage(sitk.GetImageFromArray(bad.astype(np.float64)), str(tmp_path / "x.nrrd"))
    with pytest.raises(InputError, match="labels"):
        read_labelmap(tmp_path / "x.nrrd")
    with pytest.raises(InputError, match="whole numbers"):
        write_labelmap(tmp_path / "y.nrrd", Volume(np.zeros((2, 3, 4))), bad)
    assert not (tmp_path / "y.nrrd").exists()


def test_unknown_output_formats_are_named(tmp_path):
    with pytest.raises(OutputError, match=r"known are \.nrrd"):
        write_labelmap(tmp_path / "x.xyz", Volume(np.zeros((2, 3, 4))), np.ones((2, 3, 4), bool))


@pytest.mark.parametrize("name", ["absent.raw", "slice%03d.raw 1 0 0", "LIST", "x\x01y", ""])
def test_a_metaimage_that_does_not_name_its_data(tmp_path, name):
    """ITK divides by zero on some of these."""
    header = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = "
    (tmp_path / "x.mhd").write_bytes(header.encode() + name.encode() + b"\n")
    refused(tmp_path / "x.mhd", "cannot read")
