"""What the panel offers around prompts: cursors, keys, locks, ranges, planes, the model's view, the depth of undo."""

from __future__ import annotations

import numpy as np
import pytest
from BioSAM2SlicerLib.scene.PromptNodes import layOut
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from host import event_loop
from panel_helpers import GRIDS, add_transform, add_volume
from PySide6 import QtCore
from test_panel_widget import open_panel, panel  # noqa: F401 - fixtures

KEY = QtCore.Qt.Key


@pytest.fixture
def marked(panel, host):  # noqa: F811
    """A click on slice 12, and its mask."""
    panel.click("point")
    host.views["Red"].click(panel.world(26, 20, 12))
    panel.settle()
    panel.press(KEY.Key_Escape)
    return panel


def cursor(host, view="Red"):
    return host.views[view].sliceView()._cursor


def test_the_pointer_shows_what_a_click_will_do(panel, host):  # noqa: F811
    looks = []
    for key in (KEY.Key_P, KEY.Key_T, KEY.Key_B):
        panel.press(key)
        assert all(cursor(host, view) is not None for view in host.views)
        picture = cursor(host).pixmap().toImage()
        looks.append(bytes(picture.constBits()))
    assert len(set(looks)) == 3
    # Slicer shows the default one after the pointer has been over a markup.
    assert bytes(host.views["Red"].sliceView()._default_cursor.pixmap().toImage().constBits()) == looks[-1]
    panel.press(KEY.Key_Escape)
    assert cursor(host) is None
    assert host.views["Red"].sliceView()._default_cursor.pixmap().isNull()
    panel.press(KEY.Key_P)
    panel.widget.exit()
    assert cursor(host) is None


def test_slicers_place_button_is_as_before_when_the_tool_is_put_down(panel, host):  # noqa: F811
    selection = host.slicer.app.applicationLogic().GetSelectionNode()
    interaction = host.slicer.app.applicationLogic().GetInteractionNode()
    own = host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "own")
    host.slicer.modules.markups.logic().SetActiveList(own)
    interaction.SetPlaceModePersistence(0)
    for put_down in (
        lambda: panel.press(KEY.Key_Escape),
        lambda: panel.press(KEY.Key_B),
        panel.widget.exit,
        lambda: interaction.SetCurrentInteractionMode(interaction.ViewTransform),
    ):
        panel.widget.enter()
        panel.press(KEY.Key_P)
        assert selection.GetActivePlaceNodeID() != own.GetID()
        panel.press(KEY.Key_T)  # the other sign has a list of its own
        put_down()
        assert selection.GetActivePlaceNodeID() == own.GetID()
        assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsFiducialNode"
        assert interaction.GetPlaceModePersistence() == 0
        assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_boxes_do_not_become_what_slicer_places_into(panel, host):  # noqa: F811
    selection = host.slicer.app.applicationLogic().GetSelectionNode()
    own = host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "own")
    host.slicer.modules.markups.logic().SetActiveList(own)
    panel.press(KEY.Key_B)
    host.views["Red"].drag(panel.world(18, 12, 12), panel.world(34, 28, 12))
    panel.settle()
    assert len(panel.prompts()) == 1
    assert selection.GetActivePlaceNodeID() == own.GetID()


@pytest.mark.parametrize("key", [KEY.Key_P, KEY.Key_B])
def test_an_effect_that_is_chosen_takes_the_mouse_from_the_tool(panel, host, key):  # noqa: F811
    panel.press(key)
    assert panel.widget.actions.tools.tool != "none"
    panel.widget._editor.setActiveEffectByName("Paint")
    assert panel.widget.actions.tools.tool == "none"
    assert not panel.find("point").checked
    assert not panel.find("box").checked
    panel.press(key)
    assert panel.widget._editor.activeEffect() is None
    assert panel.widget.actions.tools.tool != "none"


