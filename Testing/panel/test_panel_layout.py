"""The panel fits: what a session needs is in view in Slicer's default layout on a screen of 1080 lines."""

from __future__ import annotations

import numpy as np
import pytest
from BioSAM2SlicerLib.ui import Controls
from host import event_loop
from panel_helpers import GRIDS, add_volume
from PySide6 import QtCore, QtGui, QtTest, QtWidgets
from test_panel_widget import Panel, open_panel, panel  # noqa: F401

# What the module gets of a maximised window of 1080 lines, beside menus, tool bars, Data Probe and the module's title.
WIDTH, HEIGHT = 500, 740
NEEDED = (
    *("status", "point", "box", "sign", "mask", "startFrom", "undo", "redo", "show", "reset"),
    *("segments", "strip", "next", "propagate", "stop", "fromHere", "lock", "untilGone", "all"),
)


def in_slicer(panel, width, height):  # noqa: F811
    """The panel in a module panel as Slicer's: its own scroll area, a help section, the module, a spring."""
    area = QtWidgets.QScrollArea()
    area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidgetResizable(True)
    contents = QtWidgets.QWidget()
    column = QtWidgets.QVBoxLayout(contents)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSizeConstraint(QtWidgets.QLayout.SizeConstraint.SetMinAndMaxSize)
    help_section = QtWidgets.QPushButton("Help && Acknowledgement")
    column.addWidget(help_section)
    policy = QtWidgets.QSizePolicy.Policy
    panel.layout.setContentsMargins(0, 0, 0, 0)
    column.insertWidget(1, panel.window, 1)
    QtWidgets.QWidget.setSizePolicy(panel.window, policy.Minimum, policy.Preferred)
    column.addItem(QtWidgets.QSpacerItem(0, 0, policy.Minimum, policy.MinimumExpanding))
    area.setWidget(contents)
    area.resize(width, height)
    area.show()
    event_loop.process_events()
    return area


def in_view(widget):
    """Whether all of a widget can be seen without scrolling."""
    visible = QtWidgets.QWidget.visibleRegion(widget).boundingRect()
    return visible.size() == QtWidgets.QWidget.size(widget) and not visible.isEmpty()


def test_what_a_session_needs_is_in_view(panel, host):  # noqa: F811
    area = in_slicer(panel, WIDTH, HEIGHT)
    panel.click("box")
    host.views["Red"].drag(panel.world(17, 11, 12), panel.world(35, 29, 12))
    panel.settle()
    panel.find("first").value, panel.find("last").value = 10, 14
    QtTest.QTest.mouseClick(panel.find("propagate"), QtCore.Qt.MouseButton.LeftButton)
    panel.settle()
    panel.widget._review.refresh()
    event_loop.process_events()
    assert [name for name in NEEDED if not in_view(panel.find(name))] == []
    assert area.verticalScrollBar().maximum() == 0
    area.takeWidget()


@pytest.mark.parametrize("height", [300, 500, 740, 1200])
def test_slicers_own_scroll_area_has_nothing_to_do(panel, height):  # noqa: F811
    """So status and propagation stay where they are, on a small screen too, and with a long line."""
    area = in_slicer(panel, WIDTH, height)
    panel.widget.status.problem("A long explanation of what went wrong and how it can be mended. " * 8)
    event_loop.process_events()
    assert area.verticalScrollBar().maximum() == 0
    for name in ("dismiss", "propagate", "stop", "progress"):
        assert in_view(panel.find(name)), name
    # The module fills the height.
    root = panel.find("BioSAM2SlicerPanel")
    below = QtWidgets.QWidget.mapTo(root, area, QtCore.QPoint(0, root.height)).y()
    assert abs(below - QtWidgets.QWidget.height(area.viewport())) <= 2
    area.takeWidget()


def test_input_makes_room_when_a_session_begins(panel, host):  # noqa: F811
    section = panel.find("inputCollapsibleButton")
    assert not section.collapsed
    panel.click("point")
    assert not section.collapsed
    host.views["Red"].click(panel.world(26, 20, 12))
    assert section.collapsed
    section.collapsed = False  # the user may look at it
    host.views["Red"].click(panel.world(28, 20, 12))
    panel.settle()
    assert not section.collapsed
    section.collapsed = True
    host.scene.RemoveNode(panel.volume)
    event_loop.process_events()
    assert not section.collapsed


