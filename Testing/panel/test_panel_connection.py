"""*Test connection*: every way in which a server can fail, by real servers on this computer."""

from __future__ import annotations

import http.server
import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from biosam2.service.protocol import PROTOCOL
from BioSAM2SlicerLib.worker.ConnectionTest import ConnectionTest
from BioSAM2SlicerLib.worker.WorkerPlace import SERVER, WorkerPlace
from host import event_loop

sys.path.append(str(Path(__file__).resolve().parents[1] / "service"))
from command_helpers import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
INFO = {"biosam2": "0.1.0", "protocol": PROTOCOL, "models": [], "sessions": 0, "most_sessions": 16}


class Plain:
    """A web server that answers as it is told."""

    def __init__(self, status=200, body=b"", drip=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if drip is None:
                    self.wfile.write(body)
                    return
                for number in range(len(body)):
                    if drip.wait(0.2):
                        return
                    self.wfile.write(body[number : number + 1])

            def log_message(self, *_arguments):
                """Nothing on the terminal."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def plain():
    made = []

    def make(*arguments, **named):
        made.append(Plain(*arguments, **named))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture(scope="module")
def server():
    """``biosam2 serve`` with the shipped model, and a key."""
    served = ServerProcess("--model", "nano", BIOSAM2_API_KEY="the-key-of-this-server")
    yield served
    served.stop()


def ask(url, key="", seconds=10.0):
    test = ConnectionTest(seconds)
    answers = []
    test.finished.connect(lambda *answer: answers.append(answer))
    test.start(WorkerPlace(SERVER, server=url, key=key))
    assert test.running
    event_loop.wait_until(lambda: answers, 60, "the answer")
    assert not test.running
    assert len(answers) == 1
    assert "\n" not in answers[0][1]
    return answers[0]


def test_a_server_that_can_be_used(host, server):
    ok, text = ask(server.url, "the-key-of-this-server")
    assert ok, text
    assert "nano (cpu)" in text
    assert "BioSAM-2 0.1.0" in text


@pytest.mark.parametrize(("key", "said"), [("", "requires a key"), ("another", "does not accept this key")])
def test_the_key(host, server, key, said):
    ok, text = ask(server.url, key)
    assert not ok
    assert said in text


def test_no_server(host):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        ok, text = ask(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert not ok
    assert "no answer from" in text
    assert "refused" in text


def test_another_version(host, plain):
    served = plain(body=json.dumps({**INFO, "protocol": 7, "biosam2": "9.9"}).encode())
    ok, text = ask(served.url)
    assert not ok
    assert f"protocol 7 (BioSAM-2 9.9), this extension {PROTOCOL} (0.1.0)" in text


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>It works!</html>"),
        (404, b"not here"),
        (200, b"[]"),
        (200, b'{"protocol": 2}'),
        (200, b'"' + b"x" * (2 << 20)),
        (302, b""),
        (500, b'{"detail": "no"}'),
    ],
)
def test_something_else_answers(host, plain, status, body):
    ok, text = ask(plain(status, body).url)
    assert not ok
    assert "not a BioSAM-2 server" in text


def test_a_full_server_says_so(host, plain):
    models = [{"name": "liver", "device": "cuda:0"}]
    served = plain(body=json.dumps({**INFO, "models": models, "sessions": 16}).encode())
    ok, text = ask(served.url)
    assert ok
    assert "liver (cuda:0)" in text
    assert "All of its 16 sessions are taken" in text


def test_a_server_that_says_nothing(host):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        ok, text = ask(f"http://127.0.0.1:{listening.getsockname()[1]}", seconds=1.0)
    assert not ok
    assert "did not answer within 1 s" in text


def test_a_server_that_answers_in_drops(host, plain):
    over = threading.Event()
    served = plain(body=json.dumps(INFO).encode(), drip=over)
    ok, text = ask(served.url, seconds=1.0)
    over.set()
    assert not ok
    assert "did not answer within 1 s" in text


def test_a_server_without_the_certificate_of_one(host, plain):
    """It speaks http where https is asked for."""
    ok, text = ask(plain(body=b"hello").url.replace("http:", "https:"))
    assert not ok
    assert "certificate" in text or "no answer from" in text


def test_slicer_goes_on_meanwhile(host):
    """No turn of the event loop waits for the server."""
    import qt

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        ticks = []
        timer = qt.QTimer()
        timer.timeout.connect(lambda: ticks.append(time.monotonic()))
        timer.start(20)
        ask(f"http://127.0.0.1:{listening.getsockname()[1]}", seconds=2.0)
        timer.stop()
    # It took two seconds and more; a wait would leave a few turns only.
    assert len(ticks) > 20


def test_a_test_can_be_cancelled(host):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        test = ConnectionTest()
        answers = []
        test.finished.connect(lambda *answer: answers.append(answer))
        test.start(WorkerPlace(SERVER, server=f"http://127.0.0.1:{listening.getsockname()[1]}"))
        process = test._process
        test.cancel()
        assert not test.running
        event_loop.wait_until(lambda: process.state() == process.ProcessState.NotRunning, 30, "the process to end")
        assert not answers
