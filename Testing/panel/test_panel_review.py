"""Looking through results: the strip, clicks in it, and the way to the slice most in doubt; with the real worker."""

from __future__ import annotations

import numpy as np
import pytest
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from BioSAM2SlicerLib.session.SceneState import SceneState
from BioSAM2SlicerLib.ui.ReviewStrip import ReviewStrip, SliceState
from host import event_loop
from panel_helpers import add_volume, load_volume
from PySide6 import QtCore, QtTest
from test_panel_widget import open_panel, panel  # noqa: F401 - fixtures


@pytest.fixture
def strip(host):
    strip = ReviewStrip()
    strip.widget.resize(402, 52)
    strip.widget.show()
    event_loop.process_events()
    yield strip
    strip.widget.deleteLater()


def click_strip(strip, index):
    width = strip.widget.width - 2
    x = int(1 + (index + 0.5) * width / len(strip.states))
    QtTest.QTest.mouseClick(strip.widget, QtCore.Qt.MouseButton.LeftButton, pos=QtCore.QPoint(x, 20))
    event_loop.process_events()


def colours(strip, index, y):
    """The colour in the middle of a slice's column."""
    image = strip.widget.pixmap.toImage()
    return image.pixelColor(int(1 + (index + 0.4) * (strip.widget.width - 2) / len(strip.states)), y).name()


