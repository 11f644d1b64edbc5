"""Sequences of Slicer in the panel: opened as videos, and their masks played by Slicer's own sequence browser."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
from biosam2.errors import InputError
from biosam2.io import read_video
from biosam2.record import read as read_record
from BioSAM2SlicerLib.scene.SequenceVideo import browserOf, openVideo, sequenceOf, videoOf
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry, looksLikeFilm
from BioSAM2SlicerLib.session.MaskSequence import _Held
from BioSAM2SlicerLib.ui import ReviewPanel
from host import event_loop
from panel_helpers import GRIDS, add_transform, add_volume, load_bundle, save_bundle
from PIL import Image
from PySide6 import QtCore
from test_panel_widget import open_panel  # noqa: F401 - a fixture

FRAMES = 8


def cine():
    """A bright disc that wanders to the right: uint8 (FRAMES, 40, 48)."""
    t, j, i = np.mgrid[:FRAMES, :40, :48]
    disc = (j - 20) ** 2 + (i - 20 - t) ** 2 <= 64
    noise = np.random.default_rng(0).normal(60, 6, disc.shape)
    return np.where(disc, 180 + noise, noise).clip(0, 255).astype(np.uint8)


def add_sequence(host, frames, grid="axial", unit="s", step=0.04, name="cine", values=None):
    """A browser with a sequence of volumes, and the node in which it shows one of them.

    Args:
        frames: one array (k, j, i) or (k, j, i, components) for each frame.
        values: of the index; by default multiples of `step`.
    """
    scene, slicer = host.scene, host.slicer
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit(unit)
    for number, array in enumerate(frames):
        node = add_volume(host, array[..., 0] if array.ndim == 4 else array, GRIDS[grid])
        scene.RemoveNode(node)
        if array.ndim == 4:
            scalar, node = node, slicer.vtkMRMLVectorVolumeNode()
            node.CopyOrientation(scalar)
            slicer.util.updateVolumeFromArray(node, array)
        sequence.SetDataNodeAtValue(node, values[number] if values else f"{step * number:g}")
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    event_loop.process_events()
    return browser, browser.GetProxyNode(sequence)


def masks_of(host, browser, panel, index):
    """What the browser shows of the segments when it comes to an item: bool (j, i), in the frame's own voxels."""
    browser.SetSelectedItemNumber(index)
    proxy = panel.widget._video.masks.shown
    frame = browser.GetProxyNode(browser.GetMasterSequenceNode())
    array = host.slicer.util.arrayFromSegmentBinaryLabelmap(proxy, panel.segment(), frame)
    shape = VolumeGeometry(frame).shape
    return (np.zeros(shape, bool) if array is None else array.astype(bool))[0]


def slice_of(host, volume):
    return VolumeGeometry(volume).sliceOfView(host.views["Red"].mrmlSliceNode(), "k")


