"""What leaves the panel is read back by Slicer, by the engine and by SimpleITK, and lies on the same voxels."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from biosam2 import Box, Point
from biosam2.errors import BioSAM2Error, InputError
from biosam2.io import read_volume
from biosam2.io.review import Review
from biosam2.record import read as read_record
from biosam2.record import review_of
from biosam2.session import ModelFacts, SessionSettings
from biosam2.session.entries import Prompted, Propagated
from biosam2.volume import Volume
from BioSAM2SlicerLib.export.Exporter import Exporter, Segments, maskOf
from BioSAM2SlicerLib.export.Measures import measure, showTable
from BioSAM2SlicerLib.scene.Parameters import Parameters
from BioSAM2SlicerLib.scene.VolumeGeometry import volumeOf
from BioSAM2SlicerLib.session.SceneState import SceneState
from BioSAM2SlicerLib.ui.ExportPanel import ExportPanel
from BioSAM2SlicerLib.worker.InstallLogic import DICOM_PACKAGES, InstallLogic
from engine_process import engines
from host import event_loop
from panel_helpers import GRIDS, add_transform, add_volume, load_volume
from test_panel_widget import open_panel  # noqa: F401 - a fixture

TESTING = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTING / "io"))

LEFT_KIDNEY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^64033007^Kidney~SCT^7771000^Left~Anatomic codes - DICOM master list~SCT^818981001^Abdomen~^^"
)
MODEL = ModelFacts(name="nano", sha256="ab" * 32, device="cpu", device_reason="", image_size=256)


def segmentation_of(host, volume, masks):
    """A segmentation with these masks: name, bool (k, j, i)."""
    slicer = host.slicer
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "found")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for number, (name, mask) in enumerate(masks.items(), start=1):
        added = node.GetSegmentation().AddEmptySegment(f"Segment_{number}", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, added, volume)
    return node


def said():
    """A session's record: prompts and a propagation of the first segment."""
    scene = SceneState()
    scene.begin(SessionSettings(axis="k", window=(100.0, 400.0), crop="auto", policy="path"), (6, 8, 10))
    scene.add(Prompted("Segment_1", Box((2.0, 2.0, 3.0), (8.0, 6.0, 3.0))), "p1")
    scene.add(Prompted("Segment_1", Point((4.0, 4.0, 3.0), False)), "p2")
    scene.add(Propagated(("Segment_1",), "both", None, None, (("Segment_1", 3), ("Segment_1", 4)), True))
    return scene.state.to_record("float32")


@pytest.fixture
def masks():
    generator = np.random.default_rng(5)
    first = np.zeros((6, 8, 10), bool)
    first[1:4, 2:6, 3:8] = True
    return {"liver | left": first, "a lesion": generator.random(first.shape) < 0.2}


@pytest.fixture
def voxels():
    return np.random.default_rng(3).integers(0, 1000, (6, 8, 10)).astype(np.int16)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_a_labelmap_lies_on_the_volumes_voxels(host, tmp_path, voxels, masks, grid, ending):
    volume = add_volume(host, voxels, GRIDS[grid])
    node = segmentation_of(host, volume, masks)
    # Files hold what lies on the volume's voxels, wherever the scene has moved both.
    volume.SetAndObserveTransformNodeID(add_transform(host).GetID())
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    path = tmp_path / f"out{ending}"
    written = Exporter(lambda: MODEL).write(path, node, volume, said())
    assert [file.name for file in written] == [f"out{ending}", "out.ctbl", "out.json"]
    expected = np.zeros(voxels.shape, np.uint8)
    for label, mask in enumerate(masks.values(), start=1):
        expected[mask] = label
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
    own = Segments(node, volume).volume
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((9, 7, 5)), own.lps_from_ijk((9, 7, 5)), atol=1e-3)
    assert sorted(os.listdir(tmp_path)) == [f"out{ending}"[:3] + end for end in sorted([ending, ".ctbl", ".json"])]


def test_the_colour_table_names_the_labels(host, tmp_path, voxels, masks):
    volume = add_volume(host, voxels)
    node = segmentation_of(host, volume, masks)
    node.GetSegmentation().GetNthSegment(1).SetColor(0.25, 0.5, 0.75)
    Exporter(lambda: MODEL).write(tmp_path / "out.nrrd", node, volume, said())
    table = host.scene.AddNewNodeByClass("vtkMRMLColorTableNode")
    storage = host.slicer.vtkMRMLColorTableStorageNode()
    storage.SetFileName(str(tmp_path / "out.ctbl"))
    assert storage.ReadData(table)
    assert [table.GetColorName(n) for n in range(3)] == ["background", "liver | left", "a lesion"]
    header = (tmp_path / "out.ctbl").read_text().splitlines()[0]
    assert header.endswith("out.ctbl")
    assert str(tmp_path) not in header
    colour = [0.0] * 4
    table.GetColor(2, colour)
    np.testing.assert_allclose(colour, [0.25, 0.5, 0.75, 1], atol=0.01)


