"""The list of cases in the panel: opened, worked on, saved by itself and approved, with mouse and keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from biosam2 import read_volume, write_segmentation
from biosam2.datasets import load_dataset, open_case
from biosam2.datasets.case import Case
from biosam2.io import itk
from biosam2.io.review import Review
from biosam2.record import read as read_record
from biosam2.record import review_of
from biosam2.volume import Volume
from biosam2.worklist import Worklist, find_work, make_worklist
from biosam2.worklist.template import make_template
from BioSAM2SlicerLib.scene.SequenceVideo import videoOf
from host import event_loop
from io_helpers import Segments
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


@contextmanager
def held(worklist, name):
    """A case that another process has open."""
    paths = [str(DESK.parents[1]), str(DESK.parents[2] / "BioSAM2Slicer")]
    with subprocess.Popen(
        [sys.executable, str(DESK), "hold", str(worklist.path), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as other:
        assert other.stdout.readline() == "open\n"
        yield other


def mark(panel, host, index=12):
    """A box around the ball, and its outline on that slice."""
    if not panel.find("box").checked:
        panel.press(QtCore.Qt.Key.Key_B)
    host.views["Red"].drag(panel.world(18, 12, index), panel.world(34, 28, index))
    panel.settle()


def double_click(panel, row):
    table = panel.find("cases", QtWidgets.QTableWidget)
    place = QtWidgets.QTableWidget.visualItemRect(table, QtWidgets.QTableWidget.item(table, row, 0)).center()
    view = QtWidgets.QTableWidget.viewport(table)
    QtTest.QTest.mouseClick(view, QtCore.Qt.MouseButton.LeftButton, pos=place)
    QtTest.QTest.mouseDClick(view, QtCore.Qt.MouseButton.LeftButton, pos=place)
    event_loop.process_events()


def saved(worklist, name):
    """The liver as it lies in the case's file."""
    (case,) = (each for each in load_dataset(worklist.path) if each.name == name)
    return open_case(case).masks["liver"]


def taken_over(worklist, name):
    """Another computer's claim is in the place of this one's."""
    path = next(worklist.path.parent.glob(f"*-results/{name}.open.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": "another", "host": "elsewhere"}))
    return path


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
    for row in (1, 0):  # to the other case, and back
        double_click(panel, row)
        assert panel.volume.GetName() == "ab"[row]
    np.testing.assert_array_equal(panel.voxels(), drawn)
    [box] = panel.prompts()
    assert box.prompt.min_ijk[2] == 12
    assert panel.session.isPrompted(panel.segment())
    panel.click("propagate")
    panel.settle()
    assert panel.voxels().any(axis=(1, 2)).sum() > 3


def test_the_strokes_of_a_case_are_there_again(panel, host, worklist):
    panel.click("nextCase")
    for key, way in (
        (QtCore.Qt.Key.Key_S, [(20, 20), (26, 24), (32, 20)]),
        (QtCore.Qt.Key.Key_L, [(20, 14), (32, 14), (32, 26), (20, 26)]),
    ):
        panel.press(key)
        host.views["Red"].draw([panel.world(i, j, 12) for i, j in way])
        panel.settle()
    drawn, prompts, given = panel.voxels(), panel.prompts(), panel.session.state.prompts(panel.segment())
    assert [type(prompt).__name__ for prompt in given] == ["Scribble", "Lasso"]
    for row in (1, 0):  # to the other case, and back
        double_click(panel, row)
    np.testing.assert_array_equal(panel.voxels(), drawn)
    assert all(now.sameAs(then) for now, then in zip(panel.prompts(), prompts, strict=True))
    assert panel.session.state.prompts(panel.segment()) == given
    curve = host.scene.GetFirstNodeByClass("vtkMRMLMarkupsClosedCurveNode")
    host.scene.RemoveNode(curve)
    event_loop.process_events()
    panel.settle()
    assert panel.session.state.prompts(panel.segment()) == given[:1]


def test_a_case_that_is_open_elsewhere_is_marked_and_passed_over(panel, worklist):
    with held(worklist, "a") as other:
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
    taken_over(worklist, "a")
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
    own, drawn = panel.session.segmentationNode, panel.voxels()
    other = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    panel.find("segmentation").setCurrentNode(other)
    panel.widget.worklist.autosave()
    np.testing.assert_array_equal(saved(worklist, "a"), drawn)
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


