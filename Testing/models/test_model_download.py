"""Downloads from a server that is honest, breaks off, lies, or is not there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from biosam2.errors import DownloadError, ModelError
from biosam2.models import ModelEntry, get, registry
from biosam2.models.download import download, published_sha256
from biosam2.models.folders import models_folder
from biosam2.models.receipts import leftovers, recorded_sha256
from web_server import Handler, Server, honest, status, tells

NO_DELAYS = (0, 0, 0)
MIB = 1 << 20


def fetch(entry: ModelEntry, **options: object) -> Path:
    return download(entry, delays=NO_DELAYS, **options)  # type: ignore[arg-type]


def begin(handler: Handler) -> bytes:
    """Promise what the client lacks; returns it."""
    content = handler.server.content
    wanted = handler.headers.get("Range")
    start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
    if wanted:
        content_range = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.begin(206, len(content) - start, ETag=handler.server.etag, Content_Range=content_range)
    else:
        handler.begin(200, len(content), ETag=handler.server.etag)
    return content[start:]


def breaks_after(count: int) -> Callable[[Handler], None]:
    """Promise what is missing and close the connection after `count` bytes of it."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(begin(handler)[:count])
        handler.cut()

    return answer


def sends(content: bytes, length: int | None = -1) -> Callable[[Handler], None]:
    """Send this content with 200; `length` is what Content-Length says, None for no such header."""

    def answer(handler: Handler) -> None:
        handler.begin(200, len(content) if length == -1 else length, Connection="close")
        handler.wfile.write(content)
        handler.cut()

    return answer


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def assert_nothing_under_final_name(entry: ModelEntry) -> None:
    assert not entry.path.exists()


def test_a_file_is_fetched_once(server: Server, toy: ModelEntry) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(toy, progress=lambda received, total: seen.append((received, total)))
    assert path.read_bytes() == server.content
    assert path == models_folder() / "toy.pt"
    assert seen[0] == (0, len(server.content))
    assert seen[-1] == (len(server.content), len(server.content))
    assert [r for r, _ in seen] == sorted(r for r, _ in seen)
    assert fetch(toy) == path
    assert len(server.requests) == 1
    assert sorted(file.name for file in path.parent.iterdir() if not file.name.startswith(".")) == [
        "toy.pt",
        "toy.pt.receipt.json",
    ]


