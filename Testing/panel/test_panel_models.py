"""Choosing a model that is not here: its licence is shown first, then it is downloaded; a real download, from here."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from biosam2.models import recommend, registry
from BioSAM2SlicerLib.scene.DicomSource import modalityOf
from BioSAM2SlicerLib.ui.ModelChooser import ModelChooser
from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver
from BioSAM2SlicerLib.worker.WorkerPlace import PYTHON, SERVER, WorkerPlace, readPlace, writePlace
from host import event_loop
from launcher import python_slicer  # noqa: F401 - a fixture
from panel_helpers import add_volume
from PySide6 import QtWidgets
from test_panel_widget import Panel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "service"))

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A mirror on this computer that holds one file, and the registry pointing at it."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "sam2.1_hiera_tiny.pt").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *_arguments):
            """Nothing on the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("BIOSAM2_MIRROR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("BIOSAM2_HOME", str(tmp_path / "home"))
    yield served
    server.shutdown()
    server.server_close()


class Chooser:
    """The user before the list of models."""

    def __init__(self, accepts=True, place=None, make_process=None):
        self.shown: list[str] = []
        self.accepts = accepts
        self.chosen: list[str] = []
        self.said: list[str] = []
        self.chooser = ModelChooser(place or WorkerPlace(PYTHON, sys.executable), self.accept, make_process)
        self.chooser.chosen.connect(self.chosen.append)
        self.chooser.said.connect(self.said.append)
        self.chooser.refused.connect(self.said.append)
        self.chooser.show("nano")
        self.box = self.chooser.widget.findChild(QtWidgets.QComboBox, "model")
        self.button = self.chooser.widget.findChild(QtWidgets.QPushButton, "download")
        self.purpose = self.chooser.widget.findChild(QtWidgets.QLabel, "modelPurpose")

    def accept(self, text):
        self.shown.append(text)
        return self.accepts

    def choose(self, name):
        self.box.currentIndex = self.box.findData(name)


@pytest.fixture
def make_chooser(host, web):
    for key in host.slicer.app.userSettings().allKeys():
        if "Licence" in key:
            host.slicer.app.userSettings().remove(key)
    made = []

    def make(*arguments, **named):
        made.append(Chooser(*arguments, **named))
        return made[-1]

    yield make
    for one in made:
        one.chooser.cleanup()
        one.chooser.widget.deleteLater()


def test_the_licence_is_shown_before_anything_is_downloaded(make_chooser, tmp_path):
    user = make_chooser(accepts=False)
    user.choose("medsam2")
    (text,) = user.shown
    assert "CC-BY-SA-4.0" in text
    assert "creativecommons.org" in text
    assert user.box.currentData == "nano"
    assert not user.chosen
    assert "not downloaded" in user.said[-1]
    assert not (tmp_path / "home").exists()


def test_a_model_is_recommended_for_what_is_segmented_and_comes_first(make_chooser):
    """By the registry's facts, as the command line recommends; earlier versions come last."""
    user = make_chooser()
    names = [user.box.itemData(n) for n in range(user.box.count)]
    assert not any("recommended" in user.box.itemText(n) for n in range(user.box.count))
    user.chooser.advise("MR", "cuda")
    best = recommend("MR", "cuda", True).entry
    assert user.box.itemData(0) == best.name
    assert user.box.itemText(0).startswith(f"{best.name} (recommended)")
    assert f"Recommended: {recommend('MR', 'cuda', True).summary} (trained on MR)." in user.purpose.text
    assert user.box.currentData == "nano"
    listed = [user.box.itemData(n) for n in range(user.box.count)]
    assert sorted(listed) == sorted(names)
    earlier = [name for name in names if registry.get(name).purpose == "archive"]
    assert earlier
    assert listed[-len(earlier) :] == earlier
    user.chooser.advise("MR", "cpu")
    assert user.box.itemData(0) == recommend("MR", "cpu", True).entry.name


def test_after_a_failed_download_what_is_here_is_recommended(make_chooser):
    user = make_chooser()
    user.chooser.advise("CT", "cuda")
    user.choose("sam2.1-tiny")
    event_loop.wait_until(lambda: user.box.currentData == "nano" and len(user.said) > 1, what="the refusal")
    assert user.box.itemData(0) == recommend("CT", "cuda", False).entry.name == "nano"
    assert "Recommended" in user.purpose.text


def test_what_the_host_asks_beside_the_licence_is_shown_and_consent_is_to_both(make_chooser, host):
    entry = next(entry for entry in registry.list_models() if entry.terms)
    user = make_chooser()
    host.slicer.app.userSettings().setValue("BioSAM2Slicer/acceptedLicence." + entry.name, entry.licence)
    user.accepts = False
    user.choose(entry.name)
    (text,) = user.shown
    assert entry.licence in text
    assert entry.terms in text
    host.slicer.app.userSettings().setValue("BioSAM2Slicer/acceptedLicence." + entry.name, entry.conditions)
    user.choose(entry.name)
    assert len(user.shown) == 1
    assert user.button.text == "Stop"


def test_the_modality_is_what_slicers_dicom_database_says(host, sphere, monkeypatch):
    volume = add_volume(host, sphere)
    assert modalityOf(volume) == ""
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    assert modalityOf(volume) == ""
    values = {("1.2.3", "0008,0060"): "CT"}
    database = SimpleNamespace(instanceValue=lambda instance, tag: values[instance, tag])
    monkeypatch.setattr(host.slicer, "dicomDatabase", database, raising=False)
    assert modalityOf(volume) == "CT"


def test_a_download_that_is_not_what_the_registry_says_is_told_in_one_line(make_chooser):
    """The mirror's file is not the real one: it is fetched, its hash compared, and thrown away."""
    user = make_chooser()
    user.choose("sam2.1-tiny")
    event_loop.wait_until(lambda: user.box.currentData == "nano" and len(user.said) > 1, what="the refusal")
    assert "sam2.1_hiera_tiny.pt" in user.said[-1]
    assert "\n" not in user.said[-1]
    assert not user.chosen
    # Accepted once, the licence is not asked for again.
    user.choose("sam2.1-tiny")
    assert len(user.shown) == 1


def test_a_download_ends_with_the_model_chosen(make_chooser, monkeypatch, tmp_path):
    import qt

    digest = hashlib.sha256(CONTENT).hexdigest()
    entry = dataclasses.replace(registry.get("sam2.1-tiny"), bytes=len(CONTENT), sha256=digest)
    nano = registry.get("nano")
    monkeypatch.setattr(registry, "_built_in", lambda: (nano, entry))
    # The same change in the process that downloads; the rest is as it is.
    script = (
        "import dataclasses, sys; from biosam2.models import fetch, registry; "
        f"e = dataclasses.replace(registry.get('sam2.1-tiny'), bytes={len(CONTENT)}, sha256='{digest}'); "
        "registry._built_in = lambda: (e,); sys.exit(fetch.main(sys.argv[1:]))"
    )

    class Download(qt.QProcess):
        def start(self, python, arguments):
            assert arguments[1:] == ["biosam2.models.fetch", "sam2.1-tiny"]
            super().start(python, ["-c", script, *arguments[2:]])

    user = make_chooser(make_process=Download)
    assert "156" not in user.box.itemText(user.box.findData("nano"))
    user.choose("sam2.1-tiny")
    event_loop.wait_until(lambda: user.chosen, what="the download")
    assert user.chosen == ["sam2.1-tiny"]
    assert entry.path.read_bytes() == CONTENT
    assert any("MB" in line for line in user.said)
    assert user.box.currentText == "sam2.1-tiny"
    assert not user.button.isVisibleTo(user.chooser.widget)


def test_stopping_goes_back_to_the_model_before(make_chooser, web):
    user = make_chooser()
    # As long as the download has not begun to check the file, it can be stopped.
    user.choose("sam2.1-tiny")
    assert user.button.text == "Stop"
    user.button.click()
    assert user.box.currentData == "nano"
    assert "stopped" in user.said[-1]
    assert not user.chosen
    assert user.box.isEnabled()


@pytest.fixture
def endless_web(monkeypatch):
    """A mirror that begins to send a file and does not go on; `gone` is set when the client is."""
    gone = threading.Event()

    class Stuck(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(registry.get("sam2.1-tiny").bytes))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                # Less than a hundredth: the client has nothing more to say, and would not notice that nobody reads it.
                self.wfile.write(bytes(10**6))
                self.rfile.read(1)
            gone.set()

        def log_message(self, *_arguments):
            """Nothing on the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stuck)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("BIOSAM2_MIRROR", f"http://127.0.0.1:{server.server_port}")
    yield gone
    server.shutdown()
    server.server_close()


def test_a_stopped_download_is_gone_behind_slicers_launcher_too(make_chooser, endless_web, python_slicer):  # noqa: F811
    user = make_chooser(place=WorkerPlace())
    user.choose("sam2.1-tiny")
    event_loop.wait_until(lambda: any(" of " in line for line in user.said), what="the first bytes")
    assert not endless_web.is_set()
    user.button.click()
    assert "stopped" in user.said[-1]
    assert endless_web.wait(20)


def test_a_server_has_its_own_models(make_chooser):
    user = make_chooser(place=WorkerPlace(SERVER, server="https://gpu.example.org"))
    user.choose("sam2.1-tiny")
    assert user.chosen == ["sam2.1-tiny"]
    assert not user.shown


@pytest.fixture
def liver_server(tmp_path, project_root):
    """A server that has one model, which nobody else knows."""
    from command_helpers import ServerProcess

    checkpoint = tmp_path / "liver.safetensors"
    shutil.copy(project_root / "Resources" / "Models" / "nano.safetensors", checkpoint)
    server = ServerProcess("--model", checkpoint, "--config", "nano")
    yield server
    server.stop()


def test_the_models_that_a_server_has_are_offered(host, sphere, liver_server):
    host.show(add_volume(host, sphere))
    settings = host.slicer.app.userSettings()
    before = readPlace(settings)
    place = WorkerPlace(SERVER, server=liver_server.url)
    writePlace(settings, place)
    panel = Panel(host, lambda: ProcessDriver(place.command(), place.environment), None)
    try:
        box = panel.find("model")
        panel.click("point")  # the first use makes the segmentation, and asks the server
        event_loop.wait_until(lambda: "has no model 'nano'" in panel.status, 60, "the server to refuse")
        assert [box.itemData(n) for n in range(box.count)] == ["liver"]
        assert box.currentIndex == -1
        box.currentIndex = 0
        event_loop.wait_until(lambda: panel.status.startswith("Ready: liver"), 60, "the server's model")
        host.views["Red"].click(panel.world(26, 20, 12))
        panel.settle()
        assert panel.voxels()[12].any()
    finally:
        writePlace(settings, before)
        panel.widget.cleanup()
        panel.window.close()
