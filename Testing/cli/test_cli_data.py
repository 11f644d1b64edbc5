"""biosam2 data: a folder becomes a manifest, misfits are refused by name, finished work is added with one command."""

import json
import shutil

import numpy as np
import pytest
from biosam2.cli import data as command
from biosam2.datasets import CASE_KINDS, load_dataset, open_case
from biosam2.datasets.finding import LAYOUTS
from biosam2.io import read_labelmap, read_volume, write_labelmap
from biosam2.volume import Volume
from cli_helpers import files_below


def test_the_command_s_words_are_the_library_s():
    assert command.LAYOUTS == LAYOUTS
    assert command.KINDS == CASE_KINDS


def test_a_folder_becomes_a_manifest_in_a_process_of_its_own(biosam2, folder):
    ended = biosam2("data", "make", ".", "-o", "all.csv", "--modality", "CT", "--split", "val")
    assert ended.code == 0, ended.err
    assert "ball: 3D, CT, val, 48×40×12 voxels of 0.8 × 0.9 × 3 mm; label 1" in ended.out
    assert "1 of 1 cases can be used" in ended.out
    (case,) = load_dataset(folder / "all.csv", split="val")
    assert case.image == folder / "ball.nrrd"
    again = biosam2.here("data", "check", "all.csv")
    assert again.code == 0
    assert again.out == ended.out.partition("wrote")[0]


@pytest.mark.parametrize(("output", "said"), [("all.txt", "ends in .csv or .json"), ("no/all.csv", "no folder no")])
def test_where_nothing_can_be_written_is_said_before_any_image_is_opened(biosam2, folder, output, said):
    ended = biosam2.here("data", "make", ".", "-o", output)
    assert ended.code == 2
    assert said in ended.last_line
    assert "ball" not in ended.out


def test_pieces_become_targets(biosam2, folder):
    volume = read_volume(folder / "ball.nrrd")
    labels = read_labelmap(folder / "ball-mask.nrrd").array.copy()
    labels[0, 0, :3] = 1
    write_labelmap(folder / "ball-mask.nrrd", volume, labels)
    ended = biosam2.here("data", "make", ".", "-o", "pieces.csv", "--target", "ball=1", "--pieces", "5")
    assert ended.code == 0, ended.err
    (case,) = load_dataset(folder / "pieces.csv")
    masks = open_case(case).masks
    assert list(masks) == ["ball 1", "ball 2"]
    assert masks["ball 2"].sum() == 3
    assert masks["ball 1"].sum() == (labels == 1).sum() - 3


def test_misfits_are_refused_by_name_or_left_out(biosam2, folder):
    volume = read_volume(folder / "ball.nrrd")
    elsewhere = Volume(volume.array, volume.spacing, (9.0, 9.0, 9.0), volume.direction)
    shutil.copy(folder / "ball.nrrd", folder / "wrong.nrrd")
    write_labelmap(folder / "wrong-mask.nrrd", elsewhere, (volume.array > 150).astype(np.uint8))
    before = files_below(folder)
    ended = biosam2.here("data", "make", ".", "-o", "all.csv")
    assert ended.code == 2
    assert "1 of 2 cases cannot be used: case wrong:" in ended.last_line
    assert files_below(folder) == before
    ended = biosam2.here("data", "make", ".", "-o", "all.csv", "--skip-bad")
    assert ended.code == 0
    assert "left out: case wrong" in ended.err
    assert [case.name for case in load_dataset(folder / "all.csv")] == ["ball"]


