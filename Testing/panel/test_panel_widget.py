"""The panel, used with mouse and keys in the real scene, with the real worker."""

from __future__ import annotations

import os

import numpy as np
import pytest
from biosam2 import Box, Mask
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from BioSAM2SlicerLib.ui.Widget import Widget
from host import event_loop
from panel_helpers import add_volume, load_scene, save_scene
from PySide6 import QtCore, QtTest, QtWidgets


class Panel:
    """The module's panel in a window of its own."""

    def __init__(self, host, make_driver, model_fields):
        import qt
        from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

        class BioSAM2SlicerLogic(ScriptedLoadableModuleLogic):
            pass

        self.host = host
        self.window = qt.QWidget()
        self.layout = qt.QVBoxLayout(self.window)
        self.logic = BioSAM2SlicerLogic()
        self.widget = Widget(self.layout, self.logic.getParameterNode, make_driver, model_fields)
        self.session = self.widget.session
        self.window.resize(420, 760)
        self.window.show()
        self.window.activateWindow()
        self.widget.enter()
        event_loop.process_events()

    def find(self, name, kind=QtWidgets.QWidget):
        found = self.window.findChild(kind, name)
        assert found is not None, name
        return found

    def click(self, name):
        button = self.find(name)
        self.unfold(button)
        assert QtWidgets.QWidget.isEnabled(button), name
        QtTest.QTest.mouseClick(button, QtCore.Qt.MouseButton.LeftButton)
        event_loop.process_events()

    def unfold(self, widget):
        """As a user: the section that holds it is opened."""
        parent = QtWidgets.QWidget.parentWidget(widget)
        while parent is not None:
            if getattr(parent, "slicer_name", "") == "ctkCollapsibleButton":
                parent.collapsed = False
            parent = QtWidgets.QWidget.parentWidget(parent)
        event_loop.process_events()

    def press(self, key, modifier=QtCore.Qt.KeyboardModifier.NoModifier):
        QtTest.QTest.keyClick(self.window, key, modifier)
        event_loop.process_events()

    @property
    def status(self):
        return self.find("status").text

    @property
    def volume(self):
        return self.session.volumeNode

    def world(self, *ijk):
        return VolumeGeometry(self.volume).worldFromIjk(ijk)

    def settle(self):
        event_loop.wait_until(lambda: not self.session.busy, 120, "the worker to be done")

    def segment(self):
        return self.widget._editor.currentSegmentID()

    def voxels(self, segment=None):
        array = self.host.slicer.util.arrayFromSegmentBinaryLabelmap(
            self.session.segmentationNode, segment or self.segment(), self.volume
        )
        return np.zeros(VolumeGeometry(self.volume).shape, bool) if array is None else array.astype(bool)

    def prompts(self):
        return list(self.session.prompts.prompts().values())

    def close(self):
        """Slicer quits, or unloads the module."""
        self.widget.cleanup()
        self.window.close()
        self.window.deleteLater()
        event_loop.process_events()


@pytest.fixture
def open_panel(host, make_driver, model_fields):
    panels = []

    def make():
        panels.append(Panel(host, make_driver, model_fields))
        return panels[-1]

    yield make
    for panel in panels:
        panel.close()


@pytest.fixture
def panel(open_panel, host, sphere):
    host.show(add_volume(host, sphere))
    return open_panel()


def test_a_radiologists_first_minute(panel, host):
    """Volume, point tool, a click, a mask; a box for a second segment; propagate; undo."""
    assert panel.volume is None  # no segmentation yet
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    panel.click("point")
    assert panel.find("point").checked
    assert panel.session.segmentationNode.GetName() == "image segmentation"
    first = panel.segment()
    host.views["Red"].click(panel.world(26, 20, 12))
    [placed] = panel.prompts()
    assert placed.segmentId == first
    panel.settle()
    assert panel.session.axis == "k"
    assert panel.voxels()[12].any()
    assert panel.status.startswith(("Ready: nano", "Click into the structure"))

    second = panel.session.segmentationNode.GetSegmentation().AddEmptySegment()
    panel.press(QtCore.Qt.Key.Key_E)
    assert panel.segment() == second
    panel.press(QtCore.Qt.Key.Key_B)
    host.views["Red"].drag(panel.world(18, 12, 12), panel.world(34, 28, 12))
    panel.settle()
    boxes = [p for p in panel.prompts() if isinstance(p.prompt, Box)]
    assert [box.segmentId for box in boxes] == [second]
    assert panel.voxels(second)[12].any()

    panel.find("first").value = 10
    panel.find("last").value = 14
    panel.find("all").checked = True
    panel.click("propagate")
    assert panel.session.running
    panel.settle()
    assert panel.session.resultSlices(first) == set(range(10, 15))
    assert panel.session.resultSlices(second) == set(range(10, 15))
    both = panel.voxels(first), panel.voxels(second)
    panel.press(QtCore.Qt.Key.Key_Z, QtCore.Qt.KeyboardModifier.ControlModifier)
    assert not panel.voxels(second)[13].any()
    panel.press(
        QtCore.Qt.Key.Key_Z, QtCore.Qt.KeyboardModifier.ControlModifier | QtCore.Qt.KeyboardModifier.ShiftModifier
    )
    panel.settle()
    np.testing.assert_array_equal(panel.voxels(first), both[0])
    np.testing.assert_array_equal(panel.voxels(second), both[1])