def test_del_deletes_the_prompt_under_the_pointer(marked, host):
    panel = marked  # noqa: F811
    panel.click("box")
    host.views["Red"].drag(panel.world(4, 4, 12), panel.world(14, 14, 12))
    panel.settle()
    panel.press(KEY.Key_Escape)
    view = host.views["Red"]
    view.point(*view.xy(panel.world(40, 35, 12)))
    panel.press(KEY.Key_Delete)
    assert "Point at a prompt" in panel.status
    assert len(panel.prompts()) == 2
    view.point(*view.xy(panel.world(26, 20, 12)))
    panel.press(KEY.Key_Delete)
    panel.settle()
    assert [type(placed.prompt).__name__ for placed in panel.prompts()] == ["Box"]
    panel.press(KEY.Key_Z, QtCore.Qt.KeyboardModifier.ControlModifier)
    panel.settle()
    assert len(panel.prompts()) == 2


@pytest.mark.parametrize("by", ["key", "button"])
def test_a_click_counts_where_the_pointer_rests_already(panel, host, by):  # noqa: F811
    """P, T and E with the pointer over the structure, and a click without moving it."""
    panel.find("volume").setCurrentNode(host.scene.GetFirstNodeByName("image"))
    view = host.views["Red"]
    world = VolumeGeometry(host.scene.GetFirstNodeByName("image")).worldFromIjk((26, 20, 12))
    view.go_to(world)
    view.point(*view.xy(world))

    def choose(name, key):
        panel.click(name) if by == "button" else panel.press(key)

    choose("point", KEY.Key_P)
    view.click(world)
    assert [placed.prompt.positive for placed in panel.prompts()] == [True]
    panel.settle()
    choose("sign", KEY.Key_T)
    view.click(world)
    assert [placed.prompt.positive for placed in panel.prompts()] == [True, False]
    panel.settle()
    choose("sign", KEY.Key_T)
    first = panel.segment()
    second = panel.session.segmentationNode.GetSegmentation().AddEmptySegment()
    panel.press(KEY.Key_E)
    view.click(world)
    assert [(p.segmentId, p.prompt.positive) for p in panel.prompts()] == [
        (first, True),
        (first, False),
        (second, True),
    ]
    panel.settle()
    # Nothing is left in the lists that the next click would not place.
    panel.press(KEY.Key_Escape)
    for number in range(host.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")):
        node = host.scene.GetNthNodeByClass(number, "vtkMRMLMarkupsFiducialNode")
        assert node.GetNumberOfControlPoints() == node.GetNumberOfDefinedControlPoints()


def test_lock_and_propagate_from_here_by_button(marked, host):
    panel = marked  # noqa: F811
    panel.find("first").value, panel.find("last").value = 10, 15
    panel.click("propagate")
    panel.settle()
    before = panel.voxels()
    host.views["Red"].go_to(panel.world(20, 20, 14))
    panel.click("lock")
    assert panel.session.lockedSlices(panel.segment()) == {14}
    assert "locked" in panel.status
    host.views["Red"].go_to(panel.world(20, 20, 13))
    own = np.zeros((40, 48), bool)
    own[12:28, 18:34] = True
    panel.session._slices.writeSlice(panel.segment(), "k", 13, own)
    panel.click("fromHere")
    panel.settle()
    after = panel.voxels()
    np.testing.assert_array_equal(after[13], own)
    np.testing.assert_array_equal(after[14], before[14])
    np.testing.assert_array_equal(after[:13], before[:13])
    assert panel.session.resultSlices(panel.segment()) >= set(range(13, 24))
    host.views["Red"].go_to(panel.world(20, 20, 14))
    panel.click("lock")
    assert not panel.session.lockedSlices(panel.segment())


def test_a_range_from_two_slices_or_a_region(marked, host):
    panel = marked  # noqa: F811
    host.views["Red"].go_to(panel.world(20, 20, 11))
    panel.click("firstHere")
    host.views["Red"].go_to(panel.world(20, 20, 13))
    panel.click("lastHere")
    panel.click("propagate")
    panel.settle()
    assert panel.session.resultSlices(panel.segment()) == {11, 12, 13}
    roi = host.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "where")
    layOut(roi, VolumeGeometry(panel.volume), (0, 0, 9), (47, 39, 14))
    panel.find("roi").setCurrentNode(roi)
    layOut(roi, VolumeGeometry(panel.volume), (0, 0, 10), (47, 39, 14))  # moved after it was chosen
    panel.click("propagate")
    panel.settle()
    assert panel.session.resultSlices(panel.segment()) == {10, 11, 12, 13, 14}
    panel.find("roi").setCurrentNode(None)
    panel.find("first").value, panel.find("last").value = 15, 12
    panel.click("propagate")
    assert "empty" in panel.status


