"""Which files an input consists of: a hash over them tells any change of a voxel."""

import numpy as np
import pytest
import SimpleITK as sitk
from biosam2.io import files_of
from biosam2.record import hash_input


@pytest.mark.parametrize("name", ["v.mhd", "v.nhdr", "v.hdr", "v.img", "v.nrrd", "v.nii.gz", "v.mha"])
def test_any_voxel_changes_the_hash(tmp_path, name):
    array = np.zeros((4, 6, 8), np.int16)
    hashes = set()
    for value in (0, 7):
        array[2, 3, 4] = value
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
        hashes.add(hash_input(tmp_path / name))
    assert len(hashes) == 2
    assert files_of(tmp_path / name)[0] == tmp_path / name
    assert set(files_of(tmp_path / name)) == set(tmp_path.iterdir())


def test_a_header_may_name_several_files(tmp_path):
    for n in range(1, 4):
        (tmp_path / f"s{n:02}.raw").write_bytes(bytes([n]))
    slices = [tmp_path / f"s{n:02}.raw" for n in range(1, 4)]
    header = tmp_path / "v.nhdr"
    header.write_text("NRRD0004\ndimension: 3\ndata file: s%02d.raw 1 3 1\n")
    assert files_of(header) == [header, *slices]
    header.write_text("NRRD0004\ndimension: 3\ndata file: LIST\ns03.raw\ns01.raw\n")
    assert files_of(header) == [header, slices[0], slices[2]]
    header.write_text("NRRD0004\ndata file: gone.raw\n")
    assert files_of(header) == [header]
    header.write_bytes(b"\xff\x00 noise")
    assert files_of(header) == [header]


def test_a_folder_is_its_files_but_hidden_ones(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.dcm").write_bytes(b"b")
    (tmp_path / "a.dcm").write_bytes(b"a")
    before = hash_input(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert files_of(tmp_path) == [tmp_path / "a.dcm", tmp_path / "in" / "b.dcm"]
    assert hash_input(tmp_path) == before
