"""The Segment Editor's effect, used with mouse and keys: the module's session and tools, for what the editor shows."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from BioSAM2SlicerLib.ui.Widget import Widget
from host import event_loop
from panel_helpers import add_volume, load_bundle, save_bundle
from PySide6 import QtCore, QtWidgets
from segment_editor_window import Window
from test_panel_sample import sample_data  # noqa: F401

KEY, MODIFIER = QtCore.Qt.Key, QtCore.Qt.KeyboardModifier


@pytest.fixture
def slicer_window(host, make_driver, model_fields):
    """Slicer, started with the module that is set up."""
    import BioSAM2Slicer

    class Module(BioSAM2Slicer.BioSAM2SlicerWidget):
        """The module, with the worker that is kept."""

        def setup(self):
            self.logic = BioSAM2Slicer.BioSAM2SlicerLogic()
            self.panel = Widget(self.layout, self.logic.getParameterNode, make_driver, model_fields)

    BioSAM2Slicer.newEffect().self().register()
    window = Window(host, Module)
    yield window
    window.close()


@pytest.fixture
def window(slicer_window, host, sphere):
    """The Segment Editor on the ball, with two segments."""
    volume = add_volume(host, sphere)
    host.show(volume)
    slicer_window.open("SegmentEditor")
    segmentation = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "work")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer_window.edit(volume, segmentation)
    slicer_window.segments("a", "b")
    slicer_window.editor.setCurrentSegmentID("a")
    return slicer_window


def test_a_click_through_the_effect_makes_a_mask(window, host):
    window.choose()
    assert window.find("point").checked
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    assert window.voxels("a")[12].any()
    assert not window.voxels("b").any()
    [placed] = window.prompts()
    assert placed.segmentId == "a"


def test_box_scribble_and_sign_by_keys(window, host):
    window.choose()
    window.press(KEY.Key_B)
    assert window.find("box").checked
    host.views["Red"].drag(window.world(18, 12, 12), window.world(34, 28, 12))
    window.settle()
    window.press(KEY.Key_S)
    window.press(KEY.Key_T)
    assert "−" in window.find("sign").text
    host.views["Red"].draw([window.world(*ijk) for ijk in ((5, 5, 12), (9, 5, 12), (14, 6, 12))])
    window.settle()
    assert [type(placed.prompt).__name__ for placed in window.prompts()] == ["Box", "Stroke"]
    assert not window.prompts()[1].prompt.positive
    assert window.voxels("a")[12].any()
    host.views["Red"].point(*host.views["Red"].xy(window.world(9, 5, 12)))
    window.press(KEY.Key_Delete)
    window.settle()
    assert [type(placed.prompt).__name__ for placed in window.prompts()] == ["Box"]


def test_propagate_stop_and_status(window, host):
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    assert window.find("status").text.startswith(("Ready: nano", "Click into the structure"))
    window.press(KEY.Key_Space, MODIFIER.ShiftModifier)
    assert window.session.running
    assert window.find("stop").enabled
    assert "(Esc)" not in window.find("stop").text
    window.settle()
    assert window.session.resultSlices("a") >= set(range(10, 15))
    assert window.voxels("a")[10].any()
    window.click("propagate")
    assert window.session.running
    window.click("stop")
    window.settle()
    assert not window.session.running


def test_review_paint_and_visibility_by_keys(window, host):
    """Slices count as looked at through this door too, and N goes to the next one in doubt."""
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    points = window.session.prompts.pointsNode("a", True)
    window.press(KEY.Key_V)
    assert not points.GetDisplayVisibility()
    assert not window.find("show").checked
    window.click("show")
    assert points.GetDisplayVisibility()
    window.press(KEY.Key_Space, MODIFIER.ShiftModifier)
    window.settle()
    review = window.panel._review
    review.refresh()
    left, before = review.left, review.review.shown()
    window.press(KEY.Key_N)
    assert review.review.shown() != before
    event_loop.wait_until(lambda: review.left < left, 10, "the slice to be looked at")
    own = window.voxels("a")
    own[3, 4:9, 4:9] = True
    host.slicer.util.updateSegmentBinaryLabelmapFromArray(
        own.astype(np.uint8), window.editor.segmentationNode(), "a", window.editor.sourceVolumeNode()
    )
    host.views["Red"].go_to(window.world(6, 6, 3))
    window.press(KEY.Key_M)
    window.settle()
    assert 3 in window.session.promptedSlices("a")


def test_the_segment_chosen_in_the_editor_is_the_target(window, host):
    window.choose()
    assert window.panel.segment == "a"
    window.press(KEY.Key_W)  # the Segment Editor's key
    assert window.panel.segment == "b"
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    assert [placed.segmentId for placed in window.prompts()] == ["b"]
    assert window.voxels("b").any()
    assert not window.voxels("a").any()
    window.press(KEY.Key_Q)
    window.press(KEY.Key_E)  # the panel's key
    assert window.editor.currentSegmentID() == window.panel.segment == "b"


def test_the_module_shows_the_same_session(window, host):
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    mask = window.voxels("a")
    volume, segmentation = window.editor.sourceVolumeNode(), window.editor.segmentationNode()
    session = window.session
    window.open("BioSAM2Slicer")
    panel = host.slicer.util.getModuleWidget("BioSAM2Slicer").parent
    assert session is window.session
    assert session.volumeNode is volume
    assert session.segmentationNode is segmentation
    assert panel.findChild(QtWidgets.QWidget, "volume").currentNode() is volume
    assert panel.findChild(QtWidgets.QWidget, "segmentation").currentNode() is segmentation
    assert window.panel.segment == "a"
    assert len(window.prompts()) == 1
    window.press(KEY.Key_Z, MODIFIER.ControlModifier)  # the panel's keys are back
    window.settle()
    assert not window.voxels("a").any()
    window.press(KEY.Key_Z, MODIFIER.ControlModifier | MODIFIER.ShiftModifier)
    window.settle()
    np.testing.assert_array_equal(window.voxels("a"), mask)


@pytest.mark.parametrize("leave", ["Escape", "another effect", "module", "none"])
def test_the_tool_is_put_down_with_the_effect(window, host, leave):
    interaction = host.core.app_logic.GetInteractionNode()
    other_effect(window, "Other")
    for tool in ("point", "box"):
        window.choose()
        assert window.mode == interaction.Place
        if tool == "box":
            window.press(KEY.Key_B)
        assert window.panel.actions.tools.tool == tool
        {
            "Escape": lambda: window.press(KEY.Key_Escape),
            "another effect": lambda: window.choose("Other"),
            "module": lambda: window.open("BioSAM2Slicer"),
            "none": lambda: window.editor.setActiveEffectByName(""),
        }[leave]()
        event_loop.process_events()
        assert window.panel.actions.tools.tool == "none"
        assert window.mode == interaction.ViewTransform
        assert not window.options.findChildren(QtWidgets.QPushButton)
        host.views["Red"].click(window.world(26, 20, 12))
        host.views["Red"].drag(window.world(18, 12, 12), window.world(34, 28, 12))
        assert not window.prompts()
        window.open("SegmentEditor")


def other_effect(window, name):
    """Another effect in Python, as many extensions bring one; of the mouse modes it leaves to Slicer what it does."""
    import qSlicerSegmentationsEditorEffectsPythonQt as wrappers
    from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect

    def made():
        effect = wrappers.qSlicerSegmentEditorScriptedEffect(None)
        effect._python = Other(effect)
        return effect

    class Other(AbstractScriptedSegmentEditorEffect):
        def __init__(self, scripted):
            super().__init__(scripted)
            scripted.name = name

        def clone(self):
            return made()

    made().self().register()
    event_loop.process_events()


def test_the_effect_stays_when_it_follows_another_one(window, host):
    """Slicer tells the effect before, which gives way to any mouse mode, what the new one does meanwhile."""
    other_effect(window, "Other")
    window.choose("Other")
    window.choose()
    assert window.editor.activeEffect().name == "BioSAM-2"
    assert window.find("point").checked
    host.views["Red"].click(window.world(26, 20, 12))
    assert len(window.prompts()) == 1


def test_another_mouse_mode_puts_the_tool_down_and_not_the_effect(window, host):
    window.choose()
    interaction = host.core.app_logic.GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert window.editor.activeEffect().name == "BioSAM-2"
    assert not window.find("point").checked
    window.click("point")
    host.views["Red"].click(window.world(26, 20, 12))
    assert len(window.prompts()) == 1


def test_the_editors_undo_takes_back_prompt_and_mask(window, host):
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    one = window.voxels("a")
    host.views["Red"].click(window.world(8, 8, 12))
    window.settle()
    two = window.voxels("a")
    assert (one != two).any()
    window.press(KEY.Key_Z, MODIFIER.ControlModifier)  # one key for both: not ambiguous
    window.settle()
    np.testing.assert_array_equal(window.voxels("a"), one)
    assert len(window.prompts()) == 1
    window.press(KEY.Key_Z)
    window.settle()
    assert not window.voxels("a").any()
    assert not window.prompts()
    for expected, count in ((one, 1), (two, 2)):
        window.press(KEY.Key_Y)
        window.settle()
        np.testing.assert_array_equal(window.voxels("a"), expected)
        assert len(window.prompts()) == count
    # A propagation is one step too, and the module's button goes along the same stack.
    window.press(KEY.Key_Space, MODIFIER.ShiftModifier)
    window.settle()
    assert window.voxels("a")[10].any()
    window.press(KEY.Key_Z)
    window.settle()
    np.testing.assert_array_equal(window.voxels("a"), two)
    window.click("undo")
    window.settle()
    np.testing.assert_array_equal(window.voxels("a"), one)
    assert len(window.prompts()) == 1


def test_what_an_effect_paints_between_is_undone_in_its_turn(window, host):
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    one = window.voxels("a")
    window.editor.saveStateForUndo()  # as every effect does before it writes
    own = one.copy()
    own[12, 2:6, 2:6] = True
    host.slicer.util.updateSegmentBinaryLabelmapFromArray(
        own.astype(np.uint8), window.editor.segmentationNode(), "a", window.editor.sourceVolumeNode()
    )
    event_loop.process_events()
    assert window.session.correctedSlices("a") == {12}
    window.press(KEY.Key_Z)
    window.settle()
    np.testing.assert_array_equal(window.voxels("a"), one)
    assert len(window.prompts()) == 1
    window.press(KEY.Key_Z)
    window.settle()
    assert not window.voxels("a").any()
    assert not window.prompts()


def test_the_editors_masking_settings_hold(window, host):
    """By default an effect takes voxels from other segments in the Segment Editor, and none in the module's panel."""
    node = window.editor.mrmlSegmentEditorNode()
    for mode in (node.OverwriteNone, node.OverwriteAllSegments):
        node.SetOverwriteMode(mode)
        other = np.zeros((24, 40, 48), np.uint8)
        other[12, 18:22, 24:28] = 1
        host.slicer.util.updateSegmentBinaryLabelmapFromArray(
            other, window.editor.segmentationNode(), "b", window.editor.sourceVolumeNode()
        )
        event_loop.process_events()
        window.choose()
        host.views["Red"].click(window.world(26, 20, 12))
        window.settle()
        assert window.voxels("a")[12, 20, 26]
        assert window.voxels("b")[12, 20, 26] == (mode == node.OverwriteNone)
        window.press(KEY.Key_R)
        window.settle()
        window.press(KEY.Key_Escape)