def test_a_segmentation_is_read_back_by_slicer_with_how_it_came_about(host, tmp_path, voxels, masks):
    volume = add_volume(host, voxels, GRIDS["oblique"])
    node = segmentation_of(host, volume, masks)
    Exporter(lambda: MODEL).write(tmp_path / "out.seg.nrrd", node, volume, said())
    again = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = host.slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "out.seg.nrrd"))
    assert storage.ReadData(again)
    for number, mask in enumerate(masks.values()):
        segment_id = again.GetSegmentation().GetNthSegmentID(number)
        np.testing.assert_array_equal(maskOf(again, segment_id, volume), mask)
    import vtk

    tag = vtk.reference("")
    assert again.GetSegmentation().GetNthSegment(0).GetTag("BioSAM2.modelSHA256", tag)
    assert str(tag) == MODEL.sha256
    assert again.GetSegmentation().GetNthSegment(0).GetTag("BioSAM2.journal", tag)
    journal = json.loads(str(tag))
    assert [entry["op"] for entry in journal] == ["prompt", "prompt", "propagate"]
    assert journal[0]["segment"] == "liver | left"
    # What nobody prompted has no such history.
    assert not again.GetSegmentation().GetNthSegment(1).HasTag("BioSAM2.journal")
    # The node is kept where it was kept before.
    assert node.GetStorageNode() is None


def test_the_record_tells_hashes_of_model_input_and_outputs(host, tmp_path, voxels, masks):
    volume = add_volume(host, voxels)
    node = segmentation_of(host, volume, masks)
    Exporter(lambda: MODEL).write(tmp_path / "out.nii.gz", node, volume, said())
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["model"]["sha256"] == MODEL.sha256
    assert record["input"]["voxels_sha256"] == hashlib.sha256(voxels.tobytes()).hexdigest()
    assert record["input"]["path"] == "image (3D Slicer)"  # it came from no file
    assert record["input"]["sha256"] == ""
    outputs = {o["path"]: o["sha256"] for o in record["outputs"]}
    assert outputs["out.nii.gz"] == hashlib.sha256((tmp_path / "out.nii.gz").read_bytes()).hexdigest()
    assert record["session"]["window"] == [100.0, 400.0]
    assert record["session"]["journal"][2]["segments"] == ["liver | left"]
    assert "Segment_1" not in json.dumps(record)


