"""The session in the scene, with the real worker: what the user marks is outlined, carried on, undone and kept."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from biosam2 import Box, Mask, Point
from biosam2.session.entries import Propagated
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver
from host import event_loop
from launcher import lifeline, python_slicer  # noqa: F401 - fixtures
from panel_helpers import GRIDS, add_volume, load_scene, save_scene
from session_desk import Desk


@pytest.mark.parametrize("axis", "kji")
@pytest.mark.parametrize("grid", ["axial", "oblique"])
def test_masks_are_the_engines_voxel_for_voxel(desks, host, sphere, model_fields, grid, axis):
    """Anisotropic, oblique and flipped: the panel's voxels are those of `biosam2 segment`'s session."""
    desk = desks(add_volume(host, sphere, GRIDS[grid]))
    desk.logic.axisOfPointer = lambda: axis
    desk.point("a", (26, 20, 12))
    desk.point("a", (5, 5, 12) if axis == "k" else (5, 20, 5), positive=False)
    desk.settle()
    engine = desk.engine(model_fields)
    for prompt in desk.logic.state.prompts("a"):
        engine.add_prompt("a", prompt)
    for index in desk.logic.promptedSlices("a"):
        expected = engine.predict("a", index)
        np.testing.assert_array_equal(np.moveaxis(desk.voxels("a"), "kji".index(axis), 0)[index], expected)
    middle = {"k": 12, "j": 20, "i": 26}[axis]
    assert desk.logic.propagate(["a"], first=middle - 2, last=middle + 3)
    desk.settle()
    updates = list(engine.propagate(["a"], first=middle - 2, last=middle + 3))
    assert len(updates) == 6
    assert engine.mask("a").any()
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert not desk.problems


def test_a_preview_does_not_wait_and_clicks_meanwhile_are_not_lost(desk):
    written = []
    desk.logic.maskWritten.connect(lambda *what: written.append(what[:3]))
    for i in (22, 24, 26, 28):
        desk.point("a", (i, 20, 12))  # all before the worker has even started
    desk.point("b", (10, 10, 3))
    assert not desk.voxels("a").any()
    desk.settle()
    assert desk.voxels("a")[12].any()
    assert ("b", "k", 3) in written
    # Superseded previews are not drawn.
    assert written.count(("a", "k", 12)) == 1
    assert [type(p) for p in desk.logic.state.prompts("a")] == [Point] * 4


def test_boxes_belong_on_the_sessions_axis(desk):
    desk.logic.addBox("a", (18, 12, 12), (34, 28, 12), "k")
    desk.settle()
    assert desk.voxels("a")[12].any()
    desk.logic.addBox("a", (20, 12, 8), (20, 28, 15), "i")
    assert "use points" in desk.problems[0]
    assert [type(p) for p in desk.logic.state.prompts("a")] == [Box]


def test_moving_and_deleting_a_prompt_updates_the_mask(desk, model_fields):
    desk.point("a", (26, 20, 12))
    desk.settle()
    first = desk.voxels("a")
    node = desk.logic.prompts.pointsNode("a", True)
    node.SetNthControlPointPosition(0, *VolumeGeometry(desk.volume).localFromIjk((10, 10, 12)))
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((10, 10, 12)))
    np.testing.assert_array_equal(desk.voxels("a")[12], engine.predict("a", 12))
    moved = desk.voxels("a")
    assert not np.array_equal(first, moved)
    node.RemoveNthControlPoint(0)
    desk.settle()
    assert not desk.voxels("a").any()
    for expected in (moved, first, np.zeros_like(first)):
        assert desk.logic.undo()
        desk.settle()
        np.testing.assert_array_equal(desk.voxels("a"), expected)
    assert not desk.logic.undo()


def test_undo_takes_back_prompts_journal_and_voxels_together(desk):
    states = []

    def state():
        return (
            {name: desk.voxels(name).tobytes() for name in "ab"},
            desk.logic.prompts.prompts(),
            desk.logic.parameters.session,
        )

    states.append(state())
    desk.point("a", (26, 20, 12))
    desk.settle()
    states.append(state())
    desk.logic.addBox("b", (2, 2, 12), (12, 12, 12), "k")
    desk.settle()
    states.append(state())
    desk.logic.propagate(first=10, last=14)
    desk.settle()
    states.append(state())
    desk.logic.clear("a")
    desk.settle()
    states.append(state())
    assert not desk.voxels("a").any()
    for expected in reversed(states[:-1]):
        assert desk.logic.undo()
        desk.settle()
        assert state() == expected
    assert not desk.logic.undo()
    for expected in states[1:]:
        assert desk.logic.redo()
        desk.settle()
        assert state() == expected
    assert not desk.logic.redo()
    assert not desk.problems


def test_after_undo_the_worker_is_where_the_panel_is(desk, model_fields):
    desk.point("a", (26, 20, 12))
    desk.point("a", (40, 35, 12), positive=False)
    desk.settle()
    desk.logic.undo()
    desk.logic.propagate(["a"], first=11, last=13)
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    list(engine.propagate(["a"], first=11, last=13))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))


def test_propagation_reports_and_stops(desk):
    progress = []
    desk.logic.progressChanged.connect(lambda *what: progress.append(what))
    desk.point("a", (26, 20, 12))
    desk.settle()
    assert desk.logic.propagate()
    assert not desk.logic.propagate()  # one at a time
    event_loop.wait_until(lambda: len(progress) >= 2)
    desk.logic.stop()
    desk.settle()
    assert not desk.logic.running
    assert progress[-1][0] < 24
    assert progress[-1][1] == 24
    assert "Stopped" in desk.logic.status
    assert 0 < len(desk.logic.resultSlices("a")) < 24
    desk.logic.propagate()
    desk.settle()
    assert desk.logic.resultSlices("a") == set(range(24))


def test_nothing_marked_is_nothing_to_propagate(desk):
    assert not desk.logic.propagate()
    assert "Mark the structure first" in desk.problems[0]


def test_what_the_user_painted_is_never_overwritten(desk):
    """Painted before: kept. Painted over a mask of ours: it becomes a prompt, and stays as it is."""
    own = np.zeros((40, 48), bool)
    own[3:9, 4:11] = True
    desk.logic._slices.writeSlice("a", "k", 10, own)  # by the Segment Editor's way, without the session knowing
    desk.point("a", (26, 20, 12))
    desk.settle()
    desk.logic.propagate(first=9, last=15)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a")[10], own)
    desk.logic._slices.writeSlice("a", "k", 14, own)
    desk.logic.propagate(first=9, last=15)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a")[14], own)
    [mask] = [p for p in desk.logic.state.prompts("a") if isinstance(p, Mask)]
    assert mask == Mask(14, own)


def test_a_mask_prompt_from_this_slice(desk, model_fields):
    own = np.zeros((40, 48), bool)
    own[12:28, 18:34] = True
    assert not desk.logic.addMask("a", 12, "k")
    desk.logic._slices.writeSlice("a", "k", 12, own)
    assert desk.logic.addMask("a", 12, "k")
    desk.logic.propagate(first=11, last=13)
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Mask(12, own))
    list(engine.propagate(["a"], first=11, last=13))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))


def test_a_killed_worker_is_one_notice_and_work_goes_on(own_desk, model_fields):
    desk = own_desk
    desk.point("a", (26, 20, 12))
    desk.settle()
    desk.logic.propagate(first=12, last=14)
    desk.settle()
    before = desk.voxels("a")
    os.kill(desk.clients[0].processId, signal.SIGKILL)
    event_loop.wait_until(lambda: desk.problems)
    desk.settle()
    assert len(desk.problems) == 1
    assert "restarted" in desk.problems[0]
    np.testing.assert_array_equal(desk.voxels("a"), before)
    desk.point("a", (40, 35, 13), positive=False)
    desk.settle()
    desk.logic.propagate(first=12, last=14)
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    list(engine.propagate(["a"], first=12, last=14))
    engine.add_prompt("a", Point((40, 35, 13), positive=False))
    list(engine.propagate(["a"], first=12, last=14))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert len(desk.problems) == 1


@pytest.mark.parametrize("to_the_end", [False, True])
@pytest.mark.parametrize("count", [1, 4, 15])
def test_killed_in_the_middle_of_a_propagation(own_desk, count, to_the_end):
    """It goes on by itself where it was, each slice arrives once, and the masks are as without a death."""
    desk = own_desk
    desk.point("a", (26, 20, 12))
    desk.settle()
    arrived: list[int] = []
    desk.logic.maskWritten.connect(lambda _segment, _axis, index, _score: arrived.append(index))
    desk.logic.propagate(untilGone=to_the_end)
    desk.settle()
    expected, slices = desk.voxels("a"), list(arrived)
    assert len(slices) > count
    desk.logic.undo()
    desk.settle()
    arrived.clear()
    desk.logic.propagate(untilGone=to_the_end)
    event_loop.wait_until(lambda: len(arrived) >= count)
    os.kill(desk.clients[0].processId, signal.SIGKILL)
    event_loop.wait_until(lambda: desk.problems)
    assert desk.logic.running
    desk.settle()
    assert not desk.logic.running
    [problem] = desk.problems
    assert "restarted" in problem
    assert "the propagation continues" in problem
    # Each slice came once; how soon the end of an object is noticed depends on how far the worker is ahead.
    seen = [index for index in arrived if index != 12]  # both ways begin with the marked slice
    assert len(set(seen)) == len(seen)
    assert to_the_end or arrived == slices
    np.testing.assert_array_equal(desk.voxels("a"), expected)
    entries = [each.entry for each in desk.logic.state.in_force if isinstance(each.entry, Propagated)]
    assert len(entries) == (2 if to_the_end else 1)
    assert to_the_end or entries[0].complete


def test_a_stopped_propagation_does_not_go_on(own_desk):
    desk = own_desk
    desk.point("a", (26, 20, 12))
    desk.settle()
    arrived: list[int] = []
    desk.logic.maskWritten.connect(lambda _segment, _axis, index, _score: arrived.append(index))
    desk.logic.propagate()
    event_loop.wait_until(lambda: len(arrived) >= 2)
    desk.logic.stop()
    os.kill(desk.clients[0].processId, signal.SIGKILL)
    event_loop.wait_until(lambda: desk.problems or not desk.logic.running)
    desk.settle()
    assert not desk.logic.running
    assert "propagation" not in "".join(desk.problems)


def test_a_worker_that_always_dies_at_the_same_slice_is_given_up(host, sphere, model_fields, tmp_path):
    """As a driver's crash would; what is finished stays, and the next thing the user does starts a worker again."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, signal\n"
        "from biosam2.service.worker import main\n"
        "from biosam2.session.local import LocalRun\n"
        "take = LocalRun.__next__\n"
        "def dying(run):\n"
        "    found = take(run)\n"
        "    if found.slice_index == 16:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return found\n"
        "LocalRun.__next__ = dying\n"
        "main()\n"
    )
    desk = Desk(host, add_volume(host, sphere), lambda: ProcessDriver([sys.executable, str(script)]), model_fields)
    try:
        desk.point("a", (26, 20, 12))
        desk.settle()
        desk.logic.propagate()
        event_loop.wait_until(lambda: not desk.logic.running, 240)
        assert ["continues" in problem for problem in desk.problems].count(True) >= 2
        assert "several workers ended" in desk.problems[-1]
        assert len(desk.problems) <= 7  # it may get a slice or two further each time, from what was on its way
        finished = desk.logic.resultSlices("a")
        assert finished
        assert finished <= {12, 13, 14, 15}
        assert desk.voxels("a")[12].any()
        desk.point("a", (30, 20, 12))
        desk.settle()
        assert desk.voxels("a")[12].any()
    finally:
        desk.logic.cleanup()