def test_a_cine_is_opened_followed_in_time_and_played_by_the_browser(open_panel, host):  # noqa: F811
    frames = cine()
    browser, proxy = add_sequence(host, frames[:, None])
    panel = open_panel()
    panel.find("volume").setCurrentNode(proxy)
    panel.click("openVideo")
    video = panel.find("volume").currentNode()
    np.testing.assert_array_equal(host.slicer.util.arrayFromVolume(video), frames)
    assert looksLikeFilm(video)
    panel.press(QtCore.Qt.Key.Key_B)
    host.views["Red"].drag(panel.world(11, 11, 0), panel.world(29, 29, 0))
    panel.settle()
    assert panel.session.parameters.film
    assert panel.session.axis == "k"
    panel.click("propagate")
    panel.settle()
    event_loop.process_events()
    found = panel.voxels()
    assert found.any(axis=(1, 2)).sum() > 3
    # Slicer's own browser shows on each frame what the video has there.
    for index in (0, 3, FRAMES - 1, 1):
        np.testing.assert_array_equal(masks_of(host, browser, panel, index), found[index])
        assert slice_of(host, video) == index, "the views follow the browser"
    sequence = panel.widget._video.masks.sequence
    assert [sequence.GetNthIndexValue(n) for n in (0, 1)] == ["0", "0.04"]
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "s")
    # A correction on a frame, and undo, are followed.
    panel.session._slices.writeSlice(panel.segment(), "k", 3, np.zeros((40, 48), bool))
    panel.settle()
    event_loop.process_events()
    assert not masks_of(host, browser, panel, 3).any()
    np.testing.assert_array_equal(masks_of(host, browser, panel, 4), found[4])
    panel.click("undo")
    event_loop.process_events()
    np.testing.assert_array_equal(masks_of(host, browser, panel, 3), found[3])
    # The browser's own images with the masks, and back.
    shown = panel.widget._video.masks.shown
    assert not shown.GetDisplayVisibility()
    panel.click("showMasks")
    assert shown.GetDisplayVisibility()
    assert not panel.session.segmentationNode.GetDisplayVisibility()
    assert host.views["Red"].mrmlSliceCompositeNode().GetBackgroundVolumeID() == proxy.GetID()
    browser.SetSelectedItemNumber(5)
    assert slice_of(host, proxy) == 0, "the browser's image is in the view"
    box = host.scene.GetFirstNodeByClass("vtkMRMLMarkupsROINode")
    assert not box.GetDisplayVisibility()
    panel.click("showMasks")
    assert box.GetDisplayVisibility()
    assert host.views["Red"].mrmlSliceCompositeNode().GetBackgroundVolumeID() == video.GetID()
    assert panel.session.segmentationNode.GetDisplayVisibility()
    assert slice_of(host, video) == 5
    # What is prompted belongs to the video.
    panel.click("showMasks")
    panel.press(QtCore.Qt.Key.Key_P)
    assert host.views["Red"].mrmlSliceCompositeNode().GetBackgroundVolumeID() == video.GetID()
    assert not panel.find("showMasks").checked


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("components", [0, 3, 4])
def test_a_slice_of_each_frame_lies_where_it_lies_in_the_sequence(host, grid, components):
    generator = np.random.default_rng(1)
    shape = (3, 5, 6, components) if components else (3, 5, 6)
    frames = generator.integers(0, 255, (4, *shape)).astype(np.uint8)
    browser, proxy = add_sequence(host, frames, grid, unit="ms", values=["0", "10", "25", "40"])
    proxy.SetAndObserveTransformNodeID(add_transform(host).GetID())
    video = openVideo(proxy, 2)
    expected = frames[:, 2]
    expected = expected[..., :3] if components else expected
    found = videoOf(video)
    np.testing.assert_array_equal(found.array, expected)
    assert found.metadata["frame_times"] == pytest.approx([0, 0.01, 0.025, 0.04])
    assert found.metadata["fps"] == pytest.approx(75)
    for corner in ((0, 0), (5, 4)):
        np.testing.assert_allclose(
            VolumeGeometry(video).worldFromIjk((*corner, 0)),
            VolumeGeometry(proxy).worldFromIjk((*corner, 2)),
            atol=1e-4,
        )
    assert openVideo(proxy, 2) is video
    assert openVideo(proxy, 1) is not video
    assert browserOf(video) is browser
    assert sequenceOf(video) is None
    assert sequenceOf(proxy)[0] is browser