def test_the_view_that_is_clicked_decides_the_axis(panel, host):
    panel.click("point")
    host.views["Yellow"].click(panel.world(26, 20, 12))
    panel.settle()
    assert panel.session.axis == "i"
    assert panel.session.promptedSlices(panel.segment()) == [26]


def test_keys_take_up_tools_and_put_them_down(panel, host):
    panel.press(QtCore.Qt.Key.Key_P)
    assert panel.find("point").checked
    assert "+" in panel.find("sign").text
    panel.press(QtCore.Qt.Key.Key_T)
    assert "−" in panel.find("sign").text
    host.views["Red"].click(panel.world(5, 5, 12))
    assert [placed.prompt.positive for placed in panel.prompts()] == [False]
    panel.press(QtCore.Qt.Key.Key_Escape)
    assert not panel.find("point").checked
    host.views["Red"].click(panel.world(8, 8, 12))
    assert len(panel.prompts()) == 1
    panel.press(QtCore.Qt.Key.Key_V)
    assert not panel.session.prompts.pointsNode(panel.segment(), False).GetDisplayVisibility()
    panel.press(QtCore.Qt.Key.Key_R)
    assert not panel.prompts()
    panel.settle()


def test_keys_are_slicers_when_the_panel_is_left(panel):
    panel.press(QtCore.Qt.Key.Key_P)
    panel.widget.exit()
    assert not panel.find("point").checked
    panel.press(QtCore.Qt.Key.Key_P)
    assert not panel.find("point").checked
    import qt

    event_loop.process_events()
    assert not panel.window.findChildren(qt.QShortcut)
    panel.widget.enter()
    panel.press(QtCore.Qt.Key.Key_P)
    assert panel.find("point").checked


def test_another_mouse_mode_puts_the_point_tool_down(panel, host):
    panel.click("point")
    interaction = host.core.app_logic.GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert not panel.find("point").checked


def test_what_is_painted_becomes_a_prompt(panel, host):
    panel.click("point")
    panel.click("point")
    own = np.zeros((40, 48), bool)
    own[12:28, 18:34] = True
    panel.session._slices.writeSlice(panel.segment(), "k", 12, own)
    host.views["Red"].go_to(panel.world(20, 20, 12))
    panel.find("show").setFocus()
    panel.press(QtCore.Qt.Key.Key_M)
    assert list(panel.session.state.prompts(panel.segment())) == [Mask(12, own)]


def test_without_a_volume_nothing_can_be_done(open_panel):
    panel = open_panel()
    assert not panel.find("point").enabled
    assert not panel.find("propagate").enabled
    panel.press(QtCore.Qt.Key.Key_P)
    assert "Choose a volume" in panel.status


def test_closing_the_scene_in_the_middle(panel, host):
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    panel.press(QtCore.Qt.Key.Key_Space, QtCore.Qt.KeyboardModifier.ShiftModifier)
    assert panel.session.running
    host.close_scene()
    assert panel.volume is None
    assert not panel.session.running
    assert not panel.find("point").enabled
    host.show(add_volume(host, np.zeros((5, 6, 7), np.int16), name="next"))
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("next"))
    panel.click("point")
    assert panel.session.volumeNode.GetName() == "next"
    assert not panel.prompts()


def test_the_volume_is_deleted_in_the_middle(panel, host):
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    panel.press(QtCore.Qt.Key.Key_Space, QtCore.Qt.KeyboardModifier.ShiftModifier)
    host.scene.RemoveNode(panel.volume)
    event_loop.process_events()
    assert panel.volume is None
    assert not panel.session.running


