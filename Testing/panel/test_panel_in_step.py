"""The worker is always where the panel is: whatever was undone, redone, stopped, or given other voxels meanwhile."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from biosam2 import Mask, Point
from biosam2.session.entries import Prompted, Propagated
from host import event_loop
from session_desk import paint


def entries(desk):
    return [each.entry for each in desk.logic.state.in_force]


def engine_of(desk, model_fields):
    """A session in another process that has done what the panel's state says."""
    engine = desk.engine(model_fields)
    for entry in entries(desk):
        engine.replay(entry)
    return engine


def test_more_steps_than_the_engine_keeps_are_undone(desk, model_fields):
    desk.logic.setParameters(undoStates=200)
    desk.point("a", (26, 20, 12))
    desk.settle()
    for n in range(105):
        assert desk.logic.lock("a", 3, n % 2 == 0)
    desk.settle()
    count = 0
    while desk.logic.undo():
        count += 1
    assert count == 106
    assert not entries(desk)
    assert not desk.logic.propagate(["a"])
    assert "Mark the structure first" in desk.problems.pop()
    # Only what is said from now on counts.
    desk.point("a", (24, 22, 12))
    desk.logic.propagate(["a"], first=11, last=13)
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((24, 22, 12)))
    engine.propagate(["a"], first=11, last=13)
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert not desk.problems


def test_redone_after_the_voxels_were_replaced(desk, sphere, model_fields):
    desk.point("a", (26, 20, 12))
    desk.settle()
    assert desk.logic.undo()
    desk.settle()
    desk.host.slicer.util.updateVolumeFromArray(desk.volume, sphere[:, ::-1].copy())
    event_loop.process_events()
    desk.settle()
    assert desk.logic.redo()
    desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    assert [type(entry) for entry in entries(desk)] == [Prompted, Propagated]
    np.testing.assert_array_equal(desk.voxels("a"), engine_of(desk, model_fields).mask("a"))
    assert not desk.problems


def test_stopped_before_it_began_and_undone(desk, sphere, model_fields):
    """The propagation before it stays, in the panel and in the worker."""
    desk.point("a", (26, 20, 12))
    desk.settle()
    assert desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    voxels = desk.voxels("a")
    desk.host.slicer.util.updateVolumeFromArray(desk.volume, sphere)
    event_loop.process_events()
    assert desk.logic.propagate(["a"], first=8, last=16)
    desk.logic.stop()
    assert not desk.logic.running
    assert desk.logic.undo()
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), voxels)
    assert desk.logic.resultSlices("a") == {11, 12, 13, 14}
    # A correction sees the memories of the propagation that stays.
    desk.point("a", (30, 24, 14))
    desk.settle()
    engine = engine_of(desk, model_fields)
    np.testing.assert_array_equal(desk.voxels("a")[14], engine.predict("a", 14))
    desk.logic.propagate(["a"], first=12, last=15)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), engine_of(desk, model_fields).mask("a"))
    assert not desk.problems


def test_undone_while_it_runs_and_redone(desk, model_fields):
    """What had arrived comes back; the worker may have been further."""
    desk.point("a", (26, 20, 12))
    desk.settle()
    before = desk.voxels("a")
    assert desk.logic.propagate(["a"])
    event_loop.wait_until(lambda: len(desk.logic.resultSlices("a")) >= 3)
    assert desk.logic.undo()
    assert not desk.logic.running
    np.testing.assert_array_equal(desk.voxels("a"), before)
    assert desk.logic.redo()
    desk.settle()
    finished = entries(desk)[-1].finished
    assert 3 <= len(finished) < 24
    assert not entries(desk)[-1].complete
    np.testing.assert_array_equal(desk.voxels("a"), engine_of(desk, model_fields).mask("a"))
    desk.point("a", (30, 24, 13))
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a")[13], engine_of(desk, model_fields).predict("a", 13))
    desk.logic.propagate(["a"], first=10, last=15)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), engine_of(desk, model_fields).mask("a"))
    assert not desk.problems


