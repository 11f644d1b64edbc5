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
        SliceState(propagated=True, sureness=0.1, doubt=0.9),
        SliceState(propagated=True, reviewed=True, sureness=0.9),
        SliceState(propagated=True, sureness=0.9, changed=0.75, doubt=0.8),
    ]
    strip.show(states, 0)
    bands = [colours(strip, index, 3) for index in range(7)]
    assert len(set(bands[:4])) == 4
    assert bands[4] == bands[5] not in bands[:4]
    # What is far from all that the user knows stands out: a tall bar.
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


def in_doubt(review):
    """Slices that are in doubt, and how much."""
    return {n: state.doubt for n, state in enumerate(review.strip.states) if state.doubt is not None}


def test_n_visits_each_slice_once_the_farthest_from_all_that_is_known_first(panel, host):  # noqa: F811
    review = propagated(panel, host)
    doubts, states = in_doubt(review), review.strip.states
    used = np.flatnonzero(panel.voxels().any(axis=(1, 2)))
    known = {12, *(n for n, state in enumerate(states) if state.reviewed)}
    assert set(doubts) == set(range(max(8, used[0] - 1), min(16, used[-1] + 1) + 1)) - known

    def farthest(n):
        return (-min(abs(n - k) for k in known), states[n].sureness, n)

    # Nobody is so slow that a slice counts as looked at, however busy the computer is.
    usual = review._lookTimer.interval
    review._lookTimer.interval = 10**7
    visited = []
    for _ in doubts:
        panel.press(QtCore.Qt.Key.Key_N)
        visited.append(review.review.shown()[0])
        assert str(visited[-1]) in panel.status
    assert visited == sorted(doubts, key=farthest)
    review._lookTimer.interval = usual
    # Gone through in a hurry nothing was looked at; and N begins anew. What was looked at is known.
    assert not any(review.strip.states[index].reviewed for index in visited)
    while left := sorted(set(doubts) - known, key=farthest):
        panel.press(QtCore.Qt.Key.Key_N)
        [index] = review.review.shown()
        assert index == left[0]
        wait_for_the_look(review, index)
        known.add(index)
        assert set(in_doubt(review)) == set(doubts) - known
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
    # The first empty one at each end is looked at as well, whether the object goes on there.
    wanted = set(range(used[0] - 1, used[-1] + 2)) - {12} - {n for n, state in enumerate(states) if state.reviewed}
    assert {n for n, state in enumerate(states) if state.doubt is not None} == wanted
    assert f"{len(wanted)} slices" in panel.find("left").text
    # What is painted out there makes the slices between it and the object wanted.
    own = np.zeros((40, 48), bool)
    own[10:20, 10:20] = True
    panel.session._slices.writeSlice(segment, "k", 23, own)
    event_loop.process_events()
    states = review.review.slices(segment)
    assert not any(state.beyond for state in states[used[0] :])
    assert states[22].doubt is not None
    assert states[23].doubt is None


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


def test_what_a_propagation_changed_is_told_and_forgotten_with_the_segment(panel, host):  # noqa: F811
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


def test_a_corrected_slice_and_its_neighbours_come_after_those_far_from_it(open_panel, host, tumour, shared_data):  # noqa: F811
    """The brain tumour: after a correction by key and click at one end, N goes to the other end."""
    label = load_volume(host, shared_data / "mr-brain-tumour" / "label.nrrd")
    truth = host.slicer.util.arrayFromVolume(label).astype(bool)
    host.scene.RemoveNode(label)
    slices = np.flatnonzero(truth.any(axis=(1, 2)))
    middle, corrected = int(slices[len(slices) // 2]), int(slices[-1])
    panel = open_panel()  # noqa: F811
    panel.find("volume").setCurrentNode(tumour)
    panel.press(QtCore.Qt.Key.Key_B)
    rows, columns = np.nonzero(truth[middle])
    host.views["Red"].drag(
        panel.world(columns.min() - 2, rows.min() - 2, middle), panel.world(columns.max() + 2, rows.max() + 2, middle)
    )
    panel.settle()
    panel.find("first").value, panel.find("last").value = int(slices[0]), int(slices[-1])
    panel.press(QtCore.Qt.Key.Key_P)
    rows, columns = np.nonzero(truth[corrected])
    inmost = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    host.views["Red"].go_to(panel.world(0, 0, corrected))
    host.views["Red"].click(panel.world(columns[inmost], rows[inmost], corrected))
    panel.settle()
    panel.press(QtCore.Qt.Key.Key_Escape)
    host.views["Red"].go_to(panel.world(0, 0, 0))
    panel.click("propagate")
    panel.settle()
    review = panel.widget._review
    review.refresh()
    used = np.flatnonzero(panel.voxels().any(axis=(1, 2)))
    doubts = in_doubt(review)
    assert not {middle, corrected} & set(doubts)
    panel.press(QtCore.Qt.Key.Key_N)
    [first] = review.review.shown()
    assert first in (slices[0], used[0] - 1)
    distances = {n: min(abs(n - middle), abs(n - corrected)) for n in doubts}
    assert distances[first] == max(distances.values())