def test_frames_that_are_no_video_are_refused_in_one_line(open_panel, host):  # noqa: F811
    frames = cine()[:3, None]
    panel = open_panel()
    for damage, why in (
        (lambda frame: frame.SetAndObserveImageData(None), "frame 1 of this sequence has no image"),
        (lambda frame: host.slicer.util.updateVolumeFromArray(frame, frames[0, :, :9]), "frame 1 .* another size"),
        (lambda frame: frame.SetOrigin(1, 2, 3), "frame 1 of this sequence lies elsewhere than the first"),
    ):
        browser, proxy = add_sequence(host, frames)
        damage(browser.GetMasterSequenceNode().GetNthDataNode(1))
        with pytest.raises(InputError, match=why):
            openVideo(proxy)
    panel.find("volume").setCurrentNode(proxy)
    panel.click("openVideo")
    assert panel.status == "The sequence was not opened: frame 1 of this sequence lies elsewhere than the first."
    assert panel.find("volume").currentNode() is proxy
    browser, proxy = add_sequence(host, np.zeros((2, 1, 5, 6, 2), np.uint8))
    with pytest.raises(InputError, match="2 components"):
        openVideo(proxy)
    with pytest.raises(InputError, match="no slice 1"):
        openVideo(add_sequence(host, frames)[1], 1)
    with pytest.raises(InputError, match="no frame of a sequence"):
        openVideo(add_volume(host, frames[0]))


def test_a_video_and_its_masks_come_back_with_the_scene(open_panel, host, tmp_path):  # noqa: F811
    frames = cine()
    browser, proxy = add_sequence(host, frames[:, None])
    panel = open_panel()
    panel.find("volume").setCurrentNode(proxy)
    panel.click("openVideo")
    panel.press(QtCore.Qt.Key.Key_B)
    host.views["Red"].drag(panel.world(11, 11, 0), panel.world(29, 29, 0))
    panel.settle()
    event_loop.process_events()
    drawn, segment = panel.voxels()[0], panel.segment()
    assert drawn.any()
    np.testing.assert_array_equal(masks_of(host, browser, panel, 0), drawn)
    path = tmp_path / "scene.mrb"
    save_bundle(host, path)
    load_bundle(host, path)
    event_loop.process_events()
    video = panel.volume
    np.testing.assert_array_equal(host.slicer.util.arrayFromVolume(video), frames)
    assert looksLikeFilm(video)
    browser = browserOf(video)
    assert browser.GetNumberOfItems() == FRAMES
    masks = panel.widget._video.masks
    assert masks.sequence.GetNumberOfDataNodes() == FRAMES
    assert panel.session.isPrompted(segment)
    np.testing.assert_array_equal(masks_of(host, browser, panel, 0), drawn)
    assert not masks_of(host, browser, panel, 4).any()
    panel.click("propagate")
    panel.settle()
    event_loop.process_events()
    np.testing.assert_array_equal(masks_of(host, browser, panel, 4), panel.voxels(segment)[4])
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 2


# What leaves the panel ------------------------------------------------------------------------------------------------


@pytest.fixture
def followed(open_panel, host):  # noqa: F811
    """A panel with a disc outlined on all frames of a cine."""
    _browser, proxy = add_sequence(host, cine()[:, None])
    panel = open_panel()
    panel.find("volume").setCurrentNode(proxy)
    panel.click("openVideo")
    panel.press(QtCore.Qt.Key.Key_B)
    host.views["Red"].drag(panel.world(11, 11, 0), panel.world(29, 29, 0))
    panel.settle()
    panel.click("propagate")
    panel.settle()
    segment = panel.session.segmentationNode.GetSegmentation().GetSegment(panel.segment())
    segment.SetName("ventricle")
    segment.SetColor(0.0, 1.0, 0.0)
    return panel


def export(panel, path):
    panel.widget._export._ask = lambda *_question: str(path)
    box = panel.find("format")
    panel.unfold(box)
    box.currentIndex = box.findData("." + path.name.partition(".")[2])
    panel.click("export")
    event_loop.wait_until(lambda: panel.status.startswith(("Exported", "Nothing")), 60, "the export")
    return panel.status