def test_settings_are_kept_in_the_scene(panel, open_panel):
    panel.find("window").currentIndex = 1
    panel.find("device").currentIndex = 1
    assert (panel.session.parameters.window, panel.session.parameters.device) == ("auto", "cpu")
    again = open_panel()
    assert again.find("window").currentData == "auto"
    assert again.find("device").currentText == "CPU"


def test_a_tilted_view_says_why_it_takes_no_box(panel, host):
    panel.click("box")
    node = host.views["Red"].mrmlSliceNode()
    matrix = node.GetSliceToRAS()
    matrix.SetElement(2, 0, 0.3)
    node.UpdateMatrices()
    host.views["Red"].drag(panel.world(18, 12, 12), panel.world(34, 28, 12))
    assert "tilted" in panel.status
    assert not panel.prompts()


def test_the_panel_leaves_no_observer_behind(host, sphere, make_driver, model_fields):
    host.show(add_volume(host, sphere))

    def observers():
        interactor = host.views["Red"].sliceView().interactor()
        return sum(interactor.HasObserver(event) for event in ("LeftButtonPressEvent", "MouseMoveEvent"))

    before = observers()
    panel = Panel(host, make_driver, model_fields)
    panel.click("box")
    panel.widget.cleanup()
    event_loop.process_events()
    assert observers() == before
    panel.window.deleteLater()
    host.scene.RemoveNode(host.scene.GetFirstNodeByName("image"))


def test_the_module_file_opens_and_closes_the_panel(host, sphere, monkeypatch):
    import qt

    import BioSAM2Slicer

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    host.show(add_volume(host, sphere))
    parent = qt.QWidget()
    qt.QVBoxLayout(parent)
    widget = BioSAM2Slicer.BioSAM2SlicerWidget(parent)
    widget.setup()
    widget.enter()
    widget.panel.actions.toggle("point")
    client = widget.panel.session._worker.driver
    event_loop.wait_until(lambda: client.state == "ready")
    pid = client.processId
    widget.exit()
    widget.cleanup()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    parent.deleteLater()


def test_after_a_reload_the_panel_is_alive(host, sphere, monkeypatch):
    """Slicer calls setup() again, and not enter()."""
    import qt

    import BioSAM2Slicer

    node = add_volume(host, sphere)
    host.show(node)
    parent = qt.QWidget()
    qt.QVBoxLayout(parent)
    monkeypatch.setattr(host.slicer.util, "mainWindow", lambda: parent, raising=False)
    monkeypatch.setattr(host.slicer.util, "selectedModule", lambda: "BioSAM2Slicer", raising=False)
    widget = BioSAM2Slicer.BioSAM2SlicerWidget(parent)
    widget.setup()
    widget.panel._volumeSelector.setCurrentNode(node)
    assert widget.panel._segment()
    widget.cleanup()
    parent.deleteLater()


def test_without_slicers_window_the_panel_opens_and_closes(host, make_driver, model_fields, monkeypatch):
    """As in Slicer's own test of every module, which runs without a window and so without a layout."""
    monkeypatch.setattr(type(host.slicer.app), "layoutManager", lambda _self: None)
    panel = Panel(host, make_driver, model_fields)
    panel.widget.cleanup()
    panel.window.deleteLater()


def test_a_new_segmentation_gets_a_segment_of_its_own(panel, host):
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    first, drawn = panel.session.segmentationNode, panel.voxels()
    assert drawn[12].any()
    panel.find("segmentation").setCurrentNode(None)
    panel.press(QtCore.Qt.Key.Key_R)  # nothing of the first segmentation is taken for the new one's
    panel.click("point")
    second = panel.session.segmentationNode
    assert second is not first
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    assert second.GetSegmentation().GetSegment(panel.segment()) is not None
    assert panel.voxels()[12].any()
    panel.find("segmentation").setCurrentNode(first)
    np.testing.assert_array_equal(panel.voxels(first.GetSegmentation().GetNthSegmentID(0)), drawn)


def test_another_segmentation_is_seen_without_the_one_before(panel, host):
    """And the first one again, prompts and masks, when one comes back to it."""
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    first = panel.session.segmentationNode
    points = host.scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert first.GetDisplayVisibility()
    assert points.GetDisplayVisibility()
    panel.find("segmentation").setCurrentNode(None)
    assert not first.GetDisplayVisibility()
    assert not points.GetDisplayVisibility()
    panel.click("point")
    second = panel.session.segmentationNode
    assert second is not first
    assert second.GetDisplayVisibility()
    assert not points.GetDisplayVisibility()
    panel.find("segmentation").setCurrentNode(first)
    assert first.GetDisplayVisibility()
    assert points.GetDisplayVisibility()
    assert not second.GetDisplayVisibility()