def test_stopped_while_the_worker_is_given_everything_anew(own_desk):
    """What is propagated next waits for the worker to be ready; stopped then, it is never begun."""
    desk = own_desk
    desk.point("a", (26, 20, 12))
    desk.settle()
    desk.logic.propagate()
    desk.settle()
    os.kill(desk.clients[0].processId, signal.SIGKILL)
    event_loop.wait_until(lambda: desk.problems)
    desk.point("a", (10, 10, 3))
    assert desk.logic.propagate()
    assert desk.logic.running
    desk.logic.stop()
    assert not desk.logic.running
    assert "Stopped after 0 slices" in desk.logic.status
    desk.settle()
    assert desk.logic.state.in_force[-1].entry.finished == ()
    desk.logic.propagate()
    desk.settle()
    assert desk.logic.state.in_force[-1].entry.complete


def test_an_undo_that_ends_a_propagation_is_said(desk):
    desk.point("a", (26, 20, 12))
    desk.settle()
    progress = []
    desk.logic.progressChanged.connect(lambda *what: progress.append(what))
    desk.logic.propagate(["a"], untilGone=True)
    event_loop.wait_until(lambda: len(progress) >= 2)
    desk.point("b", (10, 10, 5))
    assert desk.logic.undo()  # the click
    desk.settle()
    assert not desk.logic.isPrompted("b")
    assert "Stopped after" in desk.logic.status
    [entry] = [each.entry for each in desk.logic.state.in_force if isinstance(each.entry, Propagated)]
    assert not entry.complete


