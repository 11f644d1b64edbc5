"""Connected pieces of a target as targets: lesions one by one."""

import numpy as np
import pytest
from biosam2 import Volume
from biosam2.datasets import Case, Target, load_dataset, open_case, save_dataset
from biosam2.datasets.pieces import in_pieces
from biosam2.errors import InputError
from biosam2.io import itk, write_labelmap
from biosam2.masks import numbered_pieces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage


@pytest.fixture
def case(tmp_path):
    """Value 1 in three pieces, of which one touches itself across an edge only; value 2 in one; value 3 nowhere."""
    labels = np.zeros((4, 12, 14), np.uint8)
    labels[0:2, 1:5, 1:5] = 1  # 32 voxels
    labels[2, 5, 5] = 1  # the corner of that
    labels[3, 8:10, 1:4] = 1  # 6 voxels
    labels[0, 11, 13] = 1
    labels[1:3, 7:9, 9:12] = 2
    volume = Volume(labels.astype(np.int16), (1.0, 1.0, 3.0))
    itk.write(tmp_path / "image.nrrd", volume)
    write_labelmap(tmp_path / "label.nrrd", volume, labels)
    named = {"lesion": (1,), "organ": (2,), "nothing": (3,)}
    targets = tuple(Target(name, (tmp_path / "label.nrrd",), values) for name, values in named.items())
    return Case("one", tmp_path / "image.nrrd", targets, "CT")


def test_each_piece_is_a_target_the_largest_first(case, tmp_path):
    taken = in_pieces(case, 9)
    assert [target.name for target in taken.targets] == ["lesion 1", "lesion 2", "lesion 3", "organ 1", "nothing"]
    masks = open_case(taken).masks
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "lesion 1": 33,
        "lesion 2": 6,
        "lesion 3": 1,
        "organ 1": 12,
        "nothing": 0,
    }
    whole = open_case(case).masks
    np.testing.assert_array_equal(masks["lesion 1"] | masks["lesion 2"] | masks["lesion 3"], whole["lesion"])
    for ending in (".csv", ".json"):
        save_dataset(tmp_path / f"m{ending}", [taken])
        assert load_dataset(tmp_path / f"m{ending}") == [taken]


def test_small_pieces_are_left_out(case):
    assert [target.name for target in in_pieces(case, 1).targets] == ["lesion 1", "organ 1", "nothing"]


def test_a_case_that_cannot_be_read_stays_for_the_check_to_name(case):
    case.image.write_bytes(b"")
    assert in_pieces(case, 3) == case


def test_a_piece_that_is_no_number(case, tmp_path):
    save_dataset(tmp_path / "m.csv", [in_pieces(case, 1)])
    text = (tmp_path / "m.csv").read_text()
    (tmp_path / "m.csv").write_text(text.replace("CT,,3D,,,,1", "CT,,3D,,,,0"))
    with pytest.raises(InputError, match="piece"):
        load_dataset(tmp_path / "m.csv")


@given(arrays(bool, st.tuples(*(st.integers(1, 6),) * 3)))
def test_pieces_are_numbered_by_size(mask):
    numbers = numbered_pieces(mask)
    np.testing.assert_array_equal(numbers > 0, mask)
    sizes = np.bincount(numbers.ravel())[1:]
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    for n in range(1, len(sizes) + 1):
        assert ndimage.label(numbers == n, np.ones((3,) * 3))[1] == 1
        around = ndimage.binary_dilation(numbers == n, np.ones((3,) * 3))
        assert not (around & mask & (numbers != n)).any()
