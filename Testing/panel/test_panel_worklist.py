"""The list of cases in the panel: opened, worked on, saved by itself and approved, with mouse and keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from biosam2.datasets import load_dataset, open_case
from biosam2.io import itk
from biosam2.io.review import Review
from biosam2.record import read as read_record
from biosam2.record import review_of
from biosam2.volume import Volume
from biosam2.worklist import Worklist, find_work, make_worklist
from biosam2.worklist.template import make_template
from host import event_loop
from PySide6 import QtCore, QtTest, QtWidgets
from test_panel_widget import open_panel  # noqa: F401 - a fixture

DESK = Path(__file__).resolve().parents[1] / "worklist" / "desk.py"
LIVER = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"
)


@pytest.fixture
def worklist(tmp_path, sphere):
    """A list of two volumes with a ball each, and a template with a liver."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a", "b"):
        itk.write(folder / f"{name}.nrrd", Volume(sphere, (0.8, 1.1, 2.5), (12.0, -30.0, 7.0)))
    template = make_template([("liver", "#00ff80", LIVER)], (200.0, 700.0))
    return make_worklist(tmp_path / "list.csv", find_work(folder)[0], template)[0]


@pytest.fixture
def panel(open_panel, worklist):  # noqa: F811
    panel = open_panel()
    panel.widget._list._ask = lambda _folder: str(worklist.path)
    panel.click("openList")
    return panel


def rows(panel):
    table = panel.find("cases", QtWidgets.QTableWidget)
    return [
        tuple(QtWidgets.QTableWidget.item(table, row, column).text() for column in range(2))
        for row in range(QtWidgets.QTableWidget.rowCount(table))
    ]


def mark(panel, host):
    """A box around the ball, and its outline on that slice."""
    panel.press(QtCore.Qt.Key.Key_B)
    host.views["Red"].drag(panel.world(18, 12, 12), panel.world(34, 28, 12))
    panel.settle()


def test_a_list_is_worked_through_by_mouse_and_key(panel, host, worklist):
    assert rows(panel) == [("a", "new"), ("b", "new")]
    panel.click("nextCase")
    assert panel.volume.GetName() == "a"
    display = panel.volume.GetScalarVolumeDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (700, 200)
    segment = panel.session.segmentationNode.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "liver"
    assert segment.GetColor() == pytest.approx((0, 1, 128 / 255))
    assert list(worklist.claims()) == ["a"]
    mark(panel, host)
    drawn = panel.voxels()
    assert drawn[12].any()
    panel.press(QtCore.Qt.Key.Key_Return, QtCore.Qt.KeyboardModifier.ControlModifier)
    assert panel.volume.GetName() == "b"
    assert rows(panel) == [("a", "approved"), ("b", "new")]
    assert list(worklist.claims()) == ["b"]
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0
    done = worklist.case("a")
    assert done.interactions == 1
    (case,) = load_dataset(worklist.path, split="approved")
    np.testing.assert_array_equal(open_case(case).masks["liver"], drawn)
    record = read_record(done.segmentation.with_name("a.json"))
    assert [entry["segment"] for entry in record["session"]["journal"]] == ["liver"]
    assert review_of(record) == Review(True, axis="k", looked_at={"liver": ()})
    panel.click("needsWork")
    assert rows(panel) == [("a", "approved"), ("b", "to be looked at")]
    assert panel.volume is None
    assert worklist.claims() == {}


def test_a_case_goes_on_where_it_was_left(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    drawn = panel.voxels()
    panel.widget.worklist.autosave()
    assert worklist.case("a").state == "in work"
    saved = worklist.case("a").segmentation
    before = saved.stat().st_mtime_ns
    panel.widget.worklist.autosave()
    assert saved.stat().st_mtime_ns == before, "nothing was done since"
    table = panel.find("cases", QtWidgets.QTableWidget)
    for row in (1, 0):  # to the other case, and back
        place = QtWidgets.QTableWidget.visualItemRect(table, QtWidgets.QTableWidget.item(table, row, 0)).center()
        view = QtWidgets.QTableWidget.viewport(table)
        QtTest.QTest.mouseClick(view, QtCore.Qt.MouseButton.LeftButton, pos=place)
        QtTest.QTest.mouseDClick(view, QtCore.Qt.MouseButton.LeftButton, pos=place)
        event_loop.process_events()
        assert panel.volume.GetName() == "ab"[row]
    np.testing.assert_array_equal(panel.voxels(), drawn)
    [box] = panel.prompts()
    assert box.prompt.min_ijk[2] == 12
    assert panel.session.isPrompted(panel.segment())
    panel.click("propagate")
    panel.settle()
    assert panel.voxels().any(axis=(1, 2)).sum() > 3


def test_a_case_that_is_open_elsewhere_is_marked_and_passed_over(panel, worklist):
    paths = [str(DESK.parents[1]), str(DESK.parents[2] / "BioSAM2Slicer")]
    with subprocess.Popen(
        [sys.executable, str(DESK), "hold", str(worklist.path), "a"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as other:
        assert other.stdout.readline() == "open\n"
        panel.widget._list.refresh()
        assert rows(panel)[0][1].startswith("open: ")
        assert not panel.widget.worklist.open("a")
        assert "open elsewhere" in panel.status
        panel.click("nextCase")
        assert panel.volume.GetName() == "b"
        other.communicate("close\n")


def test_what_was_taken_over_is_told_and_stays_in_the_scene(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    # Another computer's claim is in the place of this one's.
    path = next(worklist.path.parent.glob("*-results/a.open.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": "another", "host": "elsewhere"}))
    panel.click("approve")
    assert "was taken over" in panel.status
    assert panel.volume.GetName() == "a"
    assert not worklist.case("a").segmentation.exists()


def test_closing_the_scene_saves_and_closes_the_case(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    drawn = panel.voxels()
    host.scene.Clear(0)
    event_loop.process_events()
    assert worklist.claims() == {}
    (case,) = load_dataset(worklist.path, split="in work")
    np.testing.assert_array_equal(open_case(case).masks["liver"], drawn)
    panel.click("nextCase")
    assert panel.volume.GetName() == "a"
    np.testing.assert_array_equal(panel.voxels(), drawn)


def test_another_segmentation_is_not_saved_as_the_case_s(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    own = panel.session.segmentationNode
    other = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    panel.find("segmentation").setCurrentNode(other)
    panel.widget.worklist.autosave()
    assert not worklist.case("a").segmentation.exists()
    panel.click("approve")
    assert "Choose the volume and the segmentation of a again" in panel.status
    panel.find("segmentation").setCurrentNode(own)
    panel.click("approve")
    assert worklist.case("a").state == "approved"
    assert panel.volume.GetName() == "b"


def test_a_list_is_made_of_a_folder_and_a_damaged_one_refused(open_panel, worklist):  # noqa: F811
    panel = open_panel()
    panel.widget._list._askImages = lambda _folder: str(worklist.path.parent / "scans")
    panel.click("newList")
    assert rows(panel) == [("a", "new"), ("b", "new")]
    assert Worklist(worklist.path.parent / "scans.csv").template.segments == ()
    worklist.path.write_text("image,state\nx.nrrd,done\n")
    panel.widget._list._ask = lambda _folder: str(worklist.path)
    panel.click("openList")
    assert "the state 'done' is none of new" in panel.status