def test_seldom_used_sections_are_folded(open_panel):  # noqa: F811
    panel = open_panel()  # noqa: F811
    for name in ("advanced", "export"):
        assert panel.find(f"{name}CollapsibleButton").collapsed
    for name in ("direction", "first", "last", "roi", "device", "film", "undoStates", "export"):
        assert not QtWidgets.QWidget.isVisible(panel.find(name)), name
    panel.find("advancedCollapsibleButton").collapsed = False
    event_loop.process_events()
    for name in ("direction", "first", "last", "roi", "device", "film", "undoStates"):
        assert QtWidgets.QWidget.isVisible(panel.find(name)), name


def test_what_is_not_needed_stays_hidden_when_a_section_is_unfolded(panel):  # noqa: F811
    section = panel.find("exportCollapsibleButton")
    for _time in range(2):
        section.collapsed = False
        event_loop.process_events()
        assert QtWidgets.QWidget.isVisible(panel.find("export"))
        assert not QtWidgets.QWidget.isVisible(panel.find("measures"))
        section.collapsed = True
    section = panel.find("inputCollapsibleButton")
    section.collapsed = True
    panel.widget._refresh()
    section.collapsed = False
    event_loop.process_events()
    assert QtWidgets.QWidget.isVisible(panel.find("volume"))
    assert not QtWidgets.QWidget.isVisible(panel.find("planes"))


def test_names_are_the_fields(panel):  # noqa: F811
    texts = {
        QtWidgets.QPushButton.text.__get__(button)() for button in panel.window.findChildren(QtWidgets.QPushButton)
    }
    assert {
        *("Positive + (T)", "Use painted slice as prompt (M)", "Next uncertain slice (N)", "Propagate from here"),
        *("Lock slice", "Start from this segment"),
    } <= texts
    panel.find("sign").click()
    assert panel.find("sign").text == "Negative − (T)"
    assert panel.find("first").text == "First slice"
    assert panel.find("last").text == "Last slice"
    assert panel.find("model").currentText == "nano (for trying out)"
    assert "trying out" in panel.find("modelPurpose").text


def test_every_button_has_an_icon_that_can_be_read(panel):  # noqa: F811
    plain = ("firstHere", "lastHere", "")  # they say which slice; and the editor's own
    lacking = [
        name
        for button in panel.window.findChildren(QtWidgets.QPushButton)
        if (name := QtCore.QObject.objectName(button)) not in plain and button.icon.isNull()
    ]
    assert lacking == []
    for path in (Controls._RESOURCES / "Icons").glob("*.svg"):
        # As Slicer reads it: by the plugin for images, for which it has no engine of its own.
        picture = QtGui.QImage(str(path))
        assert (picture.width(), picture.height()) == (48, 48), path
        assert picture.hasAlphaChannel()


@pytest.mark.parametrize("grid", ["axial", "flipped", "sagittal", "coronal"])
@pytest.mark.parametrize("view", ["Red", "Yellow", "Green"])
def test_the_picture_of_what_the_model_sees_stands_as_the_view_does(open_panel, host, tmp_path, grid, view):  # noqa: F811
    from PIL import Image

    array = np.zeros((20, 30, 40), np.int16)
    # One corner differs from all others, whatever the axis.
    array[:10, :15, :20] = 900
    array[:3, :5, :6] = 400
    node = add_volume(host, array, GRIDS[grid], spacing=(1.0, 1.0, 1.0))
    host.show(node)
    panel = open_panel()  # noqa: F811
    panel.find("volume").setCurrentNode(node)
    panel.click("point")
    host.views[view].click(panel.world(2, 2, 2))
    panel.session.stop()
    for other in host.views.values():
        other.go_to(panel.world(2, 2, 2))
    panel.widget._modelView.toggle()
    event_loop.process_events()
    panel.widget._modelView.refresh()
    shown = panel.find("modelView").pixmap.toImage().convertToFormat(QtGui.QImage.Format.Format_Grayscale8)
    grey = np.array(
        [[QtGui.qGray(shown.pixel(x, y)) for x in range(shown.width())] for y in range(shown.height())], float
    )
    panel.press(QtCore.Qt.Key.Key_V)
    host.views[view].picture(tmp_path / "view.png")
    seen = np.asarray(Image.open(tmp_path / "view.png").convert("L"), float)

    def centre(picture):
        """Of brightness, from the middle of what the picture holds: where the bright corner lies."""
        rows, columns = np.indices(picture.shape)
        weight = picture - picture.min()
        return np.array([(rows * weight).sum(), (columns * weight).sum()]) / weight.sum() - np.array(picture.shape) / 2

    ours, theirs = centre(grey), centre(seen)
    assert (np.sign(ours) == np.sign(theirs)).all(), (ours, theirs)