@pytest.mark.parametrize("transform", [False, True])
def test_an_oblique_volumes_own_plane_is_offered(open_panel, host, sphere, transform):  # noqa: F811
    volume = add_volume(host, sphere, GRIDS["axial" if transform else "oblique"])
    if transform:
        volume.SetAndObserveTransformNodeID(add_transform(host).GetID())
    for view in host.views.values():
        view.show(volume)
        view.mrmlSliceNode().SetOrientation(view._orientation)
    panel = open_panel()  # noqa: F811
    assert panel.find("planes").visible
    assert "tilted" in panel.status
    panel.click("box")
    host.views["Red"].drag(panel.world(18, 12, 12), panel.world(34, 28, 12))
    assert "tilted" in panel.status
    assert not panel.prompts()
    panel.press(KEY.Key_P)  # points are taken
    host.views["Red"].click(panel.world(26, 20, 12))
    assert len(panel.prompts()) == 1
    panel.press(KEY.Key_Escape)
    panel.click("planes")
    assert not panel.find("planes").visible
    panel.settle()
    axis = panel.session.axis
    view = next(v for v in host.views.values() if VolumeGeometry(volume).axisOfView(v.mrmlSliceNode())[0] == axis)
    low, high = [18, 12, 6], [34, 28, 18]
    high["ijk".index(axis)] = low["ijk".index(axis)] = 12
    panel.press(KEY.Key_B)
    view.drag(panel.world(*low), panel.world(*high))
    assert len(panel.prompts()) == 2
    panel.settle()


def test_a_view_that_is_hidden_is_not_asked(panel, host):  # noqa: F811
    """Its slice is not what the user sees; another one along the same axis is."""
    panel.click("point")
    host.views["Yellow"].click(panel.world(26, 20, 12))
    panel.settle()
    panel.press(KEY.Key_Escape)
    assert panel.session.axis == "i"
    host.views["Yellow"].hidden = True
    try:
        panel.click("lock")
        assert "No slice view" in panel.status
        host.views["Green"].mrmlSliceNode().SetOrientation("Sagittal")
        host.views["Green"].go_to(panel.world(26, 20, 12))
        panel.click("lock")
        assert panel.session.lockedSlices(panel.segment()) == {26}
    finally:
        host.views["Yellow"].hidden = False
        host.views["Green"].mrmlSliceNode().SetOrientation("Coronal")


def test_a_view_that_a_new_layout_brings_takes_the_tool_in_hand(panel, host):  # noqa: F811
    panel.press(KEY.Key_B)
    view = host.add_view("Slice4", "Axial")
    try:
        view.show(panel.volume)
        assert cursor(host, "Slice4") is not None
        view.drag(panel.world(18, 12, 12), panel.world(34, 28, 12))
        panel.settle()
        assert len(panel.prompts()) == 1
        panel.widget._modelView.refresh()
        before = bytes(panel.find("modelView").pixmap.toImage().constBits())
        for name in ("Red", "Yellow", "Green"):
            host.views[name].hidden = True
        view.go_to(panel.world(26, 20, 5))
        assert panel.widget._modelView._timer.active  # who scrolls in it is followed
        panel.widget._modelView.refresh()
        assert bytes(panel.find("modelView").pixmap.toImage().constBits()) != before
        panel.press(KEY.Key_Escape)
        assert cursor(host, "Slice4") is None
        panel.widget.exit()
        host.layout_manager.layoutChanged.emit(2)  # another module's business
        assert not panel.widget._modelView._tags
    finally:
        for name in ("Red", "Yellow", "Green"):
            host.views[name].hidden = False
        host.remove_view("Slice4")


