"""Ctrl-C in the middle of each command: exit code 130, one line, nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cli_helpers import DEADLINE, Biosam2, Ended, files_below, stop_when

NET = ("--model", "seer.safetensors")
POINT = ("--point", "24,20,6")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")


def assert_stopped(ended: Ended, code: int = 130) -> None:
    """The exit code, and no more than one line after the progress."""
    assert ended.code == code, ended.err
    assert ended.last_line == "biosam2: stopped"
    assert "Traceback" not in ended.err
    assert "wrote" not in ended.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_segment(biosam2: Biosam2, folder: Path, number: int, code: int) -> None:
    (folder / "t.seg.nrrd").write_bytes(b"an earlier result")
    before = files_below(folder)
    process = biosam2.start(
        *("segment", "ball.nrrd", "-o", "t.seg.nrrd", *POINT, *NET, "--montage", "m.png", "--record", "r.json")
    )
    assert_stopped(stop_when(process, "1/12 slices", number), code)
    assert files_below(folder) == before
    assert (folder / "t.seg.nrrd").read_bytes() == b"an earlier result"


def test_video(biosam2: Biosam2, folder: Path) -> None:
    before = files_below(folder)
    process = biosam2.start("video", "frames", "-o", "masks", "--point", "24,20,1", *NET)
    assert_stopped(stop_when(process, "1/4 frames"))
    assert files_below(folder) == before


def test_replay(biosam2: Biosam2, folder: Path) -> None:
    run = ("segment", "ball.nrrd", "-o", "t.nrrd", *POINT, *NET, "-q", "--record", "run.json")
    assert biosam2.here(*run).code == 0
    before = files_below(folder)
    assert_stopped(stop_when(biosam2.start("replay", "run.json", "-o", "again.nrrd"), "1/12 slices"))
    assert files_below(folder) == before


@pytest.mark.parametrize(
    ("pipe", "arguments"),
    [
        ("pipe.png", ("image", "pipe.png", "-o", "t.png", "--point", "1,1")),
        ("pipe.json", ("replay", "pipe.json")),
        ("pipe.yaml", ("models", "add", "seer.safetensors", "--config", "pipe.yaml")),
    ],
)
def test_while_it_reads(biosam2: Biosam2, folder: Path, pipe: str, arguments: tuple[str, ...]) -> None:
    os.mkfifo(folder / pipe)
    before = files_below(folder)
    with biosam2.start(*arguments) as process, open(folder / pipe, "wb"):
        # Opening a pipe waits for its other end: the command is reading now.
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert_stopped(Ended(process.returncode, out, err))
    assert files_below(folder) == before


@pytest.fixture
def endless() -> Iterator[str]:
    """A server that promises a model file and sends little of it."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "156008466")
            self.end_headers()
            self.wfile.write(bytes(1 << 20))
            self.wfile.flush()
            over.wait()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        over.set()
        server.shutdown()
        thread.join()


def test_download(biosam2: Biosam2, folder: Path, tmp_path: Path, endless: str) -> None:
    process = biosam2.start("models", "download", "sam2.1-tiny", BIOSAM2_MIRROR=endless)
    assert_stopped(stop_when(process, "sam2.1-tiny: 0/156 MB"))
    assert not (tmp_path / "home" / "models" / "sam2.1_hiera_tiny.pt").exists()


def test_training(biosam2: Biosam2, folder: Path) -> None:
    process = biosam2.start("train", "nano", "-o", "run", "--threads", "1")
    assert_stopped(stop_when(process, "training in run"))
    assert not list((folder / "run").glob("*.safetensors"))