def test_a_case_that_somebody_took_over_and_finished_is_opened_as_they_left_it(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    panel.widget.worklist.autosave()
    theirs = np.zeros((24, 40, 48), bool)
    theirs[3:5, 10:20, 10:20] = True
    case = worklist.open("a", take_over=True)
    image = read_volume(case.case.image)
    with case.saving(state="approved") as files:
        write_segmentation(files.segmentation, Segments(image, {"liver": theirs}))
    case.close()
    mark(panel, host, 11)
    panel.click("needsWork")
    assert "is not open any more" in panel.status
    own, mine = panel.session.segmentationNode, panel.voxels()
    double_click(panel, 0)
    assert panel.session.segmentationNode is not own
    np.testing.assert_array_equal(panel.voxels(), theirs)
    kept = host.slicer.util.arrayFromSegmentBinaryLabelmap(own, own.GetSegmentation().GetNthSegmentID(0), panel.volume)
    np.testing.assert_array_equal(kept.astype(bool), mine)
    assert "not saved" in own.GetName()
    panel.widget.worklist.autosave()
    np.testing.assert_array_equal(saved(worklist, "a"), theirs)
    assert rows(panel)[0] == ("a", "approved")
    assert list(worklist.claims()) == ["a"]


def test_a_case_that_is_open_here_is_only_shown_when_it_is_opened_again(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    own, claim = panel.session.segmentationNode, worklist.claims()["a"]
    double_click(panel, 0)
    assert panel.session.segmentationNode is own
    assert worklist.claims()["a"] == claim
    panel.find("segmentation").setCurrentNode(host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other"))
    claim = worklist.claims()["a"]
    double_click(panel, 0)
    assert panel.session.segmentationNode is own
    assert worklist.claims()["a"] == claim


def test_who_was_taken_over_goes_on_with_the_next_case(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    own, drawn = panel.session.segmentationNode, panel.voxels()
    claim = taken_over(worklist, "a")
    panel.click("nextCase")
    assert panel.volume.GetName() == "b"
    assert "a was closed without saving it: it is not open here any more" in panel.status
    assert own.GetName() in panel.status
    assert not worklist.case("a").segmentation.exists()
    assert json.loads(claim.read_text())["host"] == "elsewhere"
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("a"))
    panel.find("segmentation").setCurrentNode(own)
    np.testing.assert_array_equal(panel.voxels(), drawn)
    assert len(panel.prompts()) == 1


@pytest.mark.parametrize("leave", ["next", "scene", "module"])
def test_a_case_is_saved_though_another_segmentation_is_chosen(panel, host, worklist, leave):
    panel.click("nextCase")
    mark(panel, host)
    own, volume, segment = panel.session.segmentationNode, panel.volume, panel.segment()
    drawn = panel.voxels()
    panel.find("segmentation").setCurrentNode(host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other"))
    np.testing.assert_array_equal(saved(worklist, "a"), drawn)
    drawn[20, 2:5, 2:5] = True  # with Slicer's own tools
    host.slicer.util.updateSegmentBinaryLabelmapFromArray(drawn.astype(np.uint8), own, segment, volume)
    if leave == "next":
        panel.click("nextCase")
        assert panel.volume.GetName() == "b"
        assert host.scene.GetFirstNodeByName("other") is not None
        assert host.scene.GetFirstNodeByName("a") is None
    elif leave == "scene":
        host.scene.Clear(0)
    else:
        panel.widget.exit()
        assert panel.widget.worklist.close()
        panel.widget.enter()
    event_loop.process_events()
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0
    np.testing.assert_array_equal(saved(worklist, "a"), drawn)
    assert "a" not in worklist.claims()


def test_what_was_done_is_saved_when_the_image_is_deleted(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    own, drawn = panel.session.segmentationNode, panel.voxels()
    host.scene.RemoveNode(panel.volume)
    event_loop.process_events()
    np.testing.assert_array_equal(saved(worklist, "a"), drawn)
    panel.click("nextCase")
    assert panel.volume.GetName() == "b"
    assert own.GetScene() is not None, "it may have been changed since"
    assert "its volume is gone" in panel.status


def test_a_segmentation_that_is_deleted_is_as_it_was_saved_last(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    drawn = panel.voxels()
    panel.widget.worklist.autosave()
    mark(panel, host, 11)
    host.scene.RemoveNode(panel.session.segmentationNode)
    event_loop.process_events()
    panel.click("nextCase")
    assert panel.volume.GetName() == "b"
    assert host.scene.GetFirstNodeByName("a") is None
    np.testing.assert_array_equal(saved(worklist, "a"), drawn)


def test_looking_at_something_else_takes_no_approval_back(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    panel.click("approve")
    double_click(panel, 0)
    panel.find("segmentation").setCurrentNode(host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other"))
    panel.click("nextCase")
    assert rows(panel)[0] == ("a", "approved")


def test_looking_through_an_approved_case_takes_no_approval_back(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    panel.session.propagate()
    panel.settle()
    panel.click("approve")
    double_click(panel, 0)
    segment = panel.segment()
    for index in panel.session.reviewed(segment):
        panel.session.see(segment, index)
    panel.click("nextCase")
    assert rows(panel)[0] == ("a", "approved")
    double_click(panel, 0)
    panel.session.addMask(panel.segment(), 12)
    panel.settle()
    panel.click("nextCase")
    assert rows(panel)[0] == ("a", "in work")


def test_files_with_numbers_are_cases_of_their_own(open_panel, tmp_path):  # noqa: F811
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in (1, 2, 3):
        itk.write(folder / f"case_00{number}.nrrd", Volume(np.full((1, 40, 48), number, np.int16)))
    panel = open_panel()
    panel.widget._list._askImages = lambda _folder: str(folder)
    panel.click("newList")
    for number in (1, 2, 3):
        panel.click("nextCase")
        assert panel.volume.GetImageData().GetDimensions() == (48, 40, 1)
        assert panel.volume.GetImageData().GetScalarRange() == (number, number)


def test_looking_is_work_and_breaks_and_what_the_model_does_are_none(panel, host, worklist):
    """Prompts count, also the ones that can no longer be undone; neither a break nor a propagation does."""
    now = [0.0]
    panel.click("nextCase")
    timer = panel.widget.worklist._work
    timer._clock = lambda: now[0]
    timer.restart()
    panel.session.setParameters(undoStates=2)
    for index in (11, 12, 13):
        now[0] += 10
        mark(panel, host, index)
    panel.press(QtCore.Qt.Key.Key_Z, QtCore.Qt.KeyboardModifier.ControlModifier)
    now[0] += 10
    mark(panel, host)
    panel.click("propagate")
    panel.settle()
    for index in range(10):
        now[0] += 30
        host.views["Red"].go_to(panel.world(20, 20, index))
    for _minute in range(30):
        now[0] += 60
        panel.widget.worklist.autosave()
    panel.click("approve")
    done = worklist.case("a")
    assert done.interactions == 4
    assert done.seconds == 40 + 10 * 30 + 60


def test_a_case_that_is_lost_with_the_scene_is_told(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    taken_over(worklist, "a")
    host.scene.Clear(0)
    event_loop.process_events()
    assert panel.status.startswith("The case was not saved: case a was taken over")


def test_nothing_is_saved_after_the_panel_is_gone(panel, host, worklist):
    panel.click("nextCase")
    mark(panel, host)
    text = worklist.path.read_text()
    worklist.path.write_text("image,state\nx.nrrd,done\n")
    logic = panel.widget.worklist
    logic.cleanup()
    assert not logic._timer.active
    worklist.path.write_text(text)
    assert logic.close()


def test_an_act_reads_the_list_few_times_and_tells_of_it_once(panel, host, worklist, monkeypatch):
    panel.click("nextCase")
    mark(panel, host)
    panel.widget.worklist.autosave()
    reads, told = [], []
    read = Worklist._read
    monkeypatch.setattr(Worklist, "_read", lambda self: reads.append(1) or read(self))
    panel.widget.worklist.changed.connect(lambda: told.append(1))
    panel.widget.worklist.autosave()
    assert (len(reads), len(told)) == (0, 0), "nothing was done"
    panel.click("nextCase")
    assert panel.volume.GetName() == "b"
    assert len(told) == 1
    # The next one is found and opened, the work on this one counted, that one loaded, and the table shown.
    assert len(reads) <= 6


# Taken over -----------------------------------------------------------------------------------------------------------


def choose(panel, row):
    table = panel.find("cases", QtWidgets.QTableWidget)
    panel.unfold(table)
    place = QtWidgets.QTableWidget.visualItemRect(table, QtWidgets.QTableWidget.item(table, row, 0)).center()
    QtTest.QTest.mouseClick(QtWidgets.QTableWidget.viewport(table), QtCore.Qt.MouseButton.LeftButton, pos=place)
    event_loop.process_events()


def test_a_case_that_another_process_has_open_is_taken_over_when_the_user_means_it(panel, worklist):
    take_over = panel.find("takeOver")
    panel.click("nextCase")
    with held(worklist, "b") as other:
        panel.widget._list.refresh()
        choose(panel, 0)
        assert not QtWidgets.QWidget.isEnabled(take_over), "it is open here"
        choose(panel, 1)
        asked = []
        panel.widget._list._confirm = lambda text: asked.append(text) or False
        panel.click("takeOver")
        assert panel.volume.GetName() == "a"
        assert str(worklist.claims()["b"]) in asked[0]
        assert "can export it there" in asked[0]
        # The own case is saved meanwhile, which shows the list anew.
        panel.widget._list.refresh()
        panel.widget._list._confirm = lambda text: True
        panel.click("takeOver")
        assert panel.volume.GetName() == "b"
        assert "b was taken over from" in panel.status
        assert worklist.claims()["b"].is_here
        assert list(worklist.claims()) == ["b"], "the case before is closed"
        assert not QtWidgets.QWidget.isEnabled(take_over)
        other.communicate("close\n")
        assert other.returncode == 0
    assert worklist.claims()["b"].is_here, "the other process has left it alone"


# Exported -------------------------------------------------------------------------------------------------------------


def exported(panel, path):
    panel.widget._export._ask = lambda *_question: str(path)
    box = panel.find("format")
    panel.unfold(box)
    box.currentIndex = box.findData(".nrrd")
    panel.click("export")
    assert panel.status.startswith("Exported to"), panel.status
    return review_of(read_record(path.with_suffix(".json")))


def test_an_export_says_that_the_case_was_approved_until_it_is_changed(panel, host, worklist, tmp_path):
    panel.click("nextCase")
    mark(panel, host)
    panel.session.propagate()
    panel.settle()
    segment = panel.segment()
    seen = sorted(panel.session.reviewed(segment))[:2]
    for index in seen:
        panel.session.see(segment, index)
    review = exported(panel, tmp_path / "before.nrrd")
    assert (review.approved, review.axis, review.looked_at) == (False, "k", {"liver": tuple(seen)})
    panel.click("approve")
    assert panel.widget.worklist.open("a")
    done = worklist.case("a")
    approved = exported(panel, tmp_path / "approved.nrrd")
    assert approved == Review(True, done.by, done.changed, "k", {"liver": tuple(seen)})
    panel.session.addMask(panel.segment(), 12)
    panel.settle()
    assert not exported(panel, tmp_path / "after.nrrd").approved


def test_a_video_of_a_list_is_one_without_being_told(open_panel, tmp_path):  # noqa: F811
    frames = np.random.default_rng(0).integers(0, 255, (3, 12, 16)).astype(np.uint8)
    write_sequence(tmp_path / "scans" / "cine.seq.nrrd", frames, 0.04)
    worklist, _ = make_worklist(
        tmp_path / "list.csv", [Case("cine", tmp_path / "scans" / "cine.seq.nrrd", (), kind="video")]
    )
    panel = open_panel()
    panel.widget.worklist.load(worklist.path)
    panel.click("nextCase")
    assert panel.volume.GetName() == "cine"
    assert panel.session.parameters.film
    assert videoOf(panel.volume).metadata["frame_times"] == pytest.approx([0, 0.04, 0.08])
    box = panel.find("format")
    assert box.findData(".csv") >= 0


def write_sequence(path, frames, step):
    """A sequence of grey frames as the engine writes labels."""
    path.parent.mkdir()
    video = Volume(frames, metadata={"frame_times": (np.arange(len(frames)) * step).tolist()})
    write_segmentation(path, Segments(video, {"a": frames > 100}))