def test_a_volume_from_a_file_is_named_with_its_hash(host, tmp_path, shared_data, masks):
    path = shared_data / "mr-breast-lesion" / "image.nrrd"
    volume = load_volume(host, path)
    volume.SetAndObserveStorageNodeID(host.scene.GetFirstNodeByClass("vtkMRMLVolumeArchetypeStorageNode").GetID())
    array = host.slicer.util.arrayFromVolume(volume)
    node = segmentation_of(host, volume, {"lesion": array > np.percentile(array, 99)})
    exporter = Exporter(lambda: MODEL)
    record = exporter.record(Segments(node, volume), volume, said())
    assert record["input"]["path"] == str(path)
    assert record["input"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    # A volume that was changed in the scene is not the file's any more.
    host.slicer.util.updateVolumeFromArray(volume, array + 1)
    assert exporter.record(Segments(node, volume), volume, said())["input"]["sha256"] == ""


@pytest.mark.parametrize("handed", [1, -1], ids=["right-handed", "left-handed"])
def test_a_file_is_named_and_whether_its_slices_are_counted_alike(host, tmp_path, voxels, masks, handed):
    """Slicer counts the slices of a left-handed file from its other end; the record says so."""
    image = sitk.GetImageFromArray(voxels)
    image.SetDirection(np.diag([1.0, 1.0, handed]).ravel().tolist())
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(image, str(path))
    volume = load_volume(host, path)
    volume.SetAndObserveStorageNodeID(host.scene.GetFirstNodeByClass("vtkMRMLVolumeArchetypeStorageNode").GetID())
    alike = np.array_equal(host.slicer.util.arrayFromVolume(volume), voxels)
    node = segmentation_of(host, volume, masks)
    record = Exporter(lambda: MODEL).record(Segments(node, volume), volume, said())
    assert alike == (handed > 0)
    assert record["input"]["path"] == str(path)
    assert record["input"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["input"]["reversed_slices"] is not alike
    # As the file is read again: the voxels are those that the prompts were given on.
    again = read_volume(path)
    again = again if alike else again.reversed_slices()
    np.testing.assert_array_equal(again.array, host.slicer.util.arrayFromVolume(volume))
    np.testing.assert_allclose(again.ijk_to_lps, volumeOf(volume).ijk_to_lps, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True], ids=["as in the files", "slices the other way round"])
def test_dicom_seg_for_a_volume_from_dicom(host, tmp_path, voxels, masks, reverse):
    from dicom_helpers import write_series
    from pydicom import dcmread

    highdicom = pytest.importorskip("highdicom")
    grid = Volume(voxels, (0.8, 1.1, 2.5), (-12.0, 30.0, 7.0), np.eye(3))
    files = write_series(tmp_path / "series", grid, shuffle=1)
    by_uid = {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): str(file) for file in files}
    if reverse:
        directions = np.diag([-1.0, -1.0, -1.0])
        volume = add_volume(host, voxels[::-1], directions, origin=(12.0, -30.0, 7.0 + 5 * 2.5))
        shown = {name: mask[::-1] for name, mask in masks.items()}
    else:
        volume, shown = add_volume(host, voxels, origin=(12.0, -30.0, 7.0)), masks
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(by_uid))
    node = segmentation_of(host, volume, shown)
    kidney = node.GetSegmentation().GetSegment("Segment_1")
    kidney.SetColor(0.0, 0.5, 1.0)
    kidney.SetTag(kidney.GetTerminologyEntryTagName(), LEFT_KIDNEY)
    exporter = Exporter(lambda: MODEL, by_uid.get)
    assert ".dcm" in exporter.formats(volume)
    # Slices are counted as the node counts them: this is slice 1 of the files.
    seen = {"liver | left": (4 if reverse else 1,)}
    review = Review(True, "anna", "2026-05-17T09:30:00Z", "k", seen)
    exporter.write(tmp_path / "out.dcm", node, volume, said(), review)
    file = dcmread(tmp_path / "out.dcm")
    assert file.SegmentSequence[0].SegmentDescription == (
        "A person looked at 1 of the 3 slices that show it, and approved the segmentation."
    )
    commented = [f for f in file.PerFrameFunctionalGroupsSequence if "FrameComments" in f.FrameContentSequence[0]]
    assert [(f.SegmentIdentificationSequence[0].ReferencedSegmentNumber, _place(f)) for f in commented] == [(1, 9.5)]
    assert file.ContributingEquipmentSequence[-1].OperatorsName == "anna^"
    assert review_of(read_record(tmp_path / "out.json")) == review
    found = highdicom.seg.segread(tmp_path / "out.dcm")
    one, two = map(found.get_segment_description, (1, 2))
    assert [one.segment_label, two.segment_label] == list(masks)
    assert one.segmented_property_category.meaning == "Anatomical Structure"
    assert one.segmented_property_type.value == "64033007"
    assert one.segmented_property_type.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert [region.meaning for region in one.anatomic_regions] == ["Abdomen"]
    assert two.segmented_property_type.meaning == "Tissue"
    blue = highdicom.color.CIELabColor.from_rgb(0, 128, 255)
    assert one.RecommendedDisplayCIELabValue == list(blue.value)
    for number, mask in enumerate(masks.values(), start=1):
        uids = sorted(by_uid, key=lambda uid: _height(by_uid[uid]))
        frames = found.get_pixels_by_source_instance(uids, segment_numbers=[number], ignore_spatial_locations=True)
        np.testing.assert_array_equal(frames[..., 0].astype(bool), mask)


@pytest.mark.parametrize("entry", ["Liver", "~~~~~~"])
def test_damaged_terminology_is_named_and_nothing_is_written(host, tmp_path, voxels, masks, entry):
    pytest.importorskip("highdicom")
    from dicom_helpers import write_series
    from pydicom import dcmread

    files = write_series(tmp_path / "series", Volume(voxels, (0.8, 1.1, 2.5), (-12.0, 30.0, 7.0), np.eye(3)))
    by_uid = {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): str(file) for file in files}
    volume = add_volume(host, voxels, origin=(12.0, -30.0, 7.0))
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(by_uid))
    node = segmentation_of(host, volume, masks)
    segment = node.GetSegmentation().GetSegment("Segment_2")
    segment.SetTag(segment.GetTerminologyEntryTagName(), entry)
    with pytest.raises(InputError, match="a lesion"):
        Exporter(lambda: MODEL, by_uid.get).write(tmp_path / "out.dcm", node, volume, said())
    assert not list(tmp_path.glob("out*"))


