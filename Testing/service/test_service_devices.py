"""A server with several devices, a process for each: sessions are placed, and outlive the death of a process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess

import biosam2
import numpy as np
import pytest
import requests
from biosam2 import Point
from biosam2.service import RemoteSession
from biosam2.service.errors import ServiceError
from biosam2.service.server import process
from biosam2.service.server.process import ProcessDevice, start_all
from command_helpers import biosam2_command
from server_helpers import Served, metrics
from service_helpers import killed_amid_propagations, same_state, same_updates

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="several devices need Linux")


@pytest.fixture(scope="module")
def devices(checkpoint):
    found = [ProcessDevice("cpu", [str(checkpoint)], None, 1 << 30, pause=0.01) for _ in range(2)]
    start_all(found)
    yield found
    for device in found:
        device.stop()


@pytest.fixture(scope="module")
def served(devices):
    with Served(devices) as server:
        yield server


def info(served) -> dict:
    return requests.get(f"{served.url}/info", timeout=30).json()


def test_sessions_go_to_the_least_busy_device(served, model, volumes) -> None:
    sessions = [RemoteSession(served.url, volumes(n)) for n in range(4)]
    told = info(served)
    assert [device["sessions"] for device in told["devices"]] == [2, 2]
    assert [m["device"] for m in told["models"]] == ["cpu"]
    sessions.pop(0).close()
    sessions.append(RemoteSession(served.url, volumes(5)))
    assert [device["sessions"] for device in info(served)["devices"]] == [2, 2]
    for session in sessions:
        here = biosam2.Session(model, session.volume)
        for one in (session, here):
            one.add_prompt("a", Point((11, 10, 2)))
        assert np.array_equal(session.predict("a", 2), here.predict("a", 2))
        same_updates(list(session.propagate()), list(here.propagate()))
        same_state(session, here)
    counted = metrics(served)
    for number in "01":
        labels = {"device": "cpu", "number": number}
        assert counted("biosam2_sessions", **labels) == 2
        assert counted("biosam2_click_seconds_count", **labels) == 2
        assert counted("biosam2_slices_total", **labels) == 12
        assert counted("biosam2_device_process_bytes", **labels) > 1 << 20
        assert counted("biosam2_device_up", **labels) == 1
    told = info(served)
    assert all(device["feature_bytes"] > 0 for device in told["devices"])
    assert told["feature_bytes"] == sum(device["feature_bytes"] for device in told["devices"])
    for session in sessions:
        session.close()


def test_a_dead_device_s_sessions_come_back_on_another(served, devices, model, volumes) -> None:
    """kill -9 while all of them propagate: equal masks, one notice for each session that was there."""
    dead = devices[0].process.pid
    with killed_amid_propagations(served.url, model, volumes, lambda: os.kill(dead, signal.SIGKILL)) as notices:
        assert sorted(map(len, notices)) == [0, 0, 1, 1]
        assert any("ended by signal 9" in text for told in notices for text in told), notices
    assert devices[0].ready.wait(60)
    assert devices[0].process.pid != dead


def test_clients_wait_for_a_device_when_all_have_died(served, devices, model, volume, monkeypatch) -> None:
    """Also where a process cannot be started at once."""
    start, failures = subprocess.Popen, [OSError(errno.ENOMEM, "no memory"), OSError(errno.EMFILE, "no files")]

    def fail_at_first(*arguments, **more):
        if failures:
            raise failures.pop()
        return start(*arguments, **more)

    monkeypatch.setattr(subprocess, "Popen", fail_at_first)
    here = biosam2.Session(model, volume)
    here.add_prompt("a", Point((11, 10, 2)))
    with RemoteSession(served.url, volume, patience=120, on_notice=print) as session:
        session.add_prompt("a", Point((11, 10, 2)))
        session.predict("a", 2)
        for device in devices:
            os.kill(device.process.pid, signal.SIGKILL)
        assert requests.get(f"{served.url}/livez", timeout=30).status_code == 200
        assert np.array_equal(session.predict("a", 2), here.predict("a", 2))
    assert failures == []


def test_a_device_whose_process_cannot_be_started_is_an_error(checkpoint, monkeypatch) -> None:
    def fail(*arguments, **more):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", fail)
    device = ProcessDevice("cpu", [str(checkpoint)], None, 1 << 30)
    with pytest.raises(ServiceError, match="cannot be started: Cannot allocate memory"):
        start_all([device])
    assert device.over


def test_a_device_that_does_not_answer_holds_up_nobody(served, devices, monkeypatch, volumes) -> None:
    """Its last measures are shown, and what waits there is bounded."""
    for device in devices:
        assert device.ready.wait(60)
    monkeypatch.setattr(process, "_LOOK", 0.1)
    with RemoteSession(served.url, volumes(1)), RemoteSession(served.url, volumes(2)):
        before = info(served)["devices"][1]
        os.kill(devices[1].process.pid, signal.SIGSTOP)
        try:
            assert info(served)["devices"][1]["process_bytes"] == before["process_bytes"]
        finally:
            os.kill(devices[1].process.pid, signal.SIGCONT)


@pytest.mark.parametrize(("arguments", "says"), [(["cpu", "cuda:77"], "cuda:77"), (["cpu", "auto"], "name each")])
def test_devices_that_cannot_be_had_are_one_line(checkpoint, arguments: list[str], says: str) -> None:
    given = [part for name in arguments for part in ("--device", name)]
    done = biosam2_command("serve", "--model", checkpoint, "--port", 0, *given)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    assert says in lines[0]
