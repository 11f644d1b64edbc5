"""biosam2 evaluate: a table, a report and an exit code; what cannot be measured is said in one line."""

import csv
import json

import published_folders
import pytest
from cli_helpers import files_below

NETWORK = ("--model", "seer.safetensors", "--config", "seer.yaml")


@pytest.fixture
def table(folder):
    """Two cases: the ball's upper half and one whose label is not there."""
    (folder / "cases.csv").write_text(
        "name,image,label,target,values,modality,split\n"
        "ball,ball.nrrd,ball-mask.nrrd,upper,2,CT,test\n"
        "gone,ball.nrrd,gone.nrrd,upper,2,CT,bad\n"
    )
    return folder / "cases.csv"


def test_a_run_writes_table_report_and_pictures_and_goes_on(biosam2, folder, table):
    arguments = ("evaluate", "--data", "cases.csv", "-o", "result", "--prompt", "box", "--beyond", "0", *NETWORK)
    ended = biosam2.here(*arguments, "--split", "test", "--rounds", "1")
    assert ended.code == 0, ended.err
    assert "measured: 1/1 cases" in ended.err
    assert "seer, box (volume): dice" in ended.out
    assert {"result/results.csv", "result/results.json", "result/report.html"} <= files_below(folder)
    rows = list(csv.DictReader((folder / "result" / "results.csv").open()))
    assert [(row["case"], row["target"], row["round"]) for row in rows] == [
        ("ball", "upper", "0"),
        ("ball", "upper", "1"),
    ]
    facts = json.loads((folder / "result" / "results.json").read_text())
    assert facts["format"] == "biosam2-evaluation-1"
    assert facts["versions"]["biosam2"]
    assert facts["models"][0]["sha256"]
    assert facts["figures"][0]["dice"][0] == pytest.approx(float(rows[0]["dice"]), abs=1e-6)
    picture = folder / "result" / facts["figures"][0]["picture"]
    assert picture.read_bytes().startswith(b"\x89PNG")

    # With the case that fails: what is known is not measured again, and the rest is written.
    before = picture.stat().st_mtime_ns
    again = biosam2.here(*arguments, "--rounds", "1")
    assert again.code == 2
    assert "1 of 2 could not be measured: gone, seer: case gone: there is no file" in again.last_line
    assert picture.stat().st_mtime_ns == before
    assert "gone.nrrd" in (folder / "result" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "none.csv"), "there is no file"),
        (("--data", "cases.csv", "--only", "x*"), "no case named 'x*'"),
        (("--data", "cases.csv", "--split", "train"), "'bad', 'test'"),
        (("--data", "cases.csv", "--model", "unknown"), "unknown"),
        (("--data", "cases.csv", "--pipeline", "image", "--prompt", "mask", *NETWORK), "fits a case"),
        (("--data", "cases.csv", "--tolerance", "0"), "--tolerance"),
        (("--data", "cases.csv", "--protocol", "biosam2", "--tolerance", "1"), "leave out --tolerance"),
        (("--data", "cases.csv", "--protocol", "medsam2", "--prompt", "click1"), "none of these pipelines and prompts"),
        (("--data", "cases.csv", "-o", "ball.nrrd", "--split", "test", *NETWORK), "ball.nrrd"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(biosam2, folder, table, arguments, said):
    ended = biosam2.here("evaluate", "-o", "result", *arguments)
    assert ended.code == 2, ended.err
    assert said in ended.last_line
    assert not (folder / "result" / "results.csv").exists()


def test_the_protocol_of_a_published_table_from_the_folder_to_the_table(biosam2, folder):
    """AMOS22 as it is distributed: made, checked, measured by BioSAM-2's protocol, and put into a table."""
    published_folders.amos22(folder / "amos22", ids=(1, 507), validation=())
    made = biosam2.here("data", "make", "amos22", "-o", "amos.csv")
    assert made.code == 0, made.err
    assert "modalities: CT 1, MR 1" in made.out
    assert biosam2.here("data", "check", "amos.csv").code == 0
    some = biosam2.here("data", "make", "amos22", "-o", "mr.csv", "--only", "amos_0[56]*")
    assert "modalities: MR 1" in some.out
    none = biosam2.here("data", "make", "amos22", "-o", "none.csv", "--only", "x*")
    assert none.code == 2
    assert "no case named 'x*'" in none.last_line
    arguments = ("evaluate", "--data", "amos.csv", "-o", "result", "--protocol", "biosam2", "--table", *NETWORK)
    ended = biosam2.here(*arguments, "--prompt", "box", "--pipeline", "volume")
    assert ended.code == 0, ended.err
    rows = list(csv.DictReader((folder / "result" / "results.csv").open()))
    assert {(row["dataset"], row["pipeline"], row["prompt"]) for row in rows} == {("amos22", "volume", "box")}
    assert {row["target"]: float(row["nsd_tolerance_mm"]) for row in rows}["duodenum"] == 7
    assert len(rows) == 30
    facts = json.loads((folder / "result" / "results.json").read_text())
    assert facts["protocol"]["name"] == "biosam2"
    assert facts["settings"]["crop"] is None
    assert facts["settings"]["policy"] == "sam2"
    report = (folder / "result" / "report.html").read_text()
    assert "Protocol biosam2" in report
    assert "U-Mamba" in report
    table = list(csv.DictReader((folder / "result" / "table.csv").open()))
    assert [(row["modality"], row["target"]) for row in table if row["target"] == "all targets"] == [
        ("CT", "all targets"),
        ("MR", "all targets"),
    ]
    mean = sum(float(row["dice"]) for row in rows if row["modality"] == "CT") / 15
    assert float(next(row for row in table if row["target"] == "all targets")["dice"]) == pytest.approx(mean, abs=1e-5)
    assert (folder / "result" / "table.tex").read_text().startswith(r"\begin{tabular}")
    assert "| amos22 | CT | liver | volume | box | 1 |" in (folder / "result" / "table.md").read_text()