@pytest.mark.parametrize("count", [1, 7, 40, 400, 1500])
def test_each_place_on_the_strip_is_a_slice(strip, count):
    clicked = []
    strip.clicked.connect(clicked.append)
    strip.show([SliceState()] * count, None)
    found = [strip.indexAt(x) for x in range(402)]
    assert found[0] == 0
    assert found[-1] == count - 1
    assert found == sorted(found)
    for index in sorted({0, count // 2, count - 1}):
        click_strip(strip, index)
    assert len(clicked) == len({0, count // 2, count - 1})
    np.testing.assert_allclose(clicked, sorted({0, count // 2, count - 1}), atol=max(1, count // 300))


def test_an_empty_strip_takes_no_click(strip):
    clicked = []
    strip.clicked.connect(clicked.append)
    strip.show([], None)
    QtTest.QTest.mouseClick(strip.widget, QtCore.Qt.MouseButton.LeftButton, pos=QtCore.QPoint(20, 20))
    assert not clicked


def test_what_a_slice_is_can_be_seen_and_read(strip):
    states = [
        SliceState(),
        SliceState(prompted=True),
        SliceState(prompted=True, corrected=True),
        SliceState(corrected=True, locked=True),
        SliceState(propagated=True, sureness=0.1),
        SliceState(propagated=True, reviewed=True, sureness=0.9),
        SliceState(propagated=True, sureness=0.9, changed=0.75),
    ]
    strip.show(states, 0)
    bands = [colours(strip, index, 3) for index in range(7)]
    assert len(set(bands[:4])) == 4
    assert bands[4] == bands[5] not in bands[:4]
    # Who is unsure stands out: a tall bar.
    assert colours(strip, 4, 20) != colours(strip, 5, 20)
    assert colours(strip, 6, 20) == colours(strip, 4, 20)
    assert colours(strip, 5, 50) != colours(strip, 4, 50)
    words = (
        (6, "score 90 %, changed by 75 %"),
        (2, "corrected by you"),
        (3, "locked"),
        (4, "score 10 %, not looked at yet"),
        (5, "looked at"),
    )
    for index, said in words:
        QtTest.QTest.mouseMove(strip.widget, QtCore.QPoint(int((index + 0.5) * 400 / 7), 20))
        event_loop.process_events()
        assert f"Slice {index}: " in strip.widget.toolTip
        assert said in strip.widget.toolTip


def test_the_strip_follows_the_panels_width(strip):
    strip.show([SliceState(prompted=True)] * 10, None)
    strip.widget.resize(202, 52)
    event_loop.process_events()
    assert strip.widget.pixmap.width() == 202
    assert strip.indexAt(200) == 9


def propagated(panel, host, first=8, last=16):  # noqa: F811
    """A ball, marked by a box on its middle slice and carried through a few slices."""
    panel.click("box")
    host.views["Red"].drag(panel.world(17, 11, 12), panel.world(35, 29, 12))
    panel.settle()
    panel.press(QtCore.Qt.Key.Key_Escape)
    panel.find("first").value, panel.find("last").value = first, last
    panel.click("propagate")
    panel.settle()
    panel.widget._review.refresh()
    return panel.widget._review


def test_the_strip_shows_what_was_done_and_clicks_go_there(panel, host):  # noqa: F811
    review = propagated(panel, host)
    states = review.strip.states
    assert len(states) == 24
    assert [n for n, state in enumerate(states) if state.propagated] == list(range(8, 17))
    assert [n for n, state in enumerate(states) if state.prompted] == [12]
    assert all((state.sureness is not None) == state.propagated for state in states)
    click_strip(review.strip, 9)
    assert review.review.shown() == [9]
    assert review.strip.current == 9
    # Other views look along other axes and stay where they are.
    geometry = host.views["Yellow"].mrmlSliceNode()
    before = geometry.GetSliceOffset()
    click_strip(review.strip, 15)
    assert geometry.GetSliceOffset() == before
    assert review.review.shown() == [15]


def wait_for_the_look(review, index):
    event_loop.wait_until(lambda: review.strip.states[index].reviewed, 10, "the look")


def test_n_visits_each_slice_once_the_least_sure_first(panel, host):  # noqa: F811
    review = propagated(panel, host)
    scores = {n: s.sureness for n, s in enumerate(review.strip.states) if s.wantsLook}
    visited = []
    for _ in scores:
        panel.press(QtCore.Qt.Key.Key_N)
        visited.append(review.review.shown()[0])
        assert str(visited[-1]) in panel.status
    assert visited == sorted(scores, key=lambda index: (scores[index], index))
    # Gone through in a hurry nothing was looked at; and N begins anew.
    assert not any(review.strip.states[index].reviewed for index in visited)
    for index in visited:
        panel.press(QtCore.Qt.Key.Key_N)
        assert review.review.shown() == [index]
        wait_for_the_look(review, index)
    assert not panel.find("next").enabled
    panel.press(QtCore.Qt.Key.Key_N)
    assert "has been looked at" in panel.status
    # Undone and done again, what was looked at stays so; carried through anew, everything is new.
    panel.session.undo()
    assert not any(state.propagated for state in review.review.slices(panel.segment()))
    panel.session.redo()
    panel.settle()
    assert review.review.next(panel.segment()) is None
    panel.click("propagate")
    panel.settle()
    assert review.review.next(panel.segment()) is not None


def test_slices_beyond_the_object_need_no_look(panel, host):  # noqa: F811
    """A small object in a long volume; what a gap in it, or what a correction emptied, does."""
    panel.find("untilGone").checked = False
    review = propagated(panel, host, 0, 23)
    segment = panel.segment()
    used = np.flatnonzero(panel.voxels().any(axis=(1, 2)))
    states = review.review.slices(segment)
    assert all(state.propagated for state in states)
    assert len(used) < 20
    assert {n for n, state in enumerate(states) if state.beyond} == set(range(24)) - set(range(used[0], used[-1] + 1))
    left = sum(state.wantsLook for state in states)
    assert left == used[-1] - used[0] + 1 - sum(state.reviewed for state in states)
    assert f"{left} slices" in panel.find("left").text
    # What is painted out there makes the slices between it and the object wanted.
    own = np.zeros((40, 48), bool)
    own[10:20, 10:20] = True
    panel.session._slices.writeSlice(segment, "k", 23, own)
    event_loop.process_events()
    states = review.review.slices(segment)
    assert not any(state.beyond for state in states[used[0] :])
    assert states[22].wantsLook


def test_a_slice_that_stays_in_view_has_been_looked_at(panel, host):  # noqa: F811
    review = propagated(panel, host)
    host.views["Red"].go_to(panel.world(20, 20, 10))
    event_loop.wait_until(lambda: review.strip.states[10].reviewed, 10, "the look")
    assert not review.strip.states[11].reviewed


def kept_in_the_scene(panel):  # noqa: F811
    """What the parameter node tells of the segment's slices."""
    scene = SceneState()
    scene.load(panel.session.parameters.session, VolumeGeometry(panel.volume).shape)
    return scene.reviewed(panel.segment())


def test_what_was_looked_at_is_kept_with_the_scene(panel, host):  # noqa: F811
    review = propagated(panel, host)
    segment = panel.segment()
    panel.press(QtCore.Qt.Key.Key_N)
    [first] = review.review.shown()
    wait_for_the_look(review, first)
    before = review.review.slices(segment)
    results = kept_in_the_scene(panel)
    assert results[first].seen
    for index, state in enumerate(before):
        if state.propagated:
            assert results[index].sureness == pytest.approx(state.sureness, abs=1e-3)


def test_what_a_propagation_changed_is_in_doubt_and_forgotten_with_the_segment(panel, host):  # noqa: F811
    review = propagated(panel, host)
    segment = panel.segment()
    before = panel.voxels()
    assert {state.changed for state in review.review.slices(segment)} == {None}
    panel.click("point")
    panel.click("sign")
    host.views["Red"].go_to(panel.world(20, 20, 14))
    host.views["Red"].click(panel.world(26, 20, 14))
    panel.settle()
    panel.press(QtCore.Qt.Key.Key_Escape)
    panel.click("propagate")
    panel.settle()
    after = panel.voxels()
    states = review.review.slices(segment)
    for index in range(8, 17):
        total = before[index].sum() + after[index].sum()
        dice = 2 * (before[index] & after[index]).sum() / total if total else 1
        assert states[index].changed == pytest.approx(1 - dice)
        assert states[index].doubt == pytest.approx(1 - states[index].sureness * dice)
    assert states[14].changed > 0
    assert kept_in_the_scene(panel)[14].change == pytest.approx(states[14].changed, abs=1e-4)
    panel.session.clear(segment)
    propagated(panel, host)
    assert {state.changed for state in review.review.slices(segment)} == {None}


def test_what_the_user_drew_needs_no_look(panel, host):  # noqa: F811
    review = propagated(panel, host)
    index = review.review.next(panel.segment())
    own = np.zeros((40, 48), bool)
    own[5:9, 5:9] = True
    panel.session._slices.writeSlice(panel.segment(), "k", index, own)
    assert review.review.next(panel.segment()) != index
    event_loop.wait_until(lambda: review.strip.states[index].corrected, 10, "the strip")


def test_without_anything_there_is_nothing_to_review(open_panel, host, sphere):  # noqa: F811
    panel = open_panel()  # noqa: F811
    panel.press(QtCore.Qt.Key.Key_N)
    assert not panel.find("next").enabled
    host.show(add_volume(host, sphere))
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    panel.press(QtCore.Qt.Key.Key_N)
    assert not panel.widget._review.strip.states


def test_slices_that_a_wrong_click_spoils_come_first(open_panel, host, tumour, shared_data):  # noqa: F811
    """The brain tumour: a negative click in its middle, and N goes to the slices that it spoiled before any other."""
    label = load_volume(host, shared_data / "mr-brain-tumour" / "label.nrrd")
    truth = host.slicer.util.arrayFromVolume(label).astype(bool)
    host.scene.RemoveNode(label)
    slices = np.flatnonzero(truth.any(axis=(1, 2)))
    middle, wrong = int(truth.sum(axis=(1, 2)).argmax()), int(slices[-1])
    panel = open_panel()  # noqa: F811
    panel.find("volume").setCurrentNode(tumour)
    panel.click("box")
    rows, columns = np.nonzero(truth[middle])
    host.views["Red"].drag(
        panel.world(columns.min() - 2, rows.min() - 2, middle), panel.world(columns.max() + 2, rows.max() + 2, middle)
    )
    panel.settle()
    panel.find("first").value, panel.find("last").value = int(slices[0]) - 1, int(slices[-1]) + 1
    panel.click("propagate")
    panel.settle()
    before = panel.voxels()
    panel.click("point")
    panel.click("sign")
    rows, columns = np.nonzero(truth[wrong])
    inmost = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    host.views["Red"].click(panel.world(columns[inmost], rows[inmost], wrong))
    panel.settle()
    panel.press(QtCore.Qt.Key.Key_Escape)
    host.views["Red"].go_to(panel.world(0, 0, 0))
    panel.click("propagate")
    panel.settle()
    after = panel.voxels()

    def dice(a, b):
        return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)

    spoiled = {int(k) for k in slices if dice(after[k], truth[k]) < dice(before[k], truth[k]) - 0.02}
    assert spoiled, "the click spoiled nothing"
    visited = []
    for _ in spoiled:
        panel.press(QtCore.Qt.Key.Key_N)
        visited.append(panel.widget._review.review.shown()[0])
    assert set(visited) == spoiled
