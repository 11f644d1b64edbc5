"""The sample volume, and what Slicer is told about the module."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from biosam2.synthetic.phantom import ct_phantom
from BioSAM2SlicerLib.scene.VolumeGeometry import volumeOf
from BioSAM2SlicerLib.ui.SampleVolume import NAME, makeSampleVolume
from PySide6 import QtCore, QtWidgets


def test_the_sample_volume_is_the_engines(host):
    node = makeSampleVolume()
    expected = ct_phantom().volume
    found = volumeOf(node)
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.ijk_to_lps, expected.ijk_to_lps, atol=1e-6)
    assert node.GetName() == NAME
    assert node.GetScalarVolumeDisplayNode().GetWindow() == 400
    assert host.views["Red"].mrmlSliceCompositeNode().GetBackgroundVolumeID() == node.GetID()


def test_slicer_is_not_frozen_while_it_is_generated_and_can_cancel_it(host):
    """The dialog is there, the event loop runs, and its button ends the process and leaves nothing in the scene."""
    dialogs: list[object] = []

    def look():
        for widget in host.qt_application.topLevelWidgets():
            if isinstance(widget, QtWidgets.QProgressDialog) and QtWidgets.QWidget.isVisible(widget):
                dialogs.append(widget)
                assert "Generating" in QtWidgets.QProgressDialog.labelText(widget)
                if len(dialogs) == 3:
                    widget.findChild(QtWidgets.QPushButton).click()

    timer = QtCore.QTimer()
    timer.timeout.connect(look)
    timer.start(20)
    node = makeSampleVolume()
    timer.stop()
    assert len(dialogs) >= 3, "the event loop stood still"
    assert node is None
    assert host.scene.GetFirstNodeByName(NAME) is None


@pytest.fixture
def sample_data(monkeypatch):
    """Slicer's Sample Data module has no part in slicer-core: what it is told, by its function's names."""
    told = []

    def register(**named):
        assert set(named) <= {
            *("category", "sampleName", "uris", "fileNames", "nodeNames", "customDownloader", "thumbnailFileName"),
            *("loadFileType", "loadFiles", "loadFileProperties", "checksums"),
        }
        # As SampleDataSource does: text is one entry, and all lists are equally long.
        fields = [named.get(name) for name in ("uris", "fileNames", "nodeNames", "loadFileTypes")]
        if isinstance(fields[0], str):
            fields = [[field] for field in fields]
        assert len({len(field) for field in fields}) == 1
        told.append(named)

    module = ModuleType("SampleData")
    module.SampleDataLogic = SimpleNamespace(registerCustomSampleDataSource=register)
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return told


def test_slicer_is_told_of_icon_and_sample_when_it_has_started(host, sample_data):
    import BioSAM2Slicer

    parent = SimpleNamespace()
    module = BioSAM2Slicer.BioSAM2Slicer(parent)
    assert not parent.icon.isNull()
    assert not sample_data
    host.slicer.app.startupCompleted.emit()
    host.slicer.app.startupCompleted.disconnect(module.onStartupCompleted)
    (source,) = sample_data
    assert (source["category"], source["sampleName"]) == ("BioSAM2Slicer", "Generated abdominal CT")
    assert source["thumbnailFileName"].endswith("BioSAM2Slicer.png")
    source["customDownloader"](None)
    assert host.scene.GetFirstNodeByName(NAME) is not None