def test_a_video_is_exported_as_sequence_pictures_overlay_and_areas(followed, host, tmp_path):
    panel, found = followed, followed.voxels()
    box = panel.find("format")
    assert [box.itemData(n) for n in range(box.count)][-4:] == [".seq.nrrd", ".png", ".mp4", ".csv"]
    for ending in (".seq.nrrd", ".png", ".csv"):
        assert export(panel, tmp_path / f"disc{ending}").startswith("Exported to"), panel.status
    # Slicer's own reader gives the labels of each frame, and the browser's times.
    sequence = host.slicer.modules.sequences.logic().AddSequence(str(tmp_path / "disc.seq.nrrd"))
    assert [float(sequence.GetNthIndexValue(n)) for n in range(FRAMES)] == pytest.approx(np.arange(FRAMES) * 0.04)
    for index in range(FRAMES):
        frame = host.slicer.util.arrayFromVolume(sequence.GetNthDataNode(index))
        np.testing.assert_array_equal(frame[0], found[index])
    assert "Segment0_Color:=0 1 0" in (tmp_path / "disc.seq.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    for index in range(FRAMES):
        picture = np.asarray(Image.open(tmp_path / "disc" / f"frame{index:05}.png"))
        np.testing.assert_array_equal(picture, found[index])
    rows = list(csv.DictReader((tmp_path / "disc.csv").read_text().splitlines()))
    assert [row["segment"] for row in rows] == ["ventricle"] * FRAMES
    assert [int(row["pixels"]) for row in rows] == found.sum(axis=(1, 2)).tolist()
    assert float(rows[3]["seconds"]) == pytest.approx(0.12)
    assert float(rows[3]["mm2"]) == pytest.approx(found[3].sum() * 0.8 * 1.1, rel=1e-4)
    assert read_record(tmp_path / "disc.json")["outputs"][0]["path"] == "disc.csv"
    assert export(panel, tmp_path / "disc.png").startswith("Nothing was exported"), "the folder is full"


def test_an_overlay_has_the_segments_colours(followed, tmp_path):
    pytest.importorskip("av")
    assert export(followed, tmp_path / "disc.mp4").startswith("Exported to"), followed.status
    video = read_video(tmp_path / "disc.mp4")
    assert len(video.array) == FRAMES
    assert video.metadata["fps"] == pytest.approx(25)
    green = video.array[..., 1].astype(int) - video.array[..., 0]
    mask = followed.voxels()
    assert green[mask].mean() > 40
    assert abs(green[~mask].mean()) < 10


def test_areas_over_time_are_a_plot_in_the_scene(followed, host):
    panel, found = followed, followed.voxels()
    host.scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    panel.click("plotAreas")
    chart = host.scene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetName() in panel.status
    selection = host.core.app_logic.GetSelectionNode()
    assert selection.GetActivePlotChartID() == chart.GetID(), "Slicer shows it"
    series = chart.GetNthPlotSeriesNode(0)
    assert (chart.GetXAxisTitle(), chart.GetYAxisTitle()) == ("Time (s)", "Area (mm²)")
    assert series.GetColor() == (0, 1, 0)
    table = series.GetTableNode()
    across, up = (
        host.slicer.util.arrayFromTableColumn(table, name)
        for name in (series.GetXColumnName(), series.GetYColumnName())
    )
    np.testing.assert_allclose(across, np.arange(FRAMES) * 0.04)
    np.testing.assert_allclose(up, found.sum(axis=(1, 2)) * 0.8 * 1.1, rtol=1e-6)
    panel.session.segmentationNode.GetSegmentation().AddEmptySegment("", "other")
    panel.click("plotAreas")
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    assert host.scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == chart.GetNumberOfPlotSeriesNodes() == 2


def test_only_videos_offer_what_is_for_videos(open_panel, host, sphere):  # noqa: F811
    volume = add_volume(host, sphere)
    panel = open_panel()
    panel.find("volume").setCurrentNode(volume)
    panel.press(QtCore.Qt.Key.Key_B)
    box = panel.find("format")
    assert box.findData(".csv") == -1
    assert not panel.widget._video.widget.visible
    film = panel.find("film")
    panel.unfold(film)
    film.toggle()
    event_loop.process_events()
    assert box.findData(".csv") >= 0
    assert panel.widget._video.widget.visible


@pytest.fixture
def slowly(monkeypatch):
    """Nothing counts as looked at by itself."""
    monkeypatch.setattr(ReviewPanel, "_LOOK_MS", 10**8)


def test_what_the_browser_shows_is_no_look_at_the_video(slowly, followed):
    panel, segment = followed, followed.segment()
    review = panel.widget._review
    panel.click("showMasks")
    review._onLooked()
    assert not any(each.seen for each in panel.session.reviewed(segment).values())
    panel.click("showMasks")
    review._onLooked()
    assert [index for index, each in panel.session.reviewed(segment).items() if each.seen] == [0]


def test_a_sequence_that_changes_under_its_video_is_told_and_opened_anew(followed, host):
    panel = followed
    browser, video = browserOf(panel.volume), panel.volume
    master = browser.GetMasterSequenceNode()
    masks = panel.widget._video.masks
    held = masks.sequence.GetNumberOfDataNodes()
    master.RemoveDataNodeAtValue(master.GetNthIndexValue(FRAMES - 1))
    panel.session._slices.writeSlice(panel.segment(), "k", 2, np.zeros((40, 48), bool))
    panel.settle()
    event_loop.process_events()
    assert panel.status.startswith("The sequence has other frames now"), panel.status
    assert masks.sequence.GetNumberOfDataNodes() == held
    assert masks_of(host, browser, panel, 2).any(), "they stay as they are"
    again = openVideo(browser.GetProxyNode(master))
    assert again is not video
    assert VolumeGeometry(again).count("k") == FRAMES - 1


def test_masks_in_boxes_that_grow_are_compared_frame_by_frame():
    generator = np.random.default_rng(2)
    whole = generator.random((2, 6, 7, 8)) < 0.02

    def held(mask, extent):
        i0, i1, j0, j1, k0, k1 = extent
        box = np.zeros_like(mask)
        box[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = mask[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1]
        return _Held((), 0, (extent, mask[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])), box

    extents = [(0, 7, 0, 6, 0, 5), (2, 5, 1, 4, 1, 3), (4, 7, 3, 6, 2, 5), (0, 7, 0, 6, 5, 5)]
    for one, two in itertools.product(extents, extents):
        (a, here), (b, there) = held(whole[0], one), held(whole[1], two)
        assert a.differences(b) == set(np.flatnonzero((here != there).any(axis=(1, 2))))
        assert a.differences(_Held((), 0, None)) == set(np.flatnonzero(here.any(axis=(1, 2))))
        for index in range(6):
            found, again = a.frame(index), np.zeros((7, 8), bool)
            if found is not None:
                (i0, i1, j0, j1, *_ks), pixels = found
                again[j0 : j1 + 1, i0 : i1 + 1] = pixels[0]
            np.testing.assert_array_equal(again, here[index])


def test_nothing_is_looked_at_where_there_is_no_input_any_more(slowly, followed):
    followed.find("volume").setCurrentNode(None)
    event_loop.process_events()
    assert followed.session.segmentationNode is None
    assert followed.segment(), "it is still chosen"
    followed.widget._review._onLooked()


# While the browser's images are shown ---------------------------------------------------------------------------------


def background(host):
    return host.scene.GetNodeByID(host.views["Red"].mrmlSliceCompositeNode().GetBackgroundVolumeID())


@pytest.fixture
def played(followed):
    """The browser's own images are shown, at frame 5."""
    event_loop.process_events()
    browserOf(followed.volume).SetSelectedItemNumber(5)
    followed.click("showMasks")
    assert followed.find("showMasks").checked
    return followed


def test_what_is_painted_on_the_frame_shown_becomes_a_prompt_of_that_frame(played, host):
    played.press(QtCore.Qt.Key.Key_M)
    assert played.status == "What is painted on slice 5 is now a prompt."
    assert background(host) is played.volume


def test_the_frame_that_is_shown_is_locked_and_taken_into_the_range(played, host):
    played.click("lock")
    assert played.session.lockedSlices(played.segment()) == {5}
    assert background(host) is played.volume
    played.click("showMasks")
    played.unfold(played.find("firstHere"))
    played.click("firstHere")
    assert played.session.parameters.first == 5


def test_a_segment_is_started_from_and_the_next_slice_shown_on_the_video(played, host):
    played.click("startFrom")
    assert background(host) is played.volume
    played.click("showMasks")
    played.widget._review.goTo(3)
    assert background(host) is played.volume
    assert slice_of(host, played.volume) == 3
    played.click("showMasks")
    assert played.widget._review.review.shown() == []


def test_a_line_measured_on_the_browsers_images_is_no_prompt_of_the_first_frame(played, host):
    before = len(played.prompts())
    line = host.scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "diameter")
    for i in (14, 26):
        line.AddControlPointWorld(played.world(i, 20, 0))
    line.CreateDefaultDisplayNodes()
    line.GetDisplayNode().SetActiveComponent(line.GetDisplayNode().ComponentLine, 0)
    played.press(QtCore.Qt.Key.Key_D)
    played.settle()
    assert len(played.prompts()) == before
    assert background(host) is played.volume


@pytest.mark.parametrize("tool", ["point", "box", "scribble"])
def test_a_tool_is_put_down_when_the_browsers_images_are_shown(followed, tool):
    event_loop.process_events()
    followed.widget.actions.take(tool)
    assert followed.widget.actions.tools.tool == tool
    followed.click("showMasks")
    assert followed.widget.actions.tools.tool == "none"


def test_prompts_stay_hidden_on_the_browsers_images_and_cannot_be_deleted_there(played, host):
    box = host.scene.GetFirstNodeByClass("vtkMRMLMarkupsROINode")
    for _time in range(2):
        played.click("show")
        assert not box.GetDisplayVisibility()
    display = box.GetDisplayNode()
    display.SetActiveComponent(display.ComponentControlPoint, 0)
    played.press(QtCore.Qt.Key.Key_Delete)
    assert box.GetScene() is not None
    played.click("showMasks")
    assert box.GetDisplayVisibility()


@pytest.mark.parametrize("what", ["volume", "segmentation", "nothing", "gone"])
def test_the_browsers_masks_are_hidden_when_something_else_is_worked_on(played, host, what):
    masks, own, video = played.widget._video.masks.shown, played.session.segmentationNode, played.session.volumeNode
    assert masks.GetDisplayVisibility()
    if what == "volume":
        played.find("volume").setCurrentNode(add_volume(host, cine()))
    elif what == "segmentation":
        played.find("segmentation").setCurrentNode(host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other"))
    elif what == "nothing":
        played.find("volume").setCurrentNode(None)
    else:
        host.scene.RemoveNode(own)
    event_loop.process_events()
    assert not masks.GetDisplayVisibility()
    assert not played.find("showMasks").checked
    if what == "gone":
        return
    played.widget._takeCase(video, own)
    event_loop.process_events()
    assert own.GetDisplayVisibility()
    assert not masks.GetDisplayVisibility()
    assert slice_of(host, video) is not None


def test_a_scene_that_was_saved_with_the_browsers_images_comes_back_with_the_video(played, host, tmp_path):
    save_bundle(host, tmp_path / "scene.mrb")
    load_bundle(host, tmp_path / "scene.mrb")
    event_loop.process_events()
    masks = played.widget._video.masks.shown
    assert not masks.GetDisplayVisibility()
    assert played.session.segmentationNode.GetDisplayVisibility()
    assert not played.find("showMasks").checked
    assert background(host) is played.volume
    assert slice_of(host, played.volume) == 5


def test_the_masks_are_seen_on_the_video_when_the_browser_is_deleted(played, host):
    masks = played.widget._video.masks.shown
    host.scene.RemoveNode(browserOf(played.volume))
    event_loop.process_events()
    assert played.session.segmentationNode.GetDisplayVisibility()
    assert background(host) is played.volume
    assert not played.find("showMasks").checked
    assert masks.GetScene() is None or not masks.GetDisplayVisibility()
