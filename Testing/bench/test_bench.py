"""The bench works at its smallest size; its figures are not checked here."""

import itertools
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from biosam2.errors import InputError
from biosam2.masks import dice
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
SMALL = ("--network", "nano")


@pytest.fixture
def bench(monkeypatch):
    """Runs the command in this process, where torch is loaded already; gives its standard output."""
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.__main__ import main

    def run(*arguments):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    return run


def test_both_sides_are_timed(bench, tmp_path):
    out = tmp_path / "figures.json"
    size = ("--slices", "3", "--plane", "16", "--repetitions", "1", "--json", str(out))
    table = bench("time", *SMALL, *size, "--speed", "", "--speed", "stop=1,-encoder", "first", "click", "lesion")
    assert "| phase | sam2 | exact | stop=1,-encoder |" in table
    figures = json.loads(out.read_text(encoding="utf-8"))
    timings = figures["details"]["timings"]
    assert {t["phase"] for t in timings} == {"first", "click", "lesion"}
    assert all(len(t["seconds"]) == 1 for t in timings)
    assert figures["values"]["first, exact"] == timings[1]["ratio"]
    assert figures["settings"]["speeds"] == ["exact", "stop=1,-encoder"]
    assert figures["machine"]["cores"]


def test_parts_are_counted(bench, tmp_path):
    out = tmp_path / "figures.json"
    bench("count", *SMALL, "--json", str(out))
    parts = {p["name"]: p for p in json.loads(out.read_text(encoding="utf-8"))["details"]["parts"]}
    assert all(part["gmac"] > 0 and part["mib"] > 0 for part in parts.values())
    assert parts["memory attention, full bank, biosam2"]["gmac"] < parts["memory attention, full bank, sam2"]["gmac"]
    # Where windows divide the image there is no padding to leave out.
    assert parts["image encoder, biosam2"]["gmac"] == parts["image encoder, sam2"]["gmac"]


