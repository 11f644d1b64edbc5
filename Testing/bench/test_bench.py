"""The bench works at its smallest size; what it measures is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("--network", "nano")


def bench(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_sides_are_timed(tmp_path):
    out = tmp_path / "figures.json"
    size = ("--slices", "3", "--plane", "16", "--repetitions", "1", "--json", str(out))
    table = bench("time", *SMALL, *size, "--speed", "", "--speed", "stop=1,-encoder", "first", "click", "lesion")
    assert "| phase | sam2 | exact | stop=1,-encoder |" in table
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert {t["phase"] for t in figures["timings"]} == {"first", "click", "lesion"}
    assert all(len(t["seconds"]) == 1 for t in figures["timings"])
    assert figures["machine"]["cores"]


def test_parts_are_counted(tmp_path):
    out = tmp_path / "figures.json"
    bench("count", *SMALL, "--json", str(out))
    parts = {p["name"]: p for p in json.loads(out.read_text(encoding="utf-8"))["parts"]}
    assert all(part["gmac"] > 0 and part["mib"] > 0 for part in parts.values())
    assert parts["memory attention, full bank, ours"]["gmac"] < parts["memory attention, full bank, sam2"]["gmac"]
    # Where windows divide the image there is no padding to leave out.
    assert parts["image encoder, ours"]["gmac"] == parts["image encoder, sam2"]["gmac"]


def test_memory_is_measured():
    assert "| 3 |" in bench("memory", *SMALL, "--slices", "3", "--plane", "16")


def test_agreement_is_measured():
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared cases beside the project")
    assert "| stop=3 | correction |" in bench("agree", str(folder), "--cases", "1", "--speed", "stop=3")