@pytest.mark.parametrize("sure", [False, True])
def test_another_place_asks_before_what_can_be_undone_is_dropped(host, sphere, monkeypatch, sure):
    import qt

    import BioSAM2Slicer

    asked = []

    def confirm(text, **_more):
        asked.append(text)
        return sure

    monkeypatch.setattr(host.slicer.util, "confirmOkCancelDisplay", confirm)
    host.show(add_volume(host, sphere))
    parent = qt.QWidget()
    qt.QVBoxLayout(parent)
    widget = BioSAM2Slicer.BioSAM2SlicerWidget(parent)
    widget.setup()
    widget.enter()
    widget.panel._segment()
    session = widget.panel.session
    widget.onChangePlace()
    assert not asked
    assert widget.panel is None
    widget.installPanel.cleanup()
    widget.installPanel = None
    widget.showPanel()
    widget.enter()
    session = widget.panel.session
    session.addBox(widget.panel._segment(), (18, 12, 12), (34, 28, 12), "k")
    assert session.canUndo
    widget.onChangePlace()
    assert len(asked) == 1
    assert "undone" in asked[0]
    assert (widget.panel is None) is sure
    assert session.canUndo is not sure
    widget.cleanup()
    parent.deleteLater()


@pytest.mark.parametrize("by_key", [True, False])
def test_the_point_tool_follows_the_segment_that_is_chosen(panel, host, by_key):
    """By E, or by the editor's button Add: the editor's own signal tells of neither."""
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    panel.click("point")
    first = panel.segment()
    second = panel.session.segmentationNode.GetSegmentation().AddEmptySegment()
    if by_key:
        panel.press(QtCore.Qt.Key.Key_E)
    else:
        panel.widget._editor.mrmlSegmentEditorNode().SetSelectedSegmentID(second)
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    assert [prompt.segmentId for prompt in panel.prompts()] == [second]
    assert panel.voxels(second)[12].any()
    assert not panel.voxels(first).any()


def test_a_scene_is_opened_while_the_panel_is_open(panel, host, tmp_path):
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    before = panel.voxels()
    save_scene(host, tmp_path)
    host.close_scene()
    event_loop.process_events()
    assert panel.session.prompts is None
    load_scene(host, tmp_path)
    event_loop.process_events()
    assert panel.find("volume").currentNode() is panel.volume is not None
    assert panel.widget._editor.segmentationNode() is panel.session.segmentationNode
    np.testing.assert_array_equal(panel.voxels(), before)
    [prompt] = panel.prompts()
    assert prompt.segmentId == panel.segment()
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 13))
    panel.settle()
    assert panel.voxels()[13].any()


def test_the_editor_keeps_to_the_sessions_segmentation_when_others_come(panel, host):
    """The real editor widget takes up another one by itself at the end of a batch."""
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    panel.click("point")
    segmentation = panel.session.segmentationNode
    host.scene.StartState(host.slicer.vtkMRMLScene.BatchProcessState)
    other = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    panel.widget._editor.mrmlSegmentEditorNode().SetAndObserveSegmentationNode(other)
    host.scene.EndState(host.slicer.vtkMRMLScene.BatchProcessState)
    assert panel.widget._editor.segmentationNode() is segmentation is panel.session.segmentationNode


def test_choosing_another_place_says_that_steps_are_lost(host, sphere, monkeypatch, make_driver, model_fields):
    import qt

    host.show(add_volume(host, sphere))
    asked, answers, changed = [], [False, True], []

    def confirm(text, **_named):
        asked.append(text)
        return answers.pop(0)

    monkeypatch.setattr(host.slicer.util, "confirmOkCancelDisplay", confirm)
    panel = Panel(host, make_driver, model_fields)
    panel.widget.cleanup()
    panel.widget = Widget(
        panel.layout, panel.logic.getParameterNode, make_driver, model_fields, lambda: changed.append(1)
    )
    panel.session = panel.widget.session
    panel.widget.enter()
    event_loop.process_events()
    assert isinstance(panel.find("place"), qt.QPushButton)
    panel.click("place")  # nothing was done yet: nothing is asked
    assert (asked, changed) == ([], [1])
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    panel.click("place")
    assert changed == [1]
    assert "can no longer be undone" in asked[0]
    panel.click("place")
    assert changed == [1, 1]
    panel.widget.cleanup()
    panel.window.deleteLater()
