"""biosam2 worklist: from a folder to approved work, which is learnt from and measured on as it is."""

import csv
import json

import pytest
from biosam2.cli import worklist as command
from biosam2.datasets import CASE_KINDS
from biosam2.datasets.work_table import STATES
from biosam2.worklist import Worklist
from cli_helpers import files_below

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
    ],
)
def test_what_cannot_be_is_said_in_one_line(biosam2, folder, arguments, said):
    (folder / "list.csv").write_text("image,label\n")
    before = files_below(folder)
    ended = biosam2.here("worklist", *arguments)
    assert ended.code == 2
    assert said in ended.last_line
    assert files_below(folder) == before