def test_what_segment_wrote_is_added_by_its_record(biosam2, folder):
    prompts = ["--segment", "left", "--box", "14,12,6:34,28,6", "--segment", "right", "--mask", "ball-mask.nrrd=1@6"]
    for name in ("out.seg.nrrd", "out.nii.gz"):
        ended = biosam2.here(
            "segment", "ball.nrrd", "-o", name, *prompts, "--first", "5", "--last", "7", "--model", "seer.safetensors",
            "--config", "seer.yaml", "--record", "run.json", "-q",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        added = biosam2.here("data", "add", "done.json", "run.json", "--name", name, "--split", "train")
        assert added.code == 0, added.err
    named, numbered = (open_case(case) for case in load_dataset(folder / "done.json"))
    assert list(named.masks) == list(numbered.masks) == ["left", "right"]
    labels = read_labelmap(folder / "out.nii.gz").array
    np.testing.assert_array_equal(numbered.masks["right"], labels == 2)
    np.testing.assert_array_equal(named.masks["right"], numbered.masks["right"])
    again = biosam2.here("data", "add", "done.json", "run.json", "--name", "out.nii.gz")
    assert again.code == 2
    assert "two cases are called out.nii.gz" in again.last_line


def test_what_the_panel_exported_is_added_by_its_record(biosam2, folder):
    """Its labels are numbered as its segments stand, which a colour table beside them says."""
    ended = biosam2.here(
        "segment", "ball.nrrd", "-o", "out.nrrd", "--segment", "left lobe", "--box", "14,12,6:34,28,6", "--segment",
        "right", "--mask", "ball-mask.nrrd=1@6", "--first", "6", "--last", "6", "--model", "seer.safetensors",
        "--config", "seer.yaml", "--record", "run.json", "-q",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (folder / "out.ctbl").write_text("# values\n0 background 0 0 0 0\n1 right 1 2 3 255\n2 left_lobe 1 2 3 255\n")
    record = json.loads((folder / "run.json").read_text())
    record["outputs"].append({"path": "out.ctbl", "sha256": ""})
    (folder / "run.json").write_text(json.dumps(record))
    assert biosam2.here("data", "add", "m.json", "run.json").code == 0
    (case,) = load_dataset(folder / "m.json")
    assert [(target.name, target.values) for target in case.targets] == [("right", (1,)), ("left lobe", (2,))]
    record["input"]["path"] = ""
    (folder / "run.json").write_text(json.dumps(record))
    ended = biosam2.here("data", "add", "m.json", "run.json")
    assert ended.code == 2
    assert "which file the image is" in ended.last_line


def test_what_image_and_video_wrote_is_added_by_its_record(biosam2, folder):
    network = ("--model", "seer.safetensors", "--config", "seer.yaml", "--record", "run.json", "-q")
    for pipeline, source, output, box in (
        ("image", "picture.png", "mask.png", "14,12:34,28"),
        ("video", "frames", "masks", "14,12,0:34,28,0"),
    ):
        ended = biosam2.here(pipeline, source, "-o", output, "--segment", "thing", "--box", box, *network)
        assert ended.code == 0, ended.err
        added = biosam2.here("data", "add", "done.csv", "run.json")
        assert added.code == 0, added.err
    image, video = (open_case(case) for case in load_dataset(folder / "done.csv"))
    assert (image.case.kind, video.case.kind) == ("2D", "video")
    assert image.masks["thing"].any()
    assert video.masks["thing"].shape == (4, 40, 48)


def test_an_image_and_its_corrected_label_are_added(biosam2, folder):
    ended = biosam2.here(
        "data", "add", "m.csv", "ball.nrrd", "ball-mask.nrrd", "--target", "upper=2", "--modality", "CT"
    )
    assert ended.code == 0, ended.err
    assert "upper" in ended.out
    (case,) = load_dataset(folder / "m.csv")
    np.testing.assert_array_equal(open_case(case).masks["upper"], read_labelmap(folder / "ball-mask.nrrd").array == 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("m.csv", "ball.nrrd", "nothing.nrrd"), "there is no file"),
        (("m.csv", "ball.nrrd", "ball-mask.nrrd", "--target", "x=7"), "nothing is marked"),
        (("m.csv", "ball.nrrd", "picture.png"), "does not lie on the image"),
        (("m.txt", "ball.nrrd", "ball-mask.nrrd"), "ends in .csv or .json"),
        (("m.csv", "ball-mask.nrrd"), "record"),
        (("m.csv", "a", "b", "c"), "an image and its label"),
        (("m.csv", "ball.nrrd", "ball-mask.nrrd", "--target", "=1"), "--target"),
    ],
)
def test_what_cannot_be_added_is_said_in_one_line(biosam2, folder, arguments, said):
    before = files_below(folder)
    ended = biosam2.here("data", "add", *arguments)
    assert ended.code == 2
    assert said in ended.last_line
    assert files_below(folder) == before
