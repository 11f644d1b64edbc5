"""The table that puts models side by side: rows, intervals, the paired test, and its three formats."""

import csv

import numpy as np
import pytest
from biosam2.evaluation import comparison, summary
from biosam2.evaluation.tasks import Metrics

NAMES = ("dice", "nsd")


def metric(case, target, model, dice, *, prompt="box", dataset="amos22", modality="CT", pipeline="volume"):
    return Metrics(
        case=case,
        target=target,
        modality=modality,
        split="test",
        kind="3D",
        model=model,
        pipeline=pipeline,
        prompt=prompt,
        dice=(dice, 0.9),
        iou=(dice / 2, 0.9),
        nsd=(dice - 0.1, 0.9),
        hd95=(None, 1.0),
        clicks_to_90=None,
        seconds=1.0,
        dataset=dataset,
    )


@pytest.fixture
def metrics():
    rng = np.random.default_rng(1)
    found = []
    for model, gain in (("sam2.1-small", 0.0), ("tuned_1", 0.2)):
        for n in range(8):
            targets = ("liver", "spleen") if n else ("liver",)
            found += [metric(f"amos_{n:04}", one, model, 0.5 + gain + 0.05 * rng.random()) for one in targets]
        found.append(metric("busi", "lesion", model, 0.6, dataset="busi", modality="US", pipeline="image"))
    return found


def test_rows_are_targets_and_their_mean(metrics):
    lines = comparison.compare(metrics, NAMES)
    assert [(line.dataset, line.target, line.cases) for line in lines] == [
        ("amos22", "liver", 8),
        ("amos22", "spleen", 7),
        ("amos22", comparison.ALL, 8),
        ("busi", "lesion", 1),
    ]
    liver = [one for one in metrics if one.target == "liver" and one.model == "tuned_1"]
    cell = lines[0].cells["tuned_1"]
    assert cell.means["dice"] == summary.mean_of([(one.case, one.dice[0]) for one in liver])
    assert lines[0].cells["sam2.1-small"].p is None
    assert cell.p == pytest.approx(2 / 2**8)  # of all 256 ways to turn the signs, two are as far from 0
    assert lines[3].cells["tuned_1"].p is None  # one case


def test_the_paired_test_counts_cases_and_not_targets():
    values = {(f"case {n}", f"target {m}"): 0.1 * n for n in range(3) for m in range(20)}
    better = {key: value + 0.2 for key, value in values.items()}
    assert comparison.paired_p(values, better) == pytest.approx(2 / 2**3)
    assert comparison.paired_p(values, values) == 1.0
    alone = {key: value for key, value in better.items() if key[0] == "case 0"}
    assert comparison.paired_p(values, alone) is None
    worse = {key: value - 0.2 for key, value in values.items()}
    assert comparison.paired_p(values, worse) == comparison.paired_p(values, better)


def test_a_model_that_was_not_measured_everywhere(metrics):
    fewer = [one for one in metrics if one.model == "sam2.1-small" or one.dataset == "amos22"]
    text = comparison.markdown(comparison.compare(fewer, NAMES), NAMES)
    assert text.splitlines()[-1] == ("| busi | US | lesion | image | box | 1 | 0.600 | 0.500 | – | – | – |")


def test_the_three_formats_say_the_same(metrics):
    lines = comparison.compare(metrics, NAMES)
    rows = list(csv.DictReader(comparison.table_csv(lines, NAMES).splitlines()))
    assert len(rows) == 8
    first = rows[1]
    mean = lines[0].cells["tuned_1"].means["dice"]
    assert (first["model"], float(first["dice"]), first["dice_count"]) == ("tuned_1", round(mean.mean, 6), "8")
    assert float(first["p"]) == pytest.approx(2 / 2**8, abs=1e-6)
    shown = f"{mean.mean:.3f} ({mean.low:.3f}"
    text = comparison.markdown(lines, NAMES)
    assert f"{shown} to {mean.high:.3f})" in text
    assert {line.count(" | ") for line in text.splitlines()} == {10}
    tex = comparison.latex(lines, NAMES)
    assert f"{shown}--{mean.high:.3f})" in tex
    assert r"tuned\_1: Dice" in tex
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in body} == {10}
    assert tex.startswith(r"\begin{tabular}{lllllrrrrrr}")


def test_names_that_formats_would_read(metrics):
    odd = [metric("a", "50 % | {x} & co_1 <y>", "m", 0.5), metric("b", "50 % | {x} & co_1 <y>", "m", 0.6)]
    lines = comparison.compare(odd, ("dice",))
    assert r"50 % \| {x} & co_1 <y>" in comparison.markdown(lines, ("dice",))
    assert r"50 \% | \{x\} \& co\_1 $<$y>" in comparison.latex(lines, ("dice",))
    # As a checkpoint's path on Windows, by which models go that have the same name.
    path = comparison.compare([metric("a", "liver", r"C:\my_runs\50%", 0.5)], ("dice",))
    assert r"C:\textbackslash{}my\_runs\textbackslash{}50\%: Dice" in comparison.latex(path, ("dice",))
