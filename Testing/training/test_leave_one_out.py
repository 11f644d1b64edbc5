"""One case left out in turn: a fold runs end to end, the table says what got better and what got worse."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

pytest.importorskip("monai")
pytest.importorskip("torchio")
pytest.importorskip("accelerate")

from biosam2.datasets import load_dataset
from biosam2.errors import DependencyError, InputError
from biosam2.evaluation.leave_one_out import FoldMetrics, leave_one_out, main, table
from biosam2.evaluation.runs import EvaluationSettings
from biosam2.training.finetune import FineTuneSettings

BRIEF = FineTuneSettings(steps=1, batch=1, lengths=(1,), targets=1, device="cpu", workers=0)


def test_a_fold_is_fine_tuned_on_the_others_and_measured_on_the_one(tiny_checkpoint, dataset, tmp_path):
    said: list[str] = []
    metrics = leave_one_out(
        tmp_path,
        load_dataset(dataset),
        str(tiny_checkpoint),
        BRIEF,
        only="volume-2",
        prompts=("click1",),
        engine=EvaluationSettings(rounds=1, beyond=0),
        report=said.append,
    )
    assert said[1:] == ["volume-2: measuring", f"wrote {tmp_path / 'leave-one-out.md'}"]
    assert {(f.case, f.target, f.prompt) for f in metrics} == {
        ("volume-2", "ball", "click1"),
        ("volume-2", "egg", "click1"),
    }
    assert said[0] == "volume-2: fine-tuning on volume-0, volume-1, picture"
    card = (tmp_path / "volume-2" / "run" / "tuned.md").read_text(encoding="utf-8")
    assert "volume-1" in card
    assert "volume-2" not in card
    assert "volume-2" in (tmp_path / "leave-one-out.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "leave-one-out.json").read_text())["settings"]["steps"] == 1
    assert (tmp_path / "volume-2" / "evaluation" / "report.html").is_file()


def test_what_got_worse_is_named():
    metrics = [
        FoldMetrics("a", "lesion", "box", (0.5, 0.7), (0.5, 0.6), ((0.5, 0.6), (0.7, 0.65))),
        FoldMetrics("a", "lesion", "click1", (0.4, 0.1), (0.4, 0.2), ((0.4, 0.5), (0.1, 0.2))),
    ]
    text = table(metrics)
    assert "| a | lesion | box | 0.500 | 0.700 | 0.500 | 0.600 |" in text
    assert "- the fold a: mean Dice 0.450 before, 0.400 after" in text
    assert "- the prompt click1: mean Dice 0.400 before, 0.100 after" in text
    assert "- the prompt box" not in text
    assert "- correction 1 of a, lesion, box: Dice 0.700 to 0.650" in text
    assert "54.9 and 74.4" in text
    assert "No fold" in table([replace(metrics[0], rounds=((0.5,), (0.7,)))])


def test_what_measuring_needs_is_told_before_fine_tuning(tiny_checkpoint, dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said: list[str] = []
    with pytest.raises(DependencyError, match=r"not installed \(matplotlib\): pip install 'biosam2\[evaluate\]'"):
        leave_one_out(tmp_path, load_dataset(dataset), str(tiny_checkpoint), BRIEF, report=said.append)
    assert said == []


def test_one_case_is_not_enough(dataset, tmp_path):
    with pytest.raises(InputError, match="two images or more"):
        leave_one_out(tmp_path, load_dataset(dataset)[:1], "nano", BRIEF, report=print)


@pytest.mark.soak
def test_the_shared_cases(shared_data, project_root):
    """`nano`, fine-tuned by BioSAM-2's recipe on all shared cases but one, in turn; hours. The table stays in runs/."""
    manifest = project_root / "BioSAM2Slicer" / "biosam2" / "evaluation" / "shared-cases.csv"
    out = project_root / "runs" / "leave-one-out"
    arguments = ["--data", manifest, "--root", shared_data, "--split", "test", "--steps", 100, "--batch", 4, "-o", out]
    assert main([str(argument) for argument in arguments]) == 0
    text = (out / "leave-one-out.md").read_text(encoding="utf-8")
    sys.stdout.write(text)
    assert text.count("**mean**") == 4
