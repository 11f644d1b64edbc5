"""Asking the registry's addresses: hosts that are honest, moved, lie, are gone, or say nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from biosam2.errors import ModelError
from biosam2.models import ModelEntry, get
from biosam2.models.check import ModelFinding, check
from biosam2.models.download import download
from web_server import Handler, Server, honest, redirects, status, tells

DEADLINE = 60
"""Seconds that no answer of loopback needs; a test that waits for it has failed."""


def ask(entry: ModelEntry, seconds: float = DEADLINE) -> ModelFinding:
    """The finding of a checkpoint's own address."""
    return check([entry], seconds=seconds)[0]


def offers(size: int) -> Callable[[Handler], None]:
    """Sends the first byte of a file of that size."""

    def answer(handler: Handler) -> None:
        handler.begin(206, 1, Content_Range=f"bytes 0-0/{size}")
        handler.wfile.write(b"x")

    return answer


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Until it is set, at the test's end, a server keeps still."""
    event = threading.Event()
    yield event
    event.set()


# Files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_good_and_is_not_downloaded(server: Server, toy: ModelEntry) -> None:
    found = ask(toy)
    assert (found.subject, found.url, found.state, found.bytes) == ("toy", toy.url, "good", 3_000_000)
    assert "3000000 bytes" in found.detail
    assert server.ranges == ["bytes=0-0"]
    assert not toy.path.exists()


def test_a_server_without_ranges_is_asked_for_no_more_than_its_header(server: Server, toy: ModelEntry) -> None:
    written = threading.Event()

    def endless(handler: Handler) -> None:
        handler.begin(200, 3_000_000)
        try:
            while True:
                handler.wfile.write(bytes(1 << 16))
        except OSError:
            handler.close_connection = True
            written.set()

    server.script = [endless]
    assert ask(toy).state == "good"
    assert written.wait(DEADLINE)  # the client hung up


@pytest.mark.parametrize(
    ("known", "listed", "offered", "state"),
    [
        (3_000_000, None, 3_000_000, "good"),
        (3_000_000, None, 2_999_999, "differs"),
        (None, 156_000_000, 156_040_129, "good"),
        (None, 156_000_000, 157_000_000, "differs"),
        (None, None, 5, "good"),
    ],
)
def test_the_size_is_compared_as_exactly_as_it_is_known(
    server: Server, toy: ModelEntry, known: int | None, listed: int | None, offered: int, state: str
) -> None:
    server.script = [offers(offered)]
    found = ask(dataclasses.replace(toy, bytes=known, listed_bytes=listed))
    assert (found.state, found.bytes) == (state, offered)
    assert str(offered) in found.detail


def test_a_size_that_is_not_told_differs(server: Server, toy: ModelEntry) -> None:
    server.script = [lambda handler: (handler.begin(200, None), handler.cut())]
    assert ask(toy).state == "differs"


def test_a_told_hash_is_compared_with_the_registry(server: Server, hub: Server, untold: ModelEntry) -> None:
    sha256 = hashlib.sha256(server.content).hexdigest()
    hub.script = [tells(sha256, f"{server.url}/storage")] * 3
    found = ask(untold)
    assert (found.state, found.sha256, found.bytes) == ("good", sha256, 3_000_000)
    assert ask(dataclasses.replace(untold, sha256=sha256)).state == "good"
    other = ask(dataclasses.replace(untold, sha256="0" * 64))
    assert other.state == "differs"
    assert f"SHA-256 {sha256} where the registry has {'0' * 64}" in other.detail


def test_a_told_hash_is_compared_with_the_file_that_is_here(server: Server, hub: Server, untold: ModelEntry) -> None:
    sha256 = hashlib.sha256(server.content).hexdigest()
    hub.script = [tells(sha256, f"{server.url}/storage")] * 2
    download(untold, delays=())
    assert ask(untold).state == "good"
    hub.script = [tells("f" * 64, f"{server.url}/storage")]
    assert "the file here has" in ask(untold).detail


