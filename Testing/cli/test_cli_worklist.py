"""biosam2 worklist: from a folder to approved work, which is learnt from and measured on as it is."""

import csv
import json
import shutil
from pathlib import Path

import pydicom
import pytest
from biosam2 import record as records
from biosam2.cli import worklist as command
from biosam2.datasets import CASE_KINDS
from biosam2.datasets.work_table import STATES
from biosam2.io.review import Review
from biosam2.worklist import Template, Worklist
from cli_helpers import files_below
from pydicom.data import get_testdata_file

NETWORK = ("--model", "seer.safetensors", "--config", "seer.yaml", "-q")


def test_the_command_s_words_are_the_library_s():
    assert command.STATES == STATES
    assert command.KINDS == CASE_KINDS


def test_from_a_folder_to_a_model_trained_on_what_was_approved(biosam2, folder):
    made = biosam2("worklist", "make", ".", "-o", "list.csv", "--segment", "ball", "--window", "abdomen")
    assert made.code == 0, made.err
    assert made.out.splitlines()[-2:] == ["wrote list.csv: 6 cases", "wrote list.template.json"]
    worklist = Worklist(folder / "list.csv")
    case = worklist.open("ball")
    with case.saving(seconds=40, interactions=2) as files:
        done = biosam2.here(
            "segment", "ball.nrrd", "-o", files.segmentation, "--segment", "ball", "--box", "14,12,6:34,28,6",
            "--first", "5", "--last", "7", "--record", files.record, *NETWORK,
        )  # fmt: skip
        assert done.code == 0, done.err
    case.close()
    refused = biosam2.here("train", "finetune", "--data", "list.csv", "--split", "approved", "-o", "run")
    assert refused.code == 2
    assert refused.last_line == "biosam2: error: there is no split 'approved'; there are 'in work'"
    assert biosam2.here("worklist", "set", "list.csv", "ball", "--state", "approved").out == "ball: approved\n"
    shown = biosam2.here("worklist", "show", "list.csv").out
    assert "ball: approved; 40 s, 2 interactions; " in shown
    assert "5 new, 0 in work, 0 to be looked at, 1 approved\n" in shown
    assert "approved cases took 40 s and 2 interactions (medians of 1)" in shown
    trained = biosam2.here(
        "train", "finetune", "--data", "list.csv", "--split", "approved", "--from", "seer.safetensors", "--config",
        "seer.yaml", "--steps", "1", "--batch", "1", "--workers", "0", "--device", "cpu", "-o", "run", "-q",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert "1 cases to learn from" in trained.err
    model = next((folder / "run").glob("*.safetensors"))
    measured = biosam2.here(
        "evaluate", "--data", "list.csv", "--split", "approved", "-o", "result", "--model", model, "--prompt", "box",
        "--device", "cpu", "-q",
    )  # fmt: skip
    assert measured.code == 0, measured.err
    rows = list(csv.DictReader((folder / "result" / "results.csv").open()))
    assert {(row["case"], row["target"], row["split"]) for row in rows} == {("ball", "ball", "approved")}


def test_what_was_approved_is_exported_with_who_looked_at_what(biosam2, folder):
    series = get_testdata_file("dicomdirtests/98892001/CT5N/2062", download=False)
    if series is None:
        pytest.skip("this pydicom does not carry its DICOMDIR test files")
    scans = folder / "scans"
    shutil.copytree(Path(series).parent, scans / "ct")
    assert biosam2.here("worklist", "make", "scans", "-o", "list.csv", "--segment", "liver=#00ff00").code == 0
    worklist = Worklist(folder / "list.csv")
    case = worklist.open("ct")
    with case.saving(state="approved") as files:
        done = biosam2.here(
            "segment", "scans/ct", "-o", files.segmentation, "--segment", "liver", "--box", "4,4,2:11,11,2",
            "--record", files.record, *NETWORK,
        )  # fmt: skip
        assert done.code == 0, done.err
        found = records.with_review(records.read(files.record), Review(looked_at={"liver": (2,)}))
        records.write(files.record, found)
    case.close()
    exported = biosam2.here("worklist", "export", "list.csv", "-o", "out")
    assert exported.code == 0, exported.err
    assert exported.out == f"wrote {Path('out', 'ct.dcm')}\nwrote {Path('out', 'ct.json')}\n"
    written = pydicom.dcmread(folder / "out" / "ct.dcm")
    (segment,) = written.SegmentSequence
    assert segment.SegmentLabel == "liver"
    assert segment.SegmentDescription.startswith("A person looked at 1 of the ")
    assert segment.SegmentDescription.endswith(", and approved the segmentation.")
    review = records.review_of(records.read(folder / "out" / "ct.json"))
    assert (review.approved, review.reviewer, review.looked_at) == (True, worklist.case("ct").by, {"liver": (2,)})
    again = biosam2.here("worklist", "export", "list.csv", "-o", "out")
    assert again.code == 2
    assert "exists already" in again.last_line
    assert biosam2.here("worklist", "export", "list.csv", "-o", "other", "--format", "nii.gz").code == 0
    assert files_below(folder / "other") == {"ct.nii.gz", "ct.json"}
    refused = biosam2.here("worklist", "export", "list.csv", "-o", "new", "--state", "to be looked at")
    assert "has no case with a segmentation that is to be looked at" in refused.last_line


def test_a_segmentation_of_3d_slicer_is_exported_as_it_is(biosam2, folder):
    """Colours, what segments are, and tags of the panel's stay."""
    assert biosam2.here("worklist", "make", ".", "-o", "list.csv", "--segment", "ball=#0000ff").code == 0
    case = Worklist(folder / "list.csv").open("ball")
    with case.saving(state="approved") as files:
        done = biosam2.here(
            "segment", "ball.nrrd", "-o", files.segmentation, "--segment", "ball", "--box", "14,12,6:34,28,6",
            "--first", "6", "--last", "6", "--record", files.record, *NETWORK,
        )  # fmt: skip
        assert done.code == 0, done.err
        header, gap, voxels = files.segmentation.read_bytes().partition(b"\n\n")
        (colour,) = [line for line in header.splitlines() if line.startswith(b"Segment0_Color:=")]
        files.segmentation.write_bytes(header.replace(colour, b"Segment0_Color:=0 0 1") + gap + voxels)
    case.close()
    for code, said in ((0, "wrote"), (2, "exists already")):
        exported = biosam2.here("worklist", "export", "list.csv", "-o", "out", "--format", ".seg.nrrd")
        assert exported.code == code, exported.err
        assert said in exported.out + exported.err
    assert (folder / "out" / "ball.seg.nrrd").read_bytes() == case.files.segmentation.read_bytes()
    (output,) = records.read(folder / "out" / "ball.json")["outputs"]
    assert output == {"path": "ball.seg.nrrd", "sha256": records.hash_input(case.files.segmentation)}


def test_made_again_with_a_window_a_list_keeps_its_segments(biosam2, folder):
    targets = ("--segment", "ball=#0000ff", "--segment", "cube=#00ff00")
    assert biosam2.here("worklist", "make", ".", "-o", "list.csv", *targets).code == 0
    first = Worklist(folder / "list.csv").template
    assert biosam2.here("worklist", "make", ".", "-o", "list.csv", "--window", "lung").code == 0
    assert Worklist(folder / "list.csv").template == Template(first.segments, "lung")
    assert biosam2.here("worklist", "make", ".", "-o", "list.csv", "--segment", "ball=#ff0000").code == 0
    second = Worklist(folder / "list.csv").template
    assert [(s.name, s.colour) for s in second.segments] == [("ball", (1, 0, 0)), ("cube", (0, 1, 0))]
    assert second.window == "lung"


def test_a_list_is_shown_as_json_and_by_state(biosam2, folder):
    assert biosam2.here("worklist", "make", ".", "-o", "list.csv").code == 0
    case = Worklist(folder / "list.csv").open("picture")
    shown = json.loads(biosam2.here("worklist", "show", "list.csv", "--json").out)
    assert {entry["name"]: entry["open"] is not None for entry in shown}["picture"]
    assert sum(entry["open"] is not None for entry in shown) == 1
    assert biosam2.here("worklist", "show", "list.csv", "--state", "approved", "--json").out == "[]\n"
    case.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("make", "nothing", "-o", "new.csv"), "there is no file nothing"),
        (("make", "ball.nrrd", "-o", "new.csv"), "neither a folder nor a manifest"),
        (("make", ".", "-o", "new.json"), "a worklist ends in .csv"),
        (("make", ".", "-o", "new.csv", "--segment", "a=blue"), "write #RRGGBB"),
        (("make", ".", "-o", "new.csv", "--segment", "a", "--segment", "a"), "a name of its own"),
        (("show", "nothing.csv"), "there is no file"),
        (("show", "list.csv"), "lacks the columns image and state"),
        (("set", "list.csv", "ball", "--state", "done"), "--state"),
        (("export", "list.csv", "-o", "out", "--format", ".png"), "cannot write a segmentation as .png"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(biosam2, folder, arguments, said):
    (folder / "list.csv").write_text("image,label\n")
    before = files_below(folder)
    ended = biosam2.here("worklist", *arguments)
    assert ended.code == 2
    assert said in ended.last_line
    assert files_below(folder) == before