class DicomExport:
    """The user who exports a volume from DICOM as DICOM SEG."""

    def __init__(self, host, folder, voxels, masks, installer=None):
        self.folder = folder
        volume = add_volume(host, voxels)
        volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
        session = SimpleNamespace(
            segmentationNode=segmentation_of(host, volume, masks),
            volumeNode=volume,
            running=False,
            axis="k",
            reviewed=lambda _segment: {},
            parameters=Parameters(),
            toRecord=said,
        )
        self.said, self.asked = [], []
        complete = InstallLogic([], torch=False)
        self.panel = ExportPanel(
            session,
            lambda: MODEL,
            self.said.append,
            ask=lambda *_what: str(folder / "out.dcm"),
            askInstall=lambda text: self.asked.append(text) or True,
            makeInstaller=lambda _packages: installer or complete,
        )
        box = self.panel._formatBox
        box.currentIndex = box.findData(".dcm")

    def export(self):
        """The line that the user reads at the end; nothing was written."""
        self.panel.export()
        event_loop.wait_until(lambda: self.said and not self.panel._installer, what="the export")
        assert os.listdir(self.folder) == []
        assert "\n" not in self.said[-1]
        return self.said[-1]


def test_a_pydicom_replaced_since_slicer_loaded_it_asks_for_a_restart(host, tmp_path, voxels, masks, monkeypatch):
    import pydicom

    now = pydicom.__version__
    monkeypatch.setattr(pydicom, "__version__", "2.4.4")
    line = DicomExport(host, tmp_path, voxels, masks).export()
    assert (
        line == f"Nothing was exported: Restart Slicer to write DICOM SEG: pydicom 2.4.4 is loaded, {now} is installed."
    )


def test_installing_what_replaces_slicers_pydicom_ends_in_a_restart(host, tmp_path, voxels, masks, monkeypatch):
    import pydicom
    import qt

    there = set()

    class Pip(qt.QProcess):
        def start(self, _python, arguments):
            there.update(package.module for package in DICOM_PACKAGES)
            super().start(sys.executable, ["-c", "print('Successfully installed')"])

    monkeypatch.setattr(pydicom, "__version__", "2.4.4")
    logic = InstallLogic(DICOM_PACKAGES, False, there.__contains__, makeProcess=Pip, versionOf={"pydicom": "2.4.4"}.get)
    user = DicomExport(host, tmp_path, voxels, masks, logic)
    assert user.export().startswith("Nothing was exported: Restart Slicer to write DICOM SEG")
    (question,) = user.asked
    assert "pydicom 2.4.4 is replaced" in question


def test_a_package_that_does_not_load_is_one_line(host, tmp_path, voxels, masks, monkeypatch):
    for name in list(sys.modules):
        if name.startswith("biosam2.io.dicom"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    line = DicomExport(host, tmp_path, voxels, masks).export()
    assert line.startswith("Nothing was exported: ")
    assert "pydicom.pixels" in line
    assert "Restart Slicer" in line


def test_the_panel_does_not_load_pydicom_before_it_is_needed():
    """Slicer's own is then the one that is loaded, and pip may be about to replace it."""
    library = Path(sys.modules[Exporter.__module__].__file__).parent
    imported = sorted(
        node.module
        for file in library.glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("biosam2")
    )
    assert "biosam2.io.segmentation" in imported
    script = f"import sys, {', '.join(imported)}; print('pydicom' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def _place(frame):
    return float(frame.PlanePositionSequence[0].ImagePositionPatient[2])


def _height(file):
    from pydicom import dcmread

    return float(dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])


