"""The host behaves as Slicer was measured to, so that what passes here can be believed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from host import event_loop, listings
from panel_helpers import add_volume

needs_listings = pytest.mark.skipif(not listings.FOLDER.is_dir(), reason="needs ../shared/slicer-api")


@pytest.fixture
def panel_code():
    """A function that runs code as if it stood in the panel."""

    def run(code: str, **names):
        names["__name__"] = "BioSAM2SlicerLib.Imagined"
        exec(compile(code, "imagined", "exec"), names)
        return names

    return run


def test_properties_are_attributes_and_setters_stay(host):
    import qt

    button = qt.QPushButton("Go")
    assert button.text == "Go"
    button.text = "Stop"
    assert button.text == "Stop"
    button.setText("Again")
    assert button.text == "Again"
    button.enabled = False
    assert not button.isEnabled()


def test_a_slot_may_take_fewer_arguments(host):
    import qt

    calls = []
    button = qt.QPushButton("Go")
    button.clicked.connect(lambda: calls.append("clicked"))
    button.click()
    assert calls == ["clicked"]


@needs_listings
@pytest.mark.parametrize(
    "code",
    [
        "import qt; qt.QPushButton().setTextt('x')",
        "import qt; qt.QPushButton().textt = 'x'",
        "import qt; qt.QUnheardOf",
        "import qt; qt.Signal",
        "import slicer; slicer.app.sliceWidget",
        "import slicer; slicer.qMRMLNodeComboBox().currentItem",
        "import slicer; slicer.app.layoutManager().sliceWidget('Red').click",
    ],
)
def test_a_name_that_slicer_lacks_raises(host, panel_code, code):
    with pytest.raises(AttributeError):
        panel_code(code)


def test_a_name_that_slicer_has_is_found(host, panel_code):
    names = panel_code("import qt, slicer; b = qt.QPushButton('x'); b.setText('y'); v = slicer.app.layoutManager()")
    assert names["v"] is host.layout_manager


@needs_listings
@pytest.mark.parametrize(
    "code",
    [
        "import qt; qt.QTimer().singleShot = True",  # the static method hides the property
        "import qt; qt.QTimer().active = True",  # read only
        "import qt; qt.QLabel().setText = None",  # a method
        "import qt; qt.QPushButton().colour = 1",
    ],
)
def test_what_pythonqt_does_not_let_be_assigned_raises(host, panel_code, code):
    with pytest.raises(AttributeError, match=r"cannot be assigned|has no"):
        panel_code(code)


def test_threads_stand_still_while_the_loop_idles(host):
    """As measured in Slicer: without Python on the main thread, another thread does not run."""
    turns = []
    stop = threading.Event()

    def work():
        while not stop.is_set():
            turns.append(1)
            time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    end = time.monotonic() + 0.5
    before = len(turns)
    with pytest.raises(TimeoutError):
        event_loop.wait_until(lambda: time.monotonic() > end + 1, timeout_s=0.5)
    during = len(turns) - before
    stop.set()
    thread.join()
    assert during < 50, "the loop let the thread run, which Slicer's does not"


def test_a_point_is_placed_where_the_user_clicks(host, sphere):
    volume = add_volume(host, sphere)
    host.show(volume)
    node = host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    host.slicer.modules.markups.logic().SetActiveList(node)
    interaction = host.core.app_logic.GetInteractionNode()
    interaction.SetPlaceModePersistence(1)
    interaction.SetCurrentInteractionMode(interaction.Place)
    target = np.add(volume.GetOrigin(), (-8.0, -11.0, 25.0))
    host.views["Red"].click(target)
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert node.GetNumberOfDefinedControlPoints() == 1
    np.testing.assert_allclose(node.GetNthControlPointPositionWorld(0), target, atol=0.3)


def test_a_click_is_lost_where_the_pointer_has_not_moved_since_place_mode(host, sphere):
    """As in Slicer, which makes the point to be placed when the pointer moves."""
    host.show(add_volume(host, sphere))
    node = host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    view = host.views["Red"]
    view.point(200, 210)
    host.slicer.modules.markups.logic().SetActiveList(node)
    interaction = host.core.app_logic.GetInteractionNode()
    interaction.SetPlaceModePersistence(1)
    interaction.SetCurrentInteractionMode(interaction.Place)
    view.press(200, 210)
    view.release(200, 210)
    lost = node.GetNumberOfDefinedControlPoints()
    view.press(201, 210)
    view.release(201, 210)
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert (lost, node.GetNumberOfDefinedControlPoints()) == (0, 1)


def test_pictures_are_not_empty(host, sphere, tmp_path):
    from PIL import Image

    host.show(add_volume(host, sphere))
    host.views["Red"].picture(tmp_path / "red.png")
    assert np.asarray(Image.open(tmp_path / "red.png")).std() > 5