def test_the_panels_own_editor_does_not_offer_the_effect(window):
    other_effect(window, "Other")
    embedded = window.panel._editor
    names = {
        QtWidgets.QToolButton.objectName(button)
        for button in embedded.findChildren(QtWidgets.QToolButton)
        if QtWidgets.QWidget.isVisibleTo(button, embedded)
    }
    assert "BioSAM-2" not in names


def test_other_input_in_the_editor(window, host, sphere):
    """The session follows the Segment Editor's volume and segmentation, and says so where it cannot."""
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    first = window.editor.segmentationNode()
    volume = add_volume(host, sphere[:, ::-1], name="second")
    host.show(volume)
    second = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "next")
    second.CreateDefaultDisplayNodes()
    second.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    second.GetSegmentation().AddEmptySegment("c", "c")
    window.edit(volume, second)
    assert window.session.volumeNode is volume
    assert window.session.segmentationNode is second
    assert window.panel.segment == "c"
    assert not window.prompts()
    window.click("point")
    host.views["Red"].click(window.world(26, 19, 12))
    window.settle()
    assert window.voxels("c").any()
    window.edit(host.scene.GetFirstNodeByName("image"), first)
    assert [placed.segmentId for placed in window.prompts()] == ["a"]
    odd = add_volume(host, sphere, spacing=(1.0, 1.0, 1.0), name="odd")
    window.editor.setSourceVolumeNode(odd)
    event_loop.process_events()
    assert window.session.prompts is None
    assert "another grid" in window.find("status").text
    assert not window.find("propagate").enabled


