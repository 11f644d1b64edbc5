"""The status line, by a table of situations, and in the panel at work."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from BioSAM2SlicerLib.ui.StatusLine import (
    NEXT,
    NOTICE,
    PROBLEM,
    REMARK,
    WARNING,
    WORKING,
    Situation,
    StatusLine,
)
from host import event_loop
from panel_helpers import GRIDS, add_volume, load_scene, save_scene
from PySide6 import QtCore
from test_panel_review import click_strip, propagated
from test_panel_widget import Panel, open_panel, panel  # noqa: F401

KEY = QtCore.Qt.Key
CHOSEN = {"volumes": 1, "volume": True}
DIED = "The worker ended. It is restarted."

# What is so, what was said before and how many seconds ago, and the line that it makes.
SITUATIONS = [
    ("an empty scene", {}, [], "Load a volume", NEXT),
    ("a volume, none chosen", {"volumes": 1}, [], "Choose a volume.", NEXT),
    ("a volume was chosen", CHOSEN, [], "Mark the structure", NEXT),
    ("another grid", {**CHOSEN, "refused": True}, [], "another grid", NEXT),
    ("tilted views", {**CHOSEN, "tilt": 20.0}, [], "tilted in the views by 20°", NEXT),
    ("tilted views, points already", {**CHOSEN, "tilt": 20.0, "marked": True}, [], "propagate", NEXT),
    ("tilted views, box tool", {**CHOSEN, "tilt": 20.0, "marked": True, "tool": "box"}, [], "tilted", NEXT),
    ("tilted views, point tool", {**CHOSEN, "tilt": 20.0, "tool": "point"}, [], "Click into", NEXT),
    ("views turned", {**CHOSEN, "tilt": 0.0}, [], "Mark the structure", NEXT),
    ("point tool", {**CHOSEN, "tool": "point"}, [], "Click into the structure", NEXT),
    ("point tool, negative", {**CHOSEN, "tool": "point", "positive": False}, [], "does not belong", NEXT),
    ("box tool", {**CHOSEN, "tool": "box"}, [], "Drag a box", NEXT),
    ("Esc", {**CHOSEN, "tool": "none"}, [], "Mark the structure", NEXT),
    ("an effect", {**CHOSEN, "effect": "Paint"}, [], "Use painted slice", NEXT),
    ("marked", {**CHOSEN, "marked": True}, [], "Shift+Space", NEXT),
    (
        "reviewing",
        {**CHOSEN, "marked": True, "propagated": True, "shown": 19, "words": "propagated", "left": 3},
        [],
        "Slice 19: propagated. 3 slices not looked at yet",
        NEXT,
    ),
    (
        "reviewed",
        {**CHOSEN, "marked": True, "propagated": True, "shown": 19, "words": "looked at"},
        [],
        "Slice 19: looked at.",
        NEXT,
    ),
    ("reviewing, no view along", {**CHOSEN, "marked": True, "propagated": True}, [], "Shift+Space", NEXT),
    ("the worker starts", {**CHOSEN, "working": "Starting …"}, [], "Starting …", WORKING),
    ("propagating", {**CHOSEN, "running": True}, [], "Propagating …", WORKING),
    (
        "half-way",
        {**CHOSEN, "running": True, "progress": (5, 10, 2.0, 2.5)},
        [],
        "Slice 5 of 10, 2.0 slices per second, 2 s left",
        WORKING,
    ),
    ("done", CHOSEN, [(REMARK, "Ready: 10 slices", 1)], "Ready: 10 slices", REMARK),
    ("done some time ago", CHOSEN, [(REMARK, "Ready: 10 slices", 60)], "Mark the structure", NEXT),
    ("done, and at work again", {**CHOSEN, "running": True}, [(REMARK, "Undone.", 1)], "Propagating …", WORKING),
    ("refused", {**CHOSEN, "tool": "box"}, [(PROBLEM, "This view is tilted", 1)], "This view is tilted", PROBLEM),
    ("refused while at work", {**CHOSEN, "running": True}, [(PROBLEM, "Wait.", 1)], "Wait.", PROBLEM),
    ("refused, then another", CHOSEN, [(PROBLEM, "One.", 2), (PROBLEM, "Two.", 1)], "Two.", PROBLEM),
    ("a large mask", CHOSEN, [(WARNING, "The mask is very large", 600)], "The mask is very large", WARNING),
    ("a warning and a remark", CHOSEN, [(WARNING, "Large.", 2), (REMARK, "Ready", 1)], "Large.", WARNING),
    ("the worker died, and starts", {**CHOSEN, "working": "Starting …"}, [(NOTICE, DIED, 1)], DIED, NOTICE),
    ("the worker died, and is there", CHOSEN, [(NOTICE, DIED, 2), (REMARK, "Ready: nano on CPU", 1)], DIED, NOTICE),
    ("the worker died long ago", {**CHOSEN, "working": "Loading …"}, [(NOTICE, DIED, 60)], "Loading …", WORKING),
    ("told twice", CHOSEN, [(NOTICE, DIED, 2), (PROBLEM, DIED, 1)], DIED, NOTICE),
]


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("facts", "said", "text", "kind"), [s[1:] for s in SITUATIONS], ids=[s[0] for s in SITUATIONS])
def test_a_situation_makes_a_line(facts, said, text, kind):
    clock = Clock()
    status = StatusLine(clock)
    for told, message, ago in said:
        clock.now = 1000.0 - ago
        status.tell(told, message)
    clock.now = 1000.0
    line = status.line(Situation(**facts))
    assert text in line.text
    assert line.kind == kind
    assert line.dismissable == (kind in (NOTICE, PROBLEM, WARNING))


def test_what_ends_a_message():
    clock = Clock()
    status = StatusLine(clock)
    for kind in (NOTICE, PROBLEM, WARNING, REMARK):
        status.tell(kind, kind)
    situation = Situation(**CHOSEN)
    shown = []
    while status.line(situation).kind in (NOTICE, PROBLEM, WARNING, REMARK):
        shown.append(status.line(situation).text)
        status.dismiss()
    assert shown == [NOTICE, PROBLEM, WARNING, REMARK]
    # What the user does next ends what was said about the act before, not what happened by itself.
    for kind in (NOTICE, PROBLEM, WARNING, REMARK):
        status.tell(kind, kind)
    status.acted()
    assert status.line(situation).text == NOTICE
    status.dismiss()
    assert status.line(situation).kind == NEXT
    # Told twice, dismissed once.
    status.tell(NOTICE, DIED)
    status.tell(PROBLEM, DIED)
    status.dismiss()
    assert status.line(situation).kind == NEXT
    # The line says itself when it will change.
    assert status.secondsLeft() is None
    status.tell(REMARK, "Done.")
    left = status.secondsLeft()
    clock.now += left - 0.01
    assert status.line(situation).text == "Done."
    clock.now += 0.02
    assert status.line(situation).kind == NEXT
    status.tell(WARNING, "Large.")
    status.clear()
    assert status.line(situation).kind == NEXT


def test_a_volume_that_is_chosen_is_not_asked_for(open_panel, host, sphere):  # noqa: F811
    panel = open_panel()  # noqa: F811
    assert "Load a volume" in panel.status
    node = add_volume(host, sphere)
    host.show(node)
    event_loop.process_events()
    assert panel.find("volume").currentNode() is node  # loaded while the panel is open, and taken up
    panel.find("volume").setCurrentNode(None)
    assert "Choose a volume" in panel.status
    panel.find("volume").setCurrentNode(node)
    assert "Choose" not in panel.status
    assert "Mark the structure" in panel.status


def test_after_a_scene_was_reopened_no_volume_is_asked_for(panel, host, tmp_path):  # noqa: F811
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    save_scene(host, tmp_path)
    host.close_scene()
    assert "Choose" not in panel.status
    load_scene(host, tmp_path)
    event_loop.process_events()
    assert panel.volume is not None
    panel.settle()
    assert "Choose" not in panel.status


def test_turned_views_are_no_longer_called_tilted(open_panel, host, sphere):  # noqa: F811
    add_volume(host, sphere, GRIDS["oblique"])
    for view in host.views.values():
        view.show(host.scene.GetFirstNodeByName("image"))
        view.mrmlSliceNode().SetOrientation(view._orientation)
    panel = open_panel()  # noqa: F811
    assert "tilted" in panel.status
    panel.click("planes")
    assert "tilted" not in panel.status


@pytest.mark.parametrize(("key", "hint"), [(KEY.Key_P, "Click into"), (KEY.Key_B, "Drag a box")])
def test_a_tool_that_is_put_down_is_no_longer_explained(panel, key, hint):  # noqa: F811
    panel.press(key)
    panel.settle()
    panel.press(KEY.Key_Escape)
    panel.press(key)
    assert hint in panel.status
    panel.press(KEY.Key_Escape)
    assert hint not in panel.status


def test_a_painted_slice_that_became_a_prompt_is_told(panel, host):  # noqa: F811
    panel.click("point")
    panel.click("point")
    panel.settle()
    own = np.zeros((40, 48), bool)
    own[12:28, 18:34] = True
    panel.session._slices.writeSlice(panel.segment(), "k", 12, own)
    host.views["Red"].go_to(panel.world(20, 20, 12))
    panel.press(KEY.Key_M)
    assert "slice 12 is now a prompt" in panel.status


def test_the_slice_that_is_told_of_is_the_one_that_is_shown(panel, host):  # noqa: F811
    review = propagated(panel, host)
    panel.press(KEY.Key_N)
    click_strip(review.strip, 15)
    event_loop.process_events()
    assert panel.status.startswith("Slice 15: ")
    host.views["Red"].go_to(panel.world(20, 20, 9))
    assert panel.status.startswith("Slice 9: ")


def test_the_death_of_the_worker_is_told_until_it_was_read(host, sphere, make_own_driver, model_fields):
    host.show(add_volume(host, sphere))
    panel = Panel(host, make_own_driver, model_fields)  # noqa: F811
    try:
        panel.click("point")
        host.views["Red"].click(panel.world(26, 20, 12))
        panel.settle()
        client = panel.session._worker.driver
        lines = []
        panel.session.workingChanged.connect(lambda: lines.append((panel.session.working, panel.status)))
        os.kill(client.processId, signal.SIGKILL)
        event_loop.wait_until(lambda: ("Starting …" in [w for w, _ in lines]) and panel.session.working == "", 60)
        panel.settle()
        assert "restarted" in panel.status
        assert all("restarted" in status for working, status in lines if working)
        panel.click("dismiss")
        assert "restarted" not in panel.status
        assert not panel.find("dismiss").enabled
    finally:
        panel.widget.cleanup()
        panel.window.close()