def test_a_hash_that_is_not_told_differs(
    server: Server, hub: Server, untold: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.script = [redirects(f"{server.url}/storage")]
    found = ask(untold)
    assert found.state == "differs"
    assert "tells no SHA-256 (header X-Linked-Etag)" in found.detail
    monkeypatch.setenv("BIOSAM2_MIRROR", server.url)
    assert "unset BIOSAM2_MIRROR" in ask(untold).detail  # what a download would say


# Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "path", "state"),
    [
        (302, "/storage/abc?signed=1", "good"),
        (307, "/api/resolve-cache/models/old-name/main/toy.pt", "good"),
        (301, "/storage/abc", "moved"),
        (308, "/storage/abc", "moved"),
        (307, "/new-name/resolve/main/toy.pt", "moved"),
    ],
)
def test_a_redirection_for_good_is_a_move_and_one_to_storage_is_not(
    server: Server, toy: ModelEntry, code: int, path: str, state: str
) -> None:
    server.script = [redirects(path, code)]
    found = ask(dataclasses.replace(toy, url=f"{server.url}/old-name/resolve/main/toy.pt"))
    assert found.state == state
    if state == "moved":
        assert found.detail == f"moved to {server.url}{path}"


def test_a_moved_file_that_is_another_says_both(server: Server, toy: ModelEntry) -> None:
    server.script = [redirects("/elsewhere", 301), offers(7)]
    found = ask(toy)
    assert found.state == "differs"
    assert "7 bytes" in found.detail
    assert "moved to" in found.detail


@pytest.mark.parametrize(
    ("code", "state"),
    [(404, "missing"), (410, "missing"), (401, "refused"), (403, "refused"), (416, "refused"), (503, "unreachable")],
)
def test_a_status_is_told(server: Server, toy: ModelEntry, code: int, state: str) -> None:
    server.script = [status(code)]
    found = ask(toy)
    assert found.state == state
    assert f"HTTP {code}" in found.detail


def test_redirections_in_a_circle_end(server: Server, toy: ModelEntry) -> None:
    server.script = [redirects("/again")] * 50
    found = ask(toy)
    assert (found.state, found.detail) == ("refused", "it redirects without end")
    assert len(server.requests) < 20


def test_no_connection_is_told(server: Server, toy: ModelEntry) -> None:
    server.server_close()
    found = ask(toy)
    assert found.state == "unreachable"
    assert "no connection" in found.detail