def test_the_models_view_follows_the_slice_and_the_window(marked, host):
    panel = marked  # noqa: F811

    def seen():
        panel.widget._modelView.refresh()
        return bytes(panel.find("modelView").pixmap.toImage().constBits())

    host.views["Red"].go_to(panel.world(20, 20, 12))
    one = seen()
    host.views["Red"].go_to(panel.world(20, 20, 2))
    two = seen()
    assert one != two
    panel.session.setParameters(window="bone")
    assert seen() == two  # the session goes on with the window that it began with
    panel.press(KEY.Key_R)
    panel.settle()
    assert seen() != two


def test_the_depth_of_undo_is_set_and_its_cost_is_said(marked):
    panel = marked  # noqa: F811
    assert panel.find("undoStates").value == 20
    assert "1 kept" in panel.find("undoMemory").text
    panel.find("undoStates").value = 2
    own = np.zeros((40, 48), bool)
    for index in range(4):
        own[index] = True
        panel.session._slices.writeSlice(panel.segment(), "k", index, own)
        event_loop.process_events()
    assert "2 kept" in panel.find("undoMemory").text
    assert panel.session.parameters.undoStates == 2


def test_an_existing_segment_is_the_start(panel, host):  # noqa: F811
    panel.click("point")
    panel.press(KEY.Key_Escape)
    own = np.zeros((40, 48), bool)
    own[12:28, 18:34] = True
    for index in (11, 12, 13):
        panel.session._slices.writeSlice(panel.segment(), "k", index, own)
    panel.click("startFrom")
    assert panel.session.promptedSlices(panel.segment()) == [11]
    panel.click("propagate")
    panel.settle()
    np.testing.assert_array_equal(panel.voxels()[11], own)


def test_a_film_is_said_to_be_one_in_the_panel(panel, host):  # noqa: F811
    panel.click("point")
    panel.find("film").checked = True
    host.views["Yellow"].click(panel.world(26, 20, 12))
    panel.settle()
    assert panel.session.axis == "k"


def test_the_sign_is_plus_again_with_another_tool_segment_input_or_scene(panel, host):  # noqa: F811
    """Not only what the next click is: what the button says."""
    tools = panel.widget.actions.tools
    image = host.scene.GetFirstNodeByName("image")
    panel.find("volume").setCurrentNode(image)

    def negative():
        panel.click("point")
        panel.press(KEY.Key_T)
        assert not tools.positive

    def segment():
        panel.session.segmentationNode.GetSegmentation().AddEmptySegment()
        panel.press(KEY.Key_E)

    for change in (
        lambda: panel.press(KEY.Key_B),
        lambda: panel.press(KEY.Key_Escape),
        segment,
        lambda: panel.find("segmentation").setCurrentNode(None),
        lambda: panel.widget._editor.setActiveEffectByName("Paint"),
        host.close_scene,
    ):
        panel.press(KEY.Key_Escape)
        negative()
        change()
        assert tools.positive
    panel.press(KEY.Key_T)  # before the tool is taken up, as the panel's page says
    assert not tools.positive


def test_only_negative_points_are_warned_of(desk):
    warnings: list[str] = []
    desk.logic.warned.connect(warnings.append)
    desk.point("a", (4, 4, 4), positive=False)
    desk.settle()
    assert not desk.voxels("a").any(), "the network drew something from a negative point"
    [warning] = warnings
    assert "Only negative points on this slice" in warning
    desk.point("a", (26, 20, 4))
    desk.settle()
    assert len(warnings) == 1


def test_a_click_that_floods_the_slice_is_questioned(desks, tumour):
    """The shipped network takes this click into the brain for a sixth of the slice."""
    desk = desks(tumour)
    desk.logic.setParameters(window="auto")
    warnings: list[str] = []
    desk.logic.warned.connect(warnings.append)
    desk.point("a", (197, 112, 16))
    desk.settle()
    assert not warnings, "a click into the tumour gives the tumour"
    desk.point("b", (128, 100, 8))
    desk.settle()
    assert desk.voxels("b")[8].mean() > 1 / 6
    [warning] = warnings
    assert "very large" in warning
    assert "add a negative point or use a box" in warning
