"""*Reload and Test*, as a user runs it."""

from __future__ import annotations

import re
import sys

import pytest
from BioSAM2SlicerLib.ui import SelfTest as self_test
from BioSAM2SlicerLib.worker.WorkerPlace import HERE, PYTHON, SERVER, WorkerPlace

import BioSAM2Slicer


@pytest.fixture
def run(host, monkeypatch):
    """Runs it, and gives what the user saw; fails where it left something in the scene."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def start(place):
        seen = []
        monkeypatch.setattr(self_test, "readPlace", lambda _settings: place)
        test = BioSAM2Slicer.BioSAM2SlicerTest()
        test.delayDisplay = lambda line, *_more: seen.append(line)
        try:
            test.runTest()
        finally:
            for kind in ("vtkMRMLVolumeNode", "vtkMRMLMarkupsNode", "vtkMRMLSegmentationNode"):
                assert host.scene.GetNumberOfNodesByClass(kind) == 0
        return seen

    return start


def test_it_does_what_the_demo_does(run):
    lines = run(WorkerPlace(PYTHON, sys.executable))
    assert len(lines) == 7
    for line in lines[:-1]:
        assert re.search(r"\(\d+\.\d s\)$", line), line
    assert "outlined the box on cpu" in lines[3]
    assert "17 slices" in lines[4]
    assert float(re.search(r"lesion (\d\.\d\d)", lines[5])[1]) >= 0.75
    assert re.fullmatch(r"Passed in \d+\.\d s\.", lines[-1])


def test_a_poor_mask_fails(run, monkeypatch):
    monkeypatch.setattr(self_test, "_LEAST_DICE", 1.01)
    seen = []
    monkeypatch.setattr(BioSAM2Slicer.BioSAM2SlicerTest, "delayDisplay", lambda _self, line: seen.append(line))
    with pytest.raises(AssertionError, match=r"at least 1\.01"):
        run(WorkerPlace(PYTHON, sys.executable))


def test_a_worker_that_cannot_start_fails_in_one_line(run, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(AssertionError, match="worker"):
        run(WorkerPlace(PYTHON, str(python)))


def test_where_no_network_can_run_it_says_why(run, monkeypatch):
    class Incomplete:
        complete = False

        def describe(self):
            return "This installs into Slicer: PyTorch."

    real = self_test.logicFor
    monkeypatch.setattr(self_test, "logicFor", lambda kind: Incomplete() if kind == HERE else real(kind))
    lines = run(WorkerPlace(HERE))
    assert lines[-2] == "Skipped: the network was not tried. This installs into Slicer: PyTorch."
    assert lines[-1].startswith("Passed")
    assert "server" in run(WorkerPlace(SERVER, server="http://127.0.0.1:1"))[-2]