def test_an_untrusted_certificate_is_named(hub: Server, untold: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    found = ask(untold)
    assert found.state == "unreachable"
    assert "certificate" in found.detail


@pytest.mark.parametrize("drips", [False, True])
def test_a_server_that_says_nothing_holds_nobody_up(
    server: Server, toy: ModelEntry, gate: threading.Event, drips: bool
) -> None:
    """Without a word, or with a header that never ends."""

    def silent(handler: Handler) -> None:
        if drips:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not gate.wait(0.05):
            if drips:
                handler.wfile.write(b"x")
        handler.cut()

    server.script = [silent]
    other = dataclasses.replace(toy, name="other", url="http://127.0.0.1:1/toy.pt")
    found, beside = check([toy, other], seconds=2)
    assert (found.state, found.detail) == ("unreachable", "the server does not answer within 2 s")
    assert "no connection" in beside.detail  # what did answer is kept


def test_the_pages_of_licences_and_terms_are_asked_once_each(server: Server, toy: ModelEntry) -> None:
    pages = {"/licence": 200, "/terms": 404}

    def page(handler: Handler) -> None:
        handler.begin(pages.get(handler.path, 500), 0)

    one = dataclasses.replace(toy, licence="MIT", licence_url=f"{server.url}/licence", terms_url=f"{server.url}/terms")
    two = dataclasses.replace(one, name="two", file="two.pt", url=f"{server.url}/models/two.pt")

    def answer(handler: Handler) -> None:
        (page if handler.path in pages else honest)(handler)

    server.script = [answer] * 4
    found = check([one, two], seconds=DEADLINE)
    assert [(f.subject, f.state) for f in found] == [
        ("toy", "good"),
        ("two", "good"),
        ("licence MIT", "good"),
        ("terms", "missing"),
    ]


@pytest.mark.parametrize(
    ("code", "location", "state"),
    [
        (200, None, "good"),
        (301, "/licence/deed.en", "good"),  # on the same host: its own way to the page
        (301, "http://localhost:{port}/licence", "moved"),
        (403, None, "good"),  # pages are for people; hosts refuse them to programs
        (404, None, "missing"),
        (500, None, "unreachable"),
    ],
)
def test_a_page_is_judged_as_somebody_who_reads_it_would(
    server: Server, toy: ModelEntry, code: int, location: str | None, state: str
) -> None:
    where = location and location.format(port=server.server_port)
    first = status(code) if where is None else redirects(where, code)

    def answer(handler: Handler) -> None:
        (first if handler.path == "/licence" and not handler.headers["Host"].startswith("localhost") else honest)(
            handler
        )

    server.script = [answer] * 3
    entry = dataclasses.replace(toy, licence="MIT", licence_url=f"{server.url}/licence")
    found = check([entry], seconds=DEADLINE)[1]
    assert (found.subject, found.state) == ("licence MIT", state)


def test_behind_a_mirror_only_the_mirror_is_asked(
    server: Server, toy: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOSAM2_MIRROR", f"{server.url}/mirror")
    entry = dataclasses.replace(toy, url="https://models.invalid/toy.pt", licence_url="https://licence.invalid/")
    (found,) = check([entry], seconds=DEADLINE)
    assert (found.state, found.url) == ("good", f"{server.url}/mirror/toy.pt")


def test_a_mirror_that_is_none_is_told(toy: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOSAM2_MIRROR", "not a url")
    found = ask(toy)
    assert found.state == "refused"
    assert "not a url" in found.detail


def test_by_default_every_model_to_be_downloaded_and_every_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    found = check(seconds=DEADLINE)
    subjects = [f.subject for f in found]
    assert "nano" not in subjects
    assert {"sam2.1-large", "medsam2", "medsam2-us-heart", "licence Apache-2.0", "licence CC-BY-SA-4.0", "terms"} <= {
        *subjects
    }
    assert len({f.url for f in found}) == len(found)
    assert {f.state for f in found} == {"unreachable"}
    assert all("proxy" in f.detail for f in found)


def test_a_model_without_an_address_is_refused() -> None:
    with pytest.raises(ModelError, match="biosam2 models verify nano"):
        check([get("nano")])


# The command ------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "biosam2.cli", "models", "check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("BIOSAM2_MIRROR", server.url)
    return server


def test_the_command_says_that_all_is_good(mirror: Server) -> None:
    size = get("sam2.1-tiny").bytes
    assert size is not None
    mirror.script = [offers(size)]
    ended = command("sam2.1-tiny")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"sam2.1-tiny: good, {size} bytes ({mirror.url}/sam2.1_hiera_tiny.pt)\n"
    assert ended.stderr == ""


def test_the_command_ends_with_2_when_something_is_not(mirror: Server) -> None:
    size = get("sam2.1-tiny").bytes
    assert size is not None

    def answer(handler: Handler) -> None:
        (offers(size) if handler.path == "/sam2.1_hiera_tiny.pt" else status(404))(handler)

    mirror.script = [answer] * 2
    ended = command("sam2.1-tiny", "sam2.1-small")
    assert ended.returncode == 2
    good, missing = ended.stdout.splitlines()
    assert good.startswith("sam2.1-tiny: good, ")
    assert missing.startswith("sam2.1-small: missing, HTTP 404")
    assert ended.stderr == "biosam2: error: 1 of 2 addresses are not as the registry says\n"


def test_the_command_speaks_json(mirror: Server) -> None:
    mirror.script = [offers(5)]
    ended = command("sam2.1-tiny", "--json")
    assert ended.returncode == 2
    content = json.loads(ended.stdout)
    assert content["good"] is False
    (address,) = content["addresses"]
    assert (address["subject"], address["state"], address["bytes"]) == ("sam2.1-tiny", "differs", 5)


def test_without_a_network_the_command_says_one_line(mirror: Server) -> None:
    mirror.server_close()
    ended = command()
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert "no connection" in line
    assert "none of 10 addresses" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_the_command_can_be_stopped(mirror: Server, gate: threading.Event) -> None:
    asked = threading.Event()

    def silent(handler: Handler) -> None:
        asked.set()
        gate.wait()
        handler.cut()

    mirror.script = [silent]
    arguments = [sys.executable, "-m", "biosam2.cli", "models", "check", "sam2.1-tiny", "--timeout", "1000"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert asked.wait(DEADLINE)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=DEADLINE)[1] == "biosam2: stopped\n"
        finally:
            process.kill()
    assert process.returncode == 130


def test_an_unknown_model_and_one_without_an_address_are_one_line() -> None:
    assert "there is no model 'huge'" in command("huge").stderr
    ended = command("nano")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
