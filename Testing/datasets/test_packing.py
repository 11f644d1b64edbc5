"""A packed dataset: the same cases in one small file, images nearly and labels exactly as the network sees them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from biosam2.datasets import Case, Target, load_dataset, open_case, save_dataset
from biosam2.datasets.packing import pack, unpack
from biosam2.errors import InputError
from biosam2.io import itk, write_labelmap
from biosam2.volume import Volume
from PIL import Image


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[Case]:
    """A volume with overlapping targets, a gray and a colour picture, a video; of two sources."""
    folder = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(3)
    k, j, i = np.indices((6, 60, 80))
    ball = ((k - 3) / 2) ** 2 + ((j - 30) / 14) ** 2 + ((i - 40) / 20) ** 2 < 1
    half = ball & (i > 40)
    voxels = (400 * ball + rng.normal(size=ball.shape) * 30 - 100).astype(np.int16)
    grid = Volume(voxels, (0.5, 0.75, 3.0), (10.0, -20.0, 5.0), np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1.0]]))
    itk.write(folder / "volume.nrrd", grid)
    write_labelmap(folder / "ball.nrrd", grid, ball.astype(np.uint8))
    write_labelmap(folder / "half.nrrd", grid, half.astype(np.uint8))
    found = [
        Case(
            "one/volume",
            folder / "volume.nrrd",
            (Target("ball", (folder / "ball.nrrd",)), Target("half", (folder / "half.nrrd",))),
            "CT",
            "train",
        )
    ]
    rows, columns = np.indices((120, 90))
    for number in range(3):
        disc = np.hypot(rows - 50 - 5 * number, columns - 45) < 25
        picture = np.where(disc, 190, 60) + 20 * np.sin(columns / 9)
        if number == 2:
            picture = np.stack([picture, 0.6 * picture, 255 - picture], axis=-1)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
        Image.fromarray((disc * 255).astype(np.uint8)).save(folder / f"{number}_mask.png")
        target = Target("disc", (folder / f"{number}_mask.png",))
        found.append(Case(f"two/{number}", folder / f"{number}.png", (target,), "US", "train", "2D"))
    for part in ("frames", "masks"):
        (folder / part).mkdir()
    for frame in range(4):
        disc = np.hypot(rows - 40 - 4 * frame, columns - 45) < 20
        Image.fromarray(np.where(disc, 200, 50).astype(np.uint8)).save(folder / "frames" / f"{frame}.png")
        Image.fromarray((disc * 7).astype(np.uint8)).save(folder / "masks" / f"{frame}.png")
    target = Target("disc", (folder / "masks",), (7,))
    found.append(Case("two/video", folder / "frames", (target,), "US", "train", "video"))
    return found


def test_small_images_come_back_with_their_geometry_and_exact_labels(cases, tmp_path):
    packed = pack(tmp_path / "cases.zip", cases)
    again = load_dataset(unpack(tmp_path / "cases.zip", tmp_path / "there"))
    assert [case.name for case in again] == [case.name for case in cases]
    assert packed.left_out == ()
    assert packed.error < 0.02
    for case, other in zip(cases, again, strict=True):
        assert (other.kind, other.modality, other.split) == (case.kind, case.modality, case.split)
        one, two = open_case(case), open_case(other)
        assert two.volume.array.dtype == np.uint8
        assert list(one.masks) == list(two.masks)
        for name, mask in one.masks.items():
            assert np.array_equal(mask, two.masks[name]), (case.name, name)
        if case.kind == "3D":
            assert np.allclose(one.volume.ijk_to_lps, two.volume.ijk_to_lps)
        seen = two.volume.array.astype(float)
        assert np.corrcoef(one.volume.array.ravel(), seen.ravel())[0, 1] > 0.98


def test_large_slices_are_reduced_where_they_lie(cases, tmp_path):
    pack(tmp_path / "cases.zip", cases, size=40)
    again = load_dataset(unpack(tmp_path / "cases.zip", tmp_path / "there"))
    one, two = open_case(cases[0]), open_case(again[0])
    assert two.volume.shape == (6, 30, 40)
    # The middle of each mask is where it was, to a fraction of a voxel.
    for name, mask in one.masks.items():
        middles = [
            sample.volume.lps_from_ijk(np.argwhere(m).mean(axis=0)[::-1])
            for sample, m in ((one, mask), (two, two.masks[name]))
        ]
        assert np.allclose(*middles, atol=0.5), name
    assert open_case(again[3]).volume.array.shape == (1, 40, 30, 3)


def test_the_same_cases_give_the_same_bytes(cases, tmp_path):
    for name in ("a.zip", "b.zip"):
        pack(tmp_path / name, cases)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_has_no_room_is_left_out_by_turns_over_the_sources(cases, tmp_path):
    whole = pack(tmp_path / "whole.zip", cases)
    most = 0.9 * whole.megabytes
    packed = pack(tmp_path / "some.zip", cases, most=most)
    assert (tmp_path / "some.zip").stat().st_size <= most * 2**20
    assert packed.left_out
    assert {case.name.partition("/")[0] for case in packed.cases} == {"one", "two"}
    assert {case.name for case in cases} == {case.name for case in packed.cases} | set(packed.left_out)
    with pytest.raises(InputError, match="no room for a single case"):
        pack(tmp_path / "none.zip", cases, most=0.001)


def test_other_files_are_refused_in_a_line(cases, tmp_path):
    with pytest.raises(InputError, match=r"a \.zip file"):
        pack(tmp_path / "cases.tar", cases)
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(InputError, match=r"torn\.zip is damaged"):
        unpack(tmp_path / "torn.zip", tmp_path / "there")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("image.png", b"")
    with pytest.raises(InputError, match=r"holds no cases\.json"):
        unpack(tmp_path / "other.zip", tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_the_command_packs_a_split(cases, tmp_path):
    from biosam2.cli.app import cli
    from click.testing import CliRunner

    save_dataset(tmp_path / "cases.csv", cases)
    target = str(tmp_path / "cases.zip")
    ran = CliRunner().invoke(cli, ["data", "pack", str(tmp_path / "cases.csv"), "-o", target, "--split", "train"])
    assert ran.exit_code == 0, ran.output
    assert "5 cases" in ran.output
    refused = CliRunner().invoke(cli, ["data", "pack", str(tmp_path / "cases.csv"), "-o", target, "--split", "val"])
    assert isinstance(refused.exception, InputError)