def test_memory_is_measured():
    """As the README has it, in a process of its own."""
    command = [sys.executable, "-m", "bench", "memory", *SMALL, "--slices", "3", "--plane", "16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 3 |" in done.stdout


def test_banks_are_measured(bench, tmp_path):
    folder, out = ROOT.parent / "shared" / "data", tmp_path / "figures.json"
    if not folder.is_dir():
        pytest.skip("needs the shared cases beside the project")
    only = (str(folder), "--only", "*phantom: label 9", "--beyond", "0")
    table = bench("banks", *only)
    assert "| box | dissimilar, 16 across images |" in table
    assert "| box | twopass |" in table
    # A collection of which nothing is asked, and what is written names no path.
    few = ("--policy", "path", "--policy", "nearest", "--prompt", "mask", "--corrections", "2", "--json", str(out))
    collection = tmp_path / "collection"
    collection.mkdir()
    (collection / "cases.csv").write_text("image,label,modality,target_names,dimension,source,subject,licence\n")
    assert bench("banks", *only, "--collection", str(collection), *few).count("| mask |") == 2
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["settings"]["collection"] == "collection"
    one, other = written["details"]["banks"]
    assert len(one["dice"]) == len(one["beyond"]) == 3
    # One prompted slice: nothing differs yet.
    assert one["dice"][0] == other["dice"][0] > 0.5


def test_doubts_and_sides_are_measured(bench, tmp_path):
    folder, out = ROOT.parent / "shared" / "data", tmp_path / "figures.json"
    if not folder.is_dir():
        pytest.skip("needs the shared cases beside the project")
    asked = (str(folder), "--only", "*phantom: label 9", "--json", str(out))
    table = bench("doubt", *asked, "--prompt", "box", "--corrections", "0", "--costly")
    assert "| score, return |" in table
    (one,) = json.loads(out.read_text(encoding="utf-8"))["details"]["doubts"]
    assert min(one["correlation"].values()) >= -1
    # Whoever knows the truth names the worst slice, and what is drawn as it is can only be better.
    assert one["lowest"] == min(one["named"].values()) == one["named"]["worst"]
    assert all(a <= b for drawn in one["drawn"].values() for a, b in itertools.pairwise(drawn))
    assert "| worst |" in bench("doubt", *asked, "--looks", "1")
    table = bench("keyframes", *asked)
    between = json.loads(out.read_text(encoding="utf-8"))["details"]["between"]
    assert f"| *targets* | {' | '.join(['1'] * len(between))} |" in table
    assert all(0 < one["dice"]["fused, apart"] <= 1 for one in between)


def test_agreement_is_measured(bench):
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared cases beside the project")
    assert "| stop=3 | correction |" in bench("agree", str(folder), "--cases", "1", "--speed", "stop=3")


def test_strokes_are_measured(bench):
    folder = ROOT.parent / "shared" / "training-data"
    if not folder.is_dir():
        pytest.skip("needs the labelled images beside the project")
    said = bench("strokes", str(folder), "--cases", "1")
    assert "scribble, 3 inside" in said
    assert "means of 1 targets" in said


def test_the_worker_is_measured_beside_this_process(bench, tmp_path):
    out = tmp_path / "figures.json"
    table = bench("worker", "--rounds", "1", "--json", str(out))
    assert "| propagation |" in table
    click, propagation = json.loads(out.read_text(encoding="utf-8"))["details"]["costs"]
    assert (len(click["here"]), len(click["there"])) == (10, 10)
    assert (len(propagation["here"]), len(propagation["there"])) == (1, 1)
    assert propagation["there_cpu"] > 0


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import results

    return results


def run_of(results, value, **settings):
    machine = {"cpu": "AMD EPYC (TM) Processor @ 2.5GHz", "capability": "AVX2", "cores": 2}
    return results.Run("time", settings, "times as fast", {"first, exact": value}, machine, {"all": [value]})


def test_a_run_is_kept_for_its_version_and_machine(results, tmp_path):
    folder = tmp_path / "results"
    results.record(run_of(results, 1.0, slices=3), folder)
    results.record(run_of(results, 1.5, slices=9), folder)
    path = results.record(run_of(results, 2.0, slices=3), folder)
    assert path.name == f"{results.biosam2.__version__}-amd-epyc-avx2-2-cores.json"
    assert list(folder.iterdir()) == [path]
    assert [r["values"]["first, exact"] for r in json.loads(path.read_text())["runs"]] == [1.5, 2.0]


def test_the_history_has_a_column_for_each_version(results, bench, monkeypatch, tmp_path):
    for version, value in (("0.10.0", 3.0), ("0.9.1", 2.0)):
        monkeypatch.setattr(results.biosam2, "__version__", version)
        results.record(run_of(results, value, slices=3), tmp_path)
    shown = bench("history", "--folder", str(tmp_path), "-o", str(tmp_path / "history.png"))
    assert "amd-epyc-avx2-2-cores: time slices=3 (times as fast)" in shown
    assert "| | 0.9.1 | 0.10.0 |" in shown
    assert "| first, exact | 2 | 3 |" in shown
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_result_is_named(results, tmp_path):
    (tmp_path / "0.1.0-a.json").write_text("{")
    with pytest.raises(InputError, match=r"0\.1\.0-a\.json is damaged"):
        results.history(tmp_path)


def test_the_results_that_are_kept_can_be_read(results):
    assert results.history()


def test_training_is_timed_on_whatever_device_by_one_script(tmp_path):
    options = ("cpu", "0", "--network", "nano", "--size", "64", "decoder", "nano-real")
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        ["sh", "bench/gpu.sh", str(tmp_path / "figures"), *options], cwd=ROOT, env=environment, check=True, timeout=300
    )
    figures = json.loads((tmp_path / "figures" / "training.json").read_text(encoding="utf-8"))
    assert figures["unit"] == "images per second"
    stages = figures["details"]["stages"]
    assert [(s["recipe"], s["stage"]) for s in stages] == [("decoder", 1), *(("nano-real", n) for n in range(1, 7))]
    assert all(s["images_per_second"] > 0 for s in stages)
    assert {s["size"] for s in stages} == {64}


def test_slicers_own_tools_run_apart(bench):
    """Grow from seeds and Fill between slices, from seeds and outlines of a ball whose volume is known."""
    if find_spec("slicer_core") is None:
        pytest.skip("3D Slicer's libraries are not installed (pip: slicer-core)")
    from bench import slicer_tools

    spacing = (2.0, 1.0, 1.0)
    z, y, x = np.ogrid[:20, :40, :40]
    ball = (2 * (z - 10)) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 <= 15**2
    inside, outside = np.zeros_like(ball), np.zeros_like(ball)
    inside[10, 18:22, 18:22] = True
    outside[[0, -1]] = True
    outside[10] = (y[0] - 20) ** 2 + (x[0] - 20) ** 2 > 17**2
    noise = np.random.default_rng(0).normal(0, 0.1, ball.shape)
    image = (ball + noise).astype(np.float32)
    assert dice(slicer_tools.grow_from_seeds(image, spacing, inside, outside), ball) > 0.99
    drawn = np.zeros_like(ball)
    drawn[[4, 10, 16]] = ball[[4, 10, 16]]
    filled = slicer_tools.fill_between_slices(drawn, spacing)
    assert np.flatnonzero(filled.any(axis=(1, 2))).tolist() == list(range(4, 17))
    assert np.array_equal(filled[drawn.any(axis=(1, 2))], drawn[drawn.any(axis=(1, 2))])
    assert dice(filled, ball) > 0.9