def test_a_worker_that_cannot_start_says_why(host, sphere, model_fields):
    from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver

    desk = Desk(host, add_volume(host, sphere), lambda: ProcessDriver(["/no/such/python", "-m", "x"]), model_fields)
    event_loop.wait_until(lambda: len(desk.problems) > 3)
    assert "could not be started" in desk.problems[0]
    assert len(desk.problems) == 4  # it does not try for ever
    desk.logic.cleanup()


def test_a_model_that_is_not_there_is_said_in_one_line(host, sphere, make_driver):
    desk = Desk(host, add_volume(host, sphere), make_driver, {"name": "unheard-of"})
    event_loop.wait_until(lambda: desk.problems)
    assert "unheard-of" in desk.problems[0]
    assert "\n" not in desk.problems[0]
    desk.logic.cleanup()


def test_a_reopened_scene_goes_on(desk, desks, host, tmp_path, model_fields):
    desk.point("a", (26, 20, 12))
    desk.logic.addBox("b", (2, 2, 12), (12, 12, 12), "k")
    desk.settle()
    desk.logic.propagate(["a"], first=11, last=13)
    desk.settle()
    before = {name: desk.voxels(name) for name in "ab"}
    journal = desk.logic.parameters.session
    save_scene(host, tmp_path)
    desk.logic.cleanup()
    host.close_scene()
    load_scene(host, tmp_path)
    find = host.scene.GetFirstNodeByName
    reopened = desks(find("image"), segmentation=find("masks"), node=find("settings"))
    assert reopened.logic.parameters.session == journal
    assert len(reopened.logic.prompts.prompts()) == 2
    for name in "ab":
        np.testing.assert_array_equal(reopened.voxels(name), before[name])
    reopened.point("a", (40, 35, 13), positive=False)
    reopened.logic.propagate(["a"], first=11, last=13)
    reopened.settle()
    engine = reopened.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    list(engine.propagate(["a"], first=11, last=13))
    engine.add_prompt("a", Point((40, 35, 13), positive=False))
    list(engine.propagate(["a"], first=11, last=13))
    np.testing.assert_array_equal(reopened.voxels("a"), engine.mask("a"))


