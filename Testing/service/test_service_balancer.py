"""Servers behind HAProxy, as ``deploy/haproxy.cfg`` has it: one is killed, one is drained."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import biosam2
import numpy as np
import pytest
import requests
from biosam2 import Point
from biosam2.service import RemoteSession
from command_helpers import ServerProcess
from server_helpers import listen
from service_helpers import killed_amid_propagations, same_updates

HAPROXY = shutil.which("haproxy")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not here (Debian: apt-get install haproxy)")


class Balancer:
    """HAProxy with the configuration of ``deploy``, but for addresses and how often it looks."""

    def __init__(self, configuration: str, servers: list[ServerProcess], folder) -> None:
        free = listen()
        self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        free.close()
        text = configuration.replace("bind :8443", f"bind {self.url.removeprefix('http://')}", 1)
        lines = [f"    server {n} 127.0.0.1:{server.port} cookie {n}" for n, server in enumerate(servers)]
        text, count = re.subn(r"( +server \w+ \d\S+ cookie \w+\n)+", "\n".join(lines) + "\n", text)
        assert count == 1
        text, count = re.subn(r"inter 2s", "inter 200ms", text)
        assert count == 1
        file = folder / "haproxy.cfg"
        file.write_text(text)
        self.process = subprocess.Popen([str(HAPROXY), "-db", "-f", file], stderr=subprocess.PIPE, text=True)

    def wait_for(self, text: str) -> None:
        """Until it says something."""
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if text in line:
                return
        raise AssertionError("".join(said))

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def servers(checkpoint) -> Iterator[list[ServerProcess]]:
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda _: ServerProcess("--model", checkpoint), range(3)))
    yield started
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def balancer(servers, project_root, tmp_path_factory) -> Iterator[Balancer]:
    configuration = (project_root / "deploy" / "haproxy.cfg").read_text()
    balancer = Balancer(configuration, servers, tmp_path_factory.mktemp("haproxy"))
    yield balancer
    balancer.stop()


def sessions_of(server: ServerProcess) -> int:
    return requests.get(f"{server.url}/info", timeout=30).json()["sessions"]


def test_a_server_that_is_killed_changes_nothing(servers, balancer, model, volumes) -> None:
    """kill -9 in the middle of four propagations: their masks equal those of undisturbed ones."""
    there: list[int] = []

    def kill() -> None:
        there.extend(sessions_of(server) for server in servers)
        servers.pop(there.index(max(there))).kill()

    with killed_amid_propagations(balancer.url, model, volumes, kill) as notices:
        assert sum(there) == 4
        assert sum(map(len, notices)) == max(there), notices
        assert sum(map(sessions_of, servers)) == 4


def test_a_draining_server_keeps_its_sessions_and_ends_with_the_last(servers, balancer, model, volumes) -> None:
    draining, other = servers[:2]
    notices: list[str] = []
    before = RemoteSession(balancer.url, volumes(1), on_notice=notices.append)
    if sessions_of(draining) == 0:
        draining, other = other, draining
    here = biosam2.Session(model, before.volume)
    for session in (before, here):
        session.add_prompt("a", Point((11, 10, 2)))
    updates = before.propagate()
    got = [next(updates)]
    os.kill(draining.process.pid, signal.SIGUSR1)
    balancer.wait_for(" is DOWN, reason: Layer7 wrong status, code: 503")
    assert requests.get(f"{draining.url}/livez", timeout=30).status_code == 200
    same_updates(got + list(updates), list(here.propagate()))
    for n in range(3):
        with RemoteSession(balancer.url, volumes(n)):
            assert [sessions_of(draining), sessions_of(other)] == [1, 1]
    before.add_prompt("a", Point((4, 4, 3)))
    here.add_prompt("a", Point((4, 4, 3)))
    assert np.array_equal(before.predict("a", 3), here.predict("a", 3))
    assert notices == []
    before.close()
    assert draining.process.wait(60) == 0