def test_the_scene_is_closed_while_the_effect_is_chosen(window, host, sphere):
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    window.press(KEY.Key_Space, MODIFIER.ShiftModifier)
    host.close_scene()
    interaction = host.core.app_logic.GetInteractionNode()
    assert window.session.volumeNode is None
    assert not window.session.running
    assert window.mode == interaction.ViewTransform
    assert window.editor.activeEffect() is None
    volume = add_volume(host, sphere, name="next")
    host.show(volume)
    segmentation = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "work")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    window.edit(volume, segmentation)
    window.segments("a")
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    assert window.voxels("a")[12].any()


def test_a_scene_that_was_saved_is_opened_in_the_editor(window, host, tmp_path):
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    mask = window.voxels("a")
    save_bundle(host, tmp_path / "scene.mrb")
    host.close_scene()
    load_bundle(host, tmp_path / "scene.mrb")
    event_loop.process_events()
    host.show(host.scene.GetFirstNodeByName("image"))
    assert window.editor.activeEffect().name == "BioSAM-2"
    assert window.find("point").checked
    assert [placed.segmentId for placed in window.prompts()] == ["a"]
    np.testing.assert_array_equal(window.voxels("a"), mask)
    window.press(KEY.Key_Space, MODIFIER.ShiftModifier)
    window.settle()
    assert window.voxels("a")[10].any()


