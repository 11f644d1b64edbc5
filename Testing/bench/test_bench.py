"""The bench works at its smallest size; what it measures is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
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
    assert {t["phase"] for t in figures["timings"]} == {"first", "click", "lesion"}
    assert all(len(t["seconds"]) == 1 for t in figures["timings"])
    assert figures["machine"]["cores"]


def test_parts_are_counted(bench, tmp_path):
    out = tmp_path / "figures.json"
    bench("count", *SMALL, "--json", str(out))
    parts = {p["name"]: p for p in json.loads(out.read_text(encoding="utf-8"))["parts"]}
    assert all(part["gmac"] > 0 and part["mib"] > 0 for part in parts.values())
    assert parts["memory attention, full bank, ours"]["gmac"] < parts["memory attention, full bank, sam2"]["gmac"]
    # Where windows divide the image there is no padding to leave out.
    assert parts["image encoder, ours"]["gmac"] == parts["image encoder, sam2"]["gmac"]


def test_memory_is_measured():
    """As the README has it, in a process of its own."""
    command = [sys.executable, "-m", "bench", "memory", *SMALL, "--slices", "3", "--plane", "16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 3 |" in done.stdout


def test_agreement_is_measured(bench):
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared cases beside the project")
    assert "| stop=3 | correction |" in bench("agree", str(folder), "--cases", "1", "--speed", "stop=3")