def test_a_segment_that_is_deleted_takes_its_prompts_along(desk):
    desk.point("a", (26, 20, 12))
    desk.point("b", (10, 10, 12))
    desk.logic.propagate()
    desk.segmentation.GetSegmentation().RemoveSegment("a")
    desk.settle()
    assert {placed.segmentId for placed in desk.logic.prompts.prompts().values()} == {"b"}
    assert desk.logic.state.prompted == ("b",)
    assert not desk.problems


def test_the_volume_is_deleted_in_the_middle(desk, host):
    desk.point("a", (26, 20, 12))
    desk.logic.propagate()
    event_loop.wait_until(lambda: desk.logic.resultSlices("a"))
    desk.logic.setInput(None, None)
    host.scene.RemoveNode(desk.volume)
    event_loop.process_events()
    assert not desk.logic.running
    assert not desk.problems


def test_no_worker_is_left_behind(own_desk):
    desk = own_desk
    desk.point("a", (26, 20, 12))
    event_loop.wait_until(lambda: desk.clients[0].state == "ready")
    pid = desk.clients[0].processId
    desk.logic.cleanup()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_volumes_file_that_windows_keeps_is_deleted_when_the_worker_has_ended(own_desk, host, sphere, monkeypatch):
    """Windows deletes no file that a process has mapped; the worker maps the volume as long as it works on it."""
    desk, unlink = own_desk, Path.unlink
    folder = Path(host.slicer.app.temporaryPath)

    def alive():
        return desk.clients[0].processId != 0

    refused = []

    def unlink_as_windows(path, missing_ok=False):
        if path.suffix == ".npy" and desk.clients and alive():
            refused.append(path)
            raise PermissionError(13, "The process cannot access the file", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_as_windows)
    desk.point("a", (26, 20, 12))
    desk.settle()
    assert desk.voxels("a")[12].any()
    (first,) = folder.glob("biosam2-*.npy")
    assert refused == [first]
    # Other voxels, for the same worker: the first ones' file is tried again.
    host.slicer.util.updateVolumeFromArray(desk.volume, sphere[::-1].copy())
    desk.point("a", (26, 20, 11))
    desk.settle()
    assert refused.count(first) > 1
    desk.logic._worker.restart()
    assert not first.exists()
    desk.settle()
    os.kill(desk.clients[0].processId, signal.SIGKILL)
    event_loop.wait_until(lambda: desk.problems)
    desk.settle()
    assert len(list(folder.glob("biosam2-*.npy"))) == 1
    desk.point("b", (10, 10, 3))
    desk.settle()
    assert len(desk.problems) == 1
    desk.logic.cleanup()
    assert not list(folder.glob("biosam2-*.npy"))


def test_a_worker_that_was_stopped_has_ended_behind_slicers_launcher_too(
    host,
    python_slicer,  # noqa: F811
    lifeline,  # noqa: F811
    tmp_path,
):
    """Slicer's Python is a launcher that starts the real one; files are deleted when that one has let go of them."""
    script = tmp_path / "worker.py"
    script.write_text(
        f"import os; os.open({str(lifeline.path)!r}, os.O_WRONLY)\nfrom biosam2.service.worker import main\nmain()\n"
    )
    client = ProcessDriver([str(python_slicer), str(script)])
    client.start()
    event_loop.wait_until(lambda: client.state == "ready", what="the worker")
    client.stop()
    assert lifeline.is_cut(0)


def test_a_neighbour_keeps_its_voxels(desk):
    neighbour = np.zeros((40, 48), bool)
    neighbour[:, 20:] = True
    desk.logic._slices.writeSlice("b", "k", 12, neighbour)
    desk.logic.addBox("a", (18, 12, 12), (34, 28, 12), "k")
    desk.settle()
    assert (desk.voxels("a")[12] & neighbour).any()
    np.testing.assert_array_equal(desk.voxels("b")[12], neighbour)