def test_dicom_seg_is_not_offered_for_other_volumes(host, tmp_path, voxels, masks):
    volume = add_volume(host, voxels)
    node = segmentation_of(host, volume, masks)
    exporter = Exporter(lambda: MODEL)
    assert ".dcm" not in exporter.formats(volume)
    with pytest.raises(InputError, match="DICOM database"):
        exporter.write(tmp_path / "out.dcm", node, volume, said())
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    with pytest.raises(InputError, match="DICOM database"):
        exporter.write(tmp_path / "out.dcm", node, volume, said())


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd"])
def test_what_cannot_be_written_is_said_in_one_line_and_leaves_nothing(host, tmp_path, voxels, masks, ending):
    volume = add_volume(host, voxels)
    node = segmentation_of(host, volume, masks)
    with pytest.raises(BioSAM2Error) as caught:
        Exporter(lambda: MODEL).write(tmp_path / "no" / f"out{ending}", node, volume, said())
    assert "\n" not in str(caught.value)
    assert "create it" in str(caught.value)
    folder = tmp_path / f"taken{ending}"
    folder.mkdir()
    with pytest.raises(BioSAM2Error, match="it is a folder"):
        Exporter(lambda: MODEL).write(folder, node, volume, said())
    assert os.listdir(tmp_path) == [folder.name]


def test_nothing_to_export_is_said(host, tmp_path, voxels):
    volume = add_volume(host, voxels)
    with pytest.raises(InputError, match="add a segment"):
        Exporter(lambda: MODEL).write(tmp_path / "out.nrrd", segmentation_of(host, volume, {}), volume, said())


def test_segments_of_one_name_stay_two(host, voxels, masks):
    volume = add_volume(host, voxels)
    node = segmentation_of(host, volume, masks)
    for number in range(2):
        node.GetSegmentation().GetNthSegment(number).SetName("same")
    assert Segments(node, volume).segments == ["same", "same 2"]


def test_measures_are_right_and_stand_in_a_table(host, voxels, masks):
    volume = add_volume(host, voxels, GRIDS["oblique"])
    node = segmentation_of(host, volume, {**masks, "empty": np.zeros(voxels.shape, bool)})
    first, second = masks.values()
    segment_id = node.GetSegmentation().GetNthSegmentID(0)
    found = measure(node, volume, segment_id)
    assert [m.voxels for m in found] == [first.sum(), second.sum(), 0]
    assert found[0].millilitres == pytest.approx(first.sum() * 0.8 * 1.1 * 2.5 / 1000)
    assert found[0].mean == pytest.approx(voxels[first].mean())
    assert found[2].mean is None
    assert found[0].dice == 1
    assert found[1].dice == pytest.approx(2 * (first & second).sum() / (first.sum() + second.sum()))
    table = showTable(found, node, "liver | left")
    assert table.GetNumberOfRows() == 3
    assert [table.GetColumnName(n) for n in (0, 2, 5)] == ["Segment", "Volume (mL)", "Dice with liver | left"]
    assert float(table.GetCellText(0, 2)) == pytest.approx(found[0].millilitres, rel=1e-4)
    # The second time it is the same table.
    assert showTable(measure(node, volume), node) is table
    assert table.GetNumberOfColumns() == 5


def test_from_the_panel_to_a_file_and_back_to_the_same_mask(open_panel, host, shared_data, tmp_path):  # noqa: F811
    """As a user: open a file, box, propagate, export; and the record makes the same mask again."""
    volume = load_volume(host, shared_data / "mr-prostate-phantom" / "image.nrrd")
    volume.SetAndObserveStorageNodeID(host.scene.GetFirstNodeByClass("vtkMRMLVolumeArchetypeStorageNode").GetID())
    host.show(volume)
    panel = open_panel()
    panel.find("volume").setCurrentNode(volume)
    panel.click("box")
    host.views["Red"].drag(panel.world(25, 20, 6), panel.world(58, 48, 6))
    panel.settle()
    panel.find("first").value, panel.find("last").value = 5, 8
    panel.click("propagate")
    panel.settle()
    export = panel.widget._export
    asked = []

    def ask(_title, suggested, kinds):
        asked.append((Path(suggested).name, kinds))
        return str(tmp_path / "mine")

    export._ask = ask
    panel.find("format").currentIndex = panel.find("format").findData(".nii.gz")
    panel.click("export")
    assert asked == [("mr-prostate-phantom segmentation.nii.gz", "NIfTI labelmap (*.nii.gz)")]
    assert "mine.nii.gz, mine.ctbl, mine.json" in panel.status
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mine.nii.gz")))
    np.testing.assert_array_equal(found.astype(bool), panel.voxels())
    assert found.any()
    panel.click("measure")
    table = panel.find("measures")
    assert table.item(0, 1).text() == str(int(found.sum()))
    code, said = engines().CommandLine().run("replay", tmp_path / "mine.json", "-q")
    assert code == 0, said
    assert "bit for bit" in said
    # Nothing is asked for, and nothing written, while masks are coming.
    panel.click("propagate")
    panel.click("export")
    assert "A propagation is running" in panel.status
    assert len(asked) == 1
    panel.settle()