def test_the_effect_in_two_editors(window, host):
    """One session, and one tool in hand: the editor in which the effect is chosen last has them."""
    second = host.slicer.qMRMLSegmentEditorWidget()
    try:
        node = host.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "another")
        second.setMRMLSegmentEditorNode(node)
        second.setMRMLScene(host.scene)
        second.setSegmentationNode(window.editor.segmentationNode())
        second.setSourceVolumeNode(window.editor.sourceVolumeNode())
        second.setCurrentSegmentID("b")
        window.choose()
        second.setActiveEffectByName("BioSAM-2")
        event_loop.process_events()
        assert window.editor.activeEffect() is None
        assert not window.options.findChildren(QtWidgets.QPushButton)
        host.views["Red"].click(window.world(26, 20, 12))
        window.settle()
        assert [placed.segmentId for placed in window.prompts()] == ["b"]
        window.choose()
        assert second.activeEffect() is None
        assert window.panel.segment == "a"
        assert window.panel.actions.tools.tool == "point"
    finally:
        second.setMRMLScene(None)
        second.deleteLater()


def test_the_module_beside_the_editor(window, host):
    """Where both are in view, as with an editor in a window of its own: one tool, one segment, one status line."""
    window.choose()
    module = host.slicer.util.getModuleWidget("BioSAM2Slicer")
    module.enter()
    event_loop.process_events()
    box = module.parent.findChild(QtWidgets.QPushButton, "box")
    point = module.parent.findChild(QtWidgets.QPushButton, "point")
    assert point.checked
    window.click("box")
    assert box.checked
    assert not point.checked
    window.panel._editor.setCurrentSegmentID("b")
    event_loop.process_events()
    assert window.editor.currentSegmentID() == "b"
    host.views["Red"].drag(window.world(18, 12, 12), window.world(34, 28, 12))
    window.settle()
    assert window.voxels("b")[12].any()
    assert module.parent.findChild(QtWidgets.QLabel, "status").text == window.find("status").text
    window.editor.setActiveEffectByName("")
    event_loop.process_events()
    assert not box.checked
    box.click()
    assert box.checked
    module.exit()
    assert not box.checked