def test_a_broken_connection_is_resumed(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(MIB), breaks_after(MIB // 2)]
    assert fetch(toy).read_bytes() == server.content
    assert server.ranges == [None, "bytes=1048576-", "bytes=1572864-"]
    assert server.requests[1][1]["If-Range"] == server.etag


def test_the_next_run_resumes_after_failure(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(MIB // 16), status(503), status(503), status(503)]
    with pytest.raises(DownloadError) as error:
        fetch(toy)
    assert "503" in one_line(error)
    assert_nothing_under_final_name(toy)
    assert fetch(toy).read_bytes() == server.content
    assert server.ranges[-1] == "bytes=65536-"


def test_a_server_that_ignores_ranges_is_read_from_the_start(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(MIB), sends(server.content)]
    assert fetch(toy).read_bytes() == server.content


def test_a_file_that_changed_on_the_server_is_read_from_the_start(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(MIB // 2)]
    with pytest.raises(DownloadError):
        download(toy, delays=())
    server.etag = '"another"'
    assert fetch(toy).read_bytes() == server.content
    assert server.ranges == [None, "bytes=524288-"]


def test_a_damaged_beginning_is_found_and_fetched_anew(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(MIB // 2)]
    with pytest.raises(DownloadError):
        download(toy, delays=())
    part = toy.path.with_name("toy.pt.part")
    part.write_bytes(bytes(MIB // 2))
    assert fetch(toy).read_bytes() == server.content
    assert server.ranges == [None, "bytes=524288-", None]


def test_a_wrong_range_is_not_appended(server: Server, toy: ModelEntry) -> None:
    def another_range(handler: Handler) -> None:
        handler.begin(206, 10, Content_Range=f"bytes 5-14/{len(server.content)}")
        handler.wfile.write(server.content[5:15])

    server.script = [breaks_after(MIB), another_range]
    assert fetch(toy).read_bytes() == server.content


def test_a_part_that_is_longer_than_the_file_is_dropped(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(MIB // 2)]
    with pytest.raises(DownloadError):
        download(toy, delays=())
    toy.path.with_name("toy.pt.part").write_bytes(bytes(len(server.content) + 1))
    assert fetch(toy).read_bytes() == server.content


def test_a_range_that_the_server_has_not_is_dropped(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(MIB), status(416)]
    assert fetch(toy).read_bytes() == server.content
    assert server.ranges == [None, "bytes=1048576-", None]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, toy: ModelEntry, code: int) -> None:
    server.script = [status(code), status(code)]
    assert fetch(toy).read_bytes() == server.content
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [403, 404, 410])
def test_an_absent_file_is_told_at_once(server: Server, toy: ModelEntry, code: int) -> None:
    server.script = [status(code)] * 9
    with pytest.raises(DownloadError) as error:
        fetch(toy)
    text = one_line(error)
    assert str(code) in text
    assert str(toy.path) in text
    assert str(toy.url) in text
    assert len(server.requests) == 1
    assert_nothing_under_final_name(toy)


def test_a_server_that_never_recovers_is_given_up(server: Server, toy: ModelEntry) -> None:
    server.script = [breaks_after(100)] * 50
    with pytest.raises(DownloadError, match="broke off"):
        fetch(toy)
    assert len(server.requests) == 1 + len(NO_DELAYS)
    assert_nothing_under_final_name(toy)


def test_a_false_size_is_refused_before_a_byte_is_kept(server: Server, toy: ModelEntry) -> None:
    server.script = [sends(server.content, length=len(server.content) - 7)]
    with pytest.raises(DownloadError, match="offers 2999993 bytes where the model has 3000000"):
        fetch(toy)
    assert_nothing_under_final_name(toy)
    assert not toy.path.with_name("toy.pt.part").exists()


def test_a_body_without_a_length_is_measured(server: Server, toy: ModelEntry) -> None:
    server.script = [sends(server.content, length=None)]
    assert fetch(toy).read_bytes() == server.content


def test_a_body_that_is_too_long_is_stopped(server: Server, toy: ModelEntry) -> None:
    server.script = [sends(server.content + b"more", length=None)]
    with pytest.raises(DownloadError, match="more than 3000000 bytes"):
        fetch(toy)
    assert_nothing_under_final_name(toy)
    assert not toy.path.with_name("toy.pt.part").exists()


def test_an_unknown_size_is_refused(server: Server, toy: ModelEntry) -> None:
    server.script = [sends(server.content, length=None)]
    with pytest.raises(DownloadError, match="does not say how large"):
        fetch(dataclasses.replace(toy, bytes=None))


def test_wrong_bytes_are_deleted(server: Server, toy: ModelEntry) -> None:
    server.script = [sends(bytes(len(server.content)))]
    with pytest.raises(DownloadError, match="not the model's file"):
        fetch(toy)
    assert_nothing_under_final_name(toy)
    assert not any(path.exists() for path in leftovers(toy.path))


def test_wrong_bytes_in_pieces_are_not_fetched_for_ever(server: Server, toy: ModelEntry) -> None:
    server.content = bytes(len(server.content))
    server.script = [breaks_after(2 * MIB)]
    original = list(server.script)
    server.script += [honest, *original, honest, *original, honest]
    with pytest.raises(DownloadError, match="not the model's file"):
        fetch(toy)
    assert len(server.requests) == 4


def test_a_damaged_file_in_its_place_is_fetched_again(server: Server, toy: ModelEntry) -> None:
    toy.path.parent.mkdir(parents=True)
    toy.path.write_bytes(b"half a file")
    assert fetch(toy).read_bytes() == server.content


def test_a_file_put_there_by_hand_is_taken(server: Server, toy: ModelEntry) -> None:
    toy.path.parent.mkdir(parents=True)
    toy.path.write_bytes(server.content)
    assert fetch(toy) == toy.path
    assert server.requests == []


def test_offline_is_one_line_that_says_where_to_put_the_file(server: Server, toy: ModelEntry) -> None:
    server.server_close()
    with pytest.raises(DownloadError) as error:
        fetch(toy)
    text = one_line(error)
    assert "no connection" in text
    assert f"fetch {toy.url} by hand and put it at {toy.path}" in text


def test_a_mirror_is_used(server: Server, toy: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOSAM2_MIRROR", f"{server.url}/mirror/")
    away = dataclasses.replace(toy, url="https://models.invalid/a/b/toy.pt", file="a toy+.pt")
    assert fetch(away).read_bytes() == server.content
    assert server.requests[0][0] == "/mirror/a%20toy%2B.pt"


@pytest.mark.parametrize("mirror", ["not a url", "http://", "ftp://example.invalid"])
def test_a_mirror_that_is_none(toy: ModelEntry, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("BIOSAM2_MIRROR", mirror)
    with pytest.raises(DownloadError) as error:
        fetch(toy)
    assert mirror in one_line(error)


def test_a_proxy_is_used(server: Server, toy: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    assert fetch(dataclasses.replace(toy, url="http://models.invalid/toy.pt")).read_bytes() == server.content
    assert server.requests[0][0] == "http://models.invalid/toy.pt"


def test_it_can_be_stopped_and_continued(server: Server, toy: ModelEntry) -> None:
    cancel = threading.Event()
    with pytest.raises(DownloadError, match="stopped"):
        fetch(toy, cancel=cancel, progress=lambda received, _: cancel.set() if received else None)
    assert fetch(toy).read_bytes() == server.content
    assert server.ranges[1] is not None


def test_ctrl_c_leaves_nothing_under_the_final_name(server: Server, toy: ModelEntry) -> None:
    def interrupt(received: int, _: int) -> None:
        if received:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(toy, progress=interrupt)
    assert_nothing_under_final_name(toy)
    assert fetch(toy).read_bytes() == server.content


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a file on a disk that is always full")
def test_a_full_disk_is_one_line(server: Server, toy: ModelEntry) -> None:
    toy.path.parent.mkdir(parents=True)
    toy.path.with_name("toy.pt.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="the disk is full"):
        fetch(toy)
    assert_nothing_under_final_name(toy)


def test_too_little_space_is_told_before_the_transfer(
    server: Server, toy: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError, match=r"needs 3\.0 MB and the disk has 0\.0 MB free"):
        fetch(toy)
    assert not toy.path.with_name("toy.pt.part").exists()


def test_a_home_that_is_a_file_is_one_line(toy: ModelEntry, home: Path) -> None:
    home.write_text("")
    with pytest.raises(DownloadError) as error:
        fetch(toy)
    assert str(home) in one_line(error)


# A second process ------------------------------------------------------------------------------------------------

PROCESS = """
import json, sys
from biosam2.models import ModelEntry
from biosam2.models.download import download
entry = ModelEntry(**json.loads(sys.argv[1]))
print("ready", flush=True)
print(download(entry, delays=(0, 0)), flush=True)
"""


@pytest.fixture
def start(toy: ModelEntry) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that downloads the toy model, and wait until it is about to."""
    running: list[subprocess.Popen[str]] = []

    def go() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROCESS, json.dumps(dataclasses.asdict(toy))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield go
    for process in running:
        process.kill()
        process.communicate()


class Gate:
    """An answer that sends the next `count` bytes, and then waits before it sends the rest."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.sent, self.go_on = threading.Event(), threading.Event()

    def __call__(self, handler: Handler) -> None:
        rest = begin(handler)
        handler.wfile.write(rest[: self.count])
        handler.wfile.flush()
        self.sent.set()
        assert self.go_on.wait(60)
        try:
            handler.wfile.write(rest[self.count :])
        except OSError:
            handler.close_connection = True  # the process was killed


def test_two_processes_fetch_a_file_once(server: Server, toy: ModelEntry, start: Callable) -> None:
    gate = Gate(MIB)
    server.script = [gate]
    first = start()
    assert gate.sent.wait(60)
    second = start()
    gate.go_on.set()
    assert first.communicate(timeout=60)[0] == second.communicate(timeout=60)[0] == f"{toy.path}\n"
    assert toy.path.read_bytes() == server.content
    assert len(server.requests) == 1


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.soak)])
def test_killed_processes_leave_what_can_be_continued(
    server: Server, toy: ModelEntry, start: Callable, kills: int
) -> None:
    for _ in range(kills):
        gate = Gate(len(server.content) // (kills + 1))
        server.script = [gate]
        process = start()
        assert gate.sent.wait(60)
        process.kill()
        process.wait()
        gate.go_on.set()
        assert_nothing_under_final_name(toy)
    assert fetch(toy).read_bytes() == server.content


# A hash that the host tells --------------------------------------------------------------------------------------


def test_a_told_hash_is_checked_and_kept(server: Server, hub: Server, toy: ModelEntry, untold: ModelEntry) -> None:
    hub.script = [tells(toy.sha256, f"{server.url}/storage")] * 2
    server.script = [breaks_after(MIB)]
    assert fetch(untold).read_bytes() == server.content
    assert server.ranges == [None, "bytes=1048576-"]
    assert recorded_sha256(untold.path) == toy.sha256 == registry.verify(untold)

    untold.path.write_bytes(bytes(len(server.content)))
    with pytest.raises(ModelError, match="not the file of model toy"):
        registry.verify(untold)


def test_a_told_hash_that_does_not_fit(server: Server, hub: Server, untold: ModelEntry) -> None:
    hub.script = [tells("0" * 64, f"{server.url}/storage")]
    with pytest.raises(DownloadError, match="not the model's file"):
        fetch(untold)
    assert_nothing_under_final_name(untold)


def test_storage_is_not_believed(server: Server, hub: Server, toy: ModelEntry, untold: ModelEntry) -> None:
    hub.script = [lambda handler: handler.begin(302, 0, Location=f"{server.url}/storage")]
    sha256 = hashlib.sha256(server.content).hexdigest()
    server.script = [lambda handler: handler.begin(200, 3_000_000, X_Linked_Etag=f'"{sha256}"')]
    with pytest.raises(DownloadError, match="told only by localhost over https"):
        fetch(untold)


def test_an_untrusted_certificate_is_named(hub: Server, untold: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(DownloadError, match="certificate"):
        fetch(untold)


@pytest.mark.parametrize(
    ("url", "value", "believed"),
    [
        ("https://huggingface.co/x", '"' + "a" * 64 + '"', True),
        ("http://huggingface.co/x", '"' + "a" * 64 + '"', False),
        ("https://huggingface.co.evil.invalid/x", '"' + "a" * 64 + '"', False),
        ("https://huggingface.co/x", '"' + "a" * 40 + '"', False),
    ],
)
def test_whose_word_is_taken(url: str, value: str, believed: bool) -> None:
    answer = requests.Response()
    answer.url = url
    answer.headers["X-Linked-Etag"] = value
    assert (published_sha256(answer, get("medsam2")) is not None) is believed