def test_undone_before_it_was_answered(desk, model_fields):
    """The click before it is outlined all the same."""
    desk.point("a", (26, 20, 12))
    desk.point("a", (34, 26, 12), positive=False)
    assert desk.logic.undo()
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    np.testing.assert_array_equal(desk.voxels("a")[12], engine.predict("a", 12))
    assert desk.logic.undo()
    assert not desk.voxels("a").any()


def test_a_step_told_to_an_earlier_worker_is_undone(own_desk, model_fields):
    desk = own_desk
    desk.point("a", (26, 20, 12))
    desk.settle()
    desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    desk.point("a", (5, 5, 13), positive=False)
    desk.settle()
    os.kill(desk.clients[0].processId, signal.SIGKILL)
    event_loop.wait_until(lambda: desk.problems)
    desk.settle()
    assert desk.logic.undo()  # the point
    desk.point("b", (10, 10, 5))
    desk.settle()
    assert desk.logic.undo()
    assert desk.logic.undo()  # the propagation
    assert desk.logic.redo()
    desk.logic.propagate(["a"], first=12, last=16)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), engine_of(desk, model_fields).mask("a"))
    assert len(desk.problems) == 1


def test_a_prompt_that_is_taken_away_leaves_what_was_propagated(desk, model_fields):
    """On a slice with a result, and on one that a segment started from."""
    desk.point("a", (26, 20, 12))
    desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    propagated = desk.voxels("a")
    desk.point("a", (30, 30, 13), positive=False)
    desk.settle()
    desk.logic.prompts.pointsNode("a", False).RemoveNthControlPoint(0)
    desk.settle()
    np.testing.assert_array_equal(desk.voxels("a"), propagated)
    block = np.zeros((40, 48), bool)
    block[12:28, 18:34] = True
    for index in (4, 5):
        paint(desk, "b", "k", index, block)
    assert desk.logic.startFrom("b", "k")
    desk.point("b", (40, 4, 4))
    desk.settle()
    desk.logic.prompts.pointsNode("b", True).RemoveNthControlPoint(0)
    desk.settle()
    engine = engine_of(desk, model_fields)
    for name in "ab":
        np.testing.assert_array_equal(desk.voxels(name), engine.mask(name))


@pytest.mark.parametrize("propagate", [False, True])
def test_a_mask_that_the_network_cannot_take_is_refused(host, desks, model_fields, propagate):
    """A dot that vanishes at the network's resolution; the propagation goes on without it."""
    from panel_helpers import add_volume

    volume = np.random.default_rng(0).normal(100, 10, (3, 1200, 1200))
    volume[:, 300:700, 300:700] += 300
    desk = desks(add_volume(host, volume.astype(np.int16)))
    desk.logic.setParameters(crop=False)
    desk.logic.addBox("a", (300, 300, 1), (699, 699, 1), "k")
    desk.settle()
    if propagate:
        desk.logic.propagate(["a"])
        desk.settle()
    dot = np.zeros((1200, 1200), bool)
    dot[10, 10] = True
    desk.logic._slices.writeSlice("a", "k", 2, dot)
    if propagate:
        assert desk.logic.correctedSlices("a") == {2}
        assert desk.logic.propagate(["a"])
    else:
        assert desk.logic.addMask("a", 2)
    desk.settle()
    assert len(desk.problems) == 1
    assert not any(isinstance(prompt, Mask) for prompt in desk.logic.state.prompts("a"))
    if not propagate:
        assert desk.logic.propagate(["a"])
        desk.settle()
    assert desk.logic.resultSlices("a") == {0, 1, 2}
    assert entries(desk)[-1].complete
    np.testing.assert_array_equal(desk.voxels("a")[:2], engine_of(desk, model_fields).mask("a")[:2])
    assert len(desk.problems) == 1