def test_the_volume_is_deleted_while_the_effect_is_chosen(window, host):
    window.choose()
    host.views["Red"].click(window.world(26, 20, 12))
    window.settle()
    host.scene.RemoveNode(window.session.volumeNode)
    event_loop.process_events()
    assert window.session.volumeNode is None
    assert window.mode == host.core.app_logic.GetInteractionNode().ViewTransform


def test_a_module_that_is_not_set_up_says_so(host, sphere, monkeypatch):
    """One line, and the way to the module; nothing is imported that is not there yet."""
    import BioSAM2Slicer

    BioSAM2Slicer.newEffect().self().register()

    class Module(BioSAM2Slicer.BioSAM2SlicerWidget):
        def setup(self):
            self.showChoice()
            # What the panel needs and Slicer does not bring.
            monkeypatch.setitem(sys.modules, "biosam2", None)
            monkeypatch.delitem(sys.modules, "BioSAM2SlicerLib.ui.EffectOptions", raising=False)

    window = Window(host, Module)
    try:
        window.open("SegmentEditor")
        volume = add_volume(host, sphere)
        segmentation = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "work")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        window.edit(volume, segmentation)
        window.segments("a")
        window.choose()
        assert "not set up" in window.find("notSetUp").text
        assert QtWidgets.QWidget.isVisible(window.find("notSetUp"))
        assert window.options.findChild(QtWidgets.QWidget, "point") is None
        window.click("openModule")
        assert window.window.chosen == "BioSAM2Slicer"
        assert not window.options.findChildren(QtWidgets.QPushButton)
    finally:
        window.close()


def test_the_panel_is_made_anew_while_the_effect_is_chosen(window, host):
    """Reload, or another place for the network: nothing is left of the panel before."""
    window.choose()
    host.module_manager.module("BioSAM2Slicer").widgetRepresentation().self().cleanup()
    event_loop.process_events()
    assert window.options.findChild(QtWidgets.QWidget, "point") is None
    assert window.mode == host.core.app_logic.GetInteractionNode().ViewTransform


def test_slicer_registers_the_effect_when_it_has_started(host, sample_data):  # noqa: F811
    import types

    import BioSAM2Slicer

    factory = host.slicer.qSlicerSegmentEditorEffectFactory.instance()
    try:
        module = BioSAM2Slicer.BioSAM2Slicer(types.SimpleNamespace())
        host.slicer.app.startupCompleted.emit()
        event_loop.process_events()
        assert [effect.name for effect in factory.registeredEffects()] == ["BioSAM-2"]
        import BioSAM2SlicerLib

        assert module.moduleName == "BioSAM2Slicer"
        assert BioSAM2SlicerLib.__path__, "Slicer names the effect's module after its folder"
    finally:
        factory.forget()
