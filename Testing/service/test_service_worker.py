"""The worker as a real process: equality, death at any moment, its end with its parent, and what it may not print."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import biosam2
import numpy as np
import psutil
import pytest
from biosam2 import Point
from biosam2.service import WorkerSession, pipes
from biosam2.service import messages as m
from biosam2.service.errors import ServiceError
from biosam2.service.framing import Decoder, encode
from service_helpers import same_state, same_updates

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def worker(checkpoint, volume, notices, tmp_path):
    log = ["--log-file", str(tmp_path / "worker.log")]
    with WorkerSession(volume, checkpoint=checkpoint, device="cpu", arguments=log, on_notice=notices.append) as session:
        yield session


def script(session, disturb) -> dict:
    """A round of work; `disturb` is called with the name of each moment."""
    disturb("idle")
    session.add_prompt("a", Point((11, 10, 2)))
    disturb("prompted")
    told = {"click": session.predict("a", 2)}
    session.add_prompt("b", Point((4, 4, 3)))
    told["first"] = []
    for update in session.propagate():
        told["first"].append(update)
        disturb(f"slice {len(told['first'])}")
    session.add_prompt("a", Point((15, 4, 4), positive=False))
    disturb("corrected")
    told["second"] = list(session.propagate(["a"]))
    disturb("propagated")
    session.undo()
    disturb("undone")
    session.redo()
    told["logits"] = session.logits("a", 4)
    disturb("over")
    told["after"] = session.predict("a", 4)
    return told


MOMENTS = ["idle", "prompted", *(f"slice {n}" for n in range(1, 13)), "corrected", "propagated", "undone", "over"]


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_a_killed_worker_changes_nothing(worker, notices, model, volume, kills: int) -> None:
    here = biosam2.Session(model, volume)
    undisturbed = script(here, lambda moment: None)
    doomed = random.Random(3).sample(MOMENTS, kills)

    def kill(moment: str) -> None:
        if moment in doomed:
            os.kill(worker.process_id, signal.SIGKILL)

    disturbed = script(worker, kill)
    for name in ("click", "logits", "after"):
        assert np.array_equal(disturbed[name], undisturbed[name])
    for name in ("first", "second"):
        same_updates(disturbed[name], undisturbed[name])
    same_state(worker, here)
    assert len(notices) == kills
    assert all("signal 9" in text and "finished masks are kept" in text for text in notices)


@pytest.fixture
def started(monkeypatch) -> list[subprocess.Popen]:
    """Every worker process, as soon as it is started."""
    found: list[subprocess.Popen] = []
    real = pipes.PipeLink.__init__

    def remember(link, *given) -> None:
        real(link, *given)
        found.append(link.process)

    monkeypatch.setattr(pipes.PipeLink, "__init__", remember)
    return found


def test_a_worker_killed_while_it_opens_is_started_again(checkpoint, volume, started, notices) -> None:
    doomed = ["loading the model", "handing over the volume"]

    def kill(stage: str, fraction: float | None) -> None:
        if stage in doomed:
            doomed.remove(stage)
            started[-1].kill()

    with WorkerSession(
        volume, checkpoint=checkpoint, device="cpu", on_progress=kill, on_notice=notices.append
    ) as session:
        session.add_prompt("a", Point((11, 10, 2)))
        assert session.predict("a", 2).any()
    assert len(started) == 3
    assert len(notices) == 2


def test_a_worker_that_is_killed_every_time_is_given_up(checkpoint, volume, started, notices) -> None:
    def kill(stage: str, fraction: float | None) -> None:
        if stage == "starting torch":
            started[-1].kill()

    with pytest.raises(ServiceError, match=r"tried 3 times.*signal 9"):
        WorkerSession(volume, checkpoint=checkpoint, device="cpu", on_progress=kill, on_notice=notices.append)


def test_masks_need_no_worker(worker, notices) -> None:
    worker.add_prompt("a", Point((11, 10, 2)))
    list(worker.propagate())
    os.kill(worker.process_id, signal.SIGKILL)
    assert worker.mask("a").any()
    assert worker.labelmap().any()
    assert worker.to_record()["journal"]
    assert notices == []


def test_errors_come_back_as_themselves(worker) -> None:
    with pytest.raises(biosam2.errors.PromptError, match="outside the volume"):
        worker.add_prompt("a", Point((99, 0, 0)))
    assert worker.segments == ()
    with pytest.raises(biosam2.errors.PromptError, match="nothing to propagate"):
        worker.propagate()


def test_a_model_that_is_none_is_refused(volume) -> None:
    with pytest.raises(biosam2.errors.ModelError, match="there is no model 'no such'"):
        WorkerSession(volume, model="no such")


def test_an_interpreter_that_is_none_is_refused(volume, tmp_path) -> None:
    with pytest.raises(ServiceError, match="cannot be started"):
        WorkerSession(volume, python=tmp_path / "python")
    with pytest.raises(ServiceError, match="the worker ended with code"):
        WorkerSession(volume, python="/bin/false")


def test_nothing_but_messages_reaches_standard_output() -> None:
    """Not what Python prints, nor what C code does, nor what a child process does."""
    noise = textwrap.dedent(
        """
        import ctypes, os, subprocess, sys
        from biosam2.service import engines, worker
        from biosam2.session import ModelFacts

        def load(self, asked):
            print("python"); ctypes.CDLL(None).puts(b"C"); ctypes.CDLL(None).fflush(None)
            os.write(1, b"descriptor"); subprocess.run(["echo", "child"])
            model = ModelFacts(name="", sha256="", device="", device_reason="", image_size=1)
            yield worker.m.ModelLoaded(id=asked.id, model=model)

        engines.LocalEngine.load_model = load
        worker.main(["--log-file", os.devnull])
        """
    )
    asked = encode(m.Hello(id=1, protocol=m.PROTOCOL, client="test")) + encode(m.LoadModel(id=2))
    with subprocess.Popen([sys.executable, "-c", noise], stdin=-1, stdout=-1, stderr=-1, bufsize=0) as process:
        process.stdin.write(asked)
        decoder, replies = Decoder(m.Reply), []
        while not any(isinstance(r, m.ModelLoaded) for r in replies):
            replies += decoder.feed(process.stdout.read(1 << 16))
        out, err = process.communicate(timeout=60)
    kinds = [type(r).__name__ for r in replies if not isinstance(r, m.Notice)]
    assert kinds == ["Welcome", "ModelLoaded"]
    assert out == b""
    for word in (b"python", b"C\n", b"descriptor", b"child"):
        assert word in err


def test_bad_bytes_are_answered_and_survived(tmp_path) -> None:
    command = [sys.executable, "-m", "biosam2.service.worker", "--log-file", str(tmp_path / "log")]
    hello = encode(m.Hello(id=3, protocol=m.PROTOCOL, client="test"))
    early = encode(m.Sync(id=4, entries=[])) + encode(m.OpenVolume(id=5, path="/etc/passwd", spacing=(1, 1, 1), origin=(0, 0, 0), direction=((1, 0, 0), (0, 1, 0), (0, 0, 1))))  # fmt: skip  # noqa: E501
    old = encode(m.Hello(id=6, protocol=99, client="test"))
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, bufsize=0) as process:
        process.stdin.write(b"GET / HTTP/1.1\r\n\r\n" + hello + encode(m.Done(id=1)) + early + old)
        decoder, replies = Decoder(m.Reply), []
        while len(replies) < 6:
            replies += [r for r in decoder.feed(process.stdout.read(1 << 16)) if not isinstance(r, m.Notice)]
        process.communicate(timeout=60)
    by_id = sorted((r.id, type(r).__name__, getattr(r, "text", "")) for r in replies)
    assert [(i, kind) for i, kind, _ in by_id] == [(0, "Failure"), (0, "Failure"), (3, "Welcome"), (4, "Failure"), (5, "Failure"), (6, "Failure")]  # fmt: skip  # noqa: E501
    assert "no session" in by_id[3][2]
    assert "passwd" in by_id[4][2]
    assert "version 99" in by_id[5][2]
    assert process.returncode == 0


def test_it_ends_when_its_parent_is_killed(checkpoint, tmp_path) -> None:
    parent = textwrap.dedent(
        f"""
        import numpy, sys
        import biosam2
        from biosam2.service import WorkerSession, pipes
        session = WorkerSession(biosam2.Volume(numpy.zeros((3, 8, 8), "i2")), checkpoint={str(checkpoint)!r},
                                device="cpu", arguments=["--log-file", {str(tmp_path / "log")!r}])
        print(session.process_id, flush=True)
        sys.stdin.read()
        """
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=-1, stdout=-1) as process:
        worker = psutil.Process(int(process.stdout.readline()))
        process.kill()
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_the_client_needs_no_torch(checkpoint) -> None:
    code = textwrap.dedent(
        f"""
        import numpy, sys
        import biosam2
        from biosam2.service import WorkerSession, pipes
        volume = biosam2.Volume(numpy.random.default_rng(1).integers(0, 99, (3, 8, 8)))
        with WorkerSession(volume, checkpoint={str(checkpoint)!r}, device="cpu") as session:
            session.add_prompt("a", biosam2.Point((4, 4, 1)))
            assert len(list(session.propagate())) == 3
        assert "torch" not in sys.modules
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_low_priority_is_raised_or_told(monkeypatch) -> None:
    from biosam2.service import worker

    asked = []
    monkeypatch.setattr(os, "getpriority", lambda which, who: 19)
    monkeypatch.setattr(os, "setpriority", lambda which, who, value: asked.append(value))
    assert worker.restore_priority()
    assert asked == [0]

    def refuse(which: int, who: int, value: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert not worker.restore_priority()
    assert "SLICER_BACKGROUND_THREAD_PRIORITY=0" in worker.PRIORITY_NOTICE


def test_the_handed_over_file_leaves_nothing_behind(volume) -> None:
    from biosam2.service.pipes import shared_file

    with shared_file(volume) as path:
        assert np.array_equal(np.load(path), volume.array)
    assert not os.path.exists(path)


PHASES = ("upload", "click", "propagation", "idle")


@pytest.mark.soak
def test_a_worker_killed_at_random_moments_changes_nothing(checkpoint, model, volumes, started, notices) -> None:
    """Ten kills, each at a random moment of a phase as long as it lasts undisturbed; a phase of its own each time."""
    volume = volumes(7, slices=60)
    chance = random.Random(11)
    lasted: dict[str, float] = {}

    def during(phase: str, doomed: bool, work):
        """Do the work, and kill the newest worker at some moment of it."""
        late = chance.random() * lasted.get(phase, 0.0)
        timer = threading.Timer(late, lambda: started[-1].kill()) if doomed else None
        begun = time.perf_counter()
        if timer is not None:
            timer.start()
        done = work()
        lasted.setdefault(phase, time.perf_counter() - begun)
        if timer is not None:
            timer.join()
        return done

    def story(doomed: str | None) -> None:
        here = biosam2.Session(model, volume)
        with during(
            "upload",
            doomed == "upload",
            lambda: WorkerSession(volume, checkpoint=checkpoint, device="cpu", on_notice=notices.append),
        ) as there:
            for session in (here, there):
                session.add_prompt("a", Point((11, 10, 30)))
            click = during("click", doomed == "click", lambda: there.predict("a", 30))
            assert np.array_equal(click, here.predict("a", 30))
            same_updates(
                during("propagation", doomed == "propagation", lambda: list(there.propagate())), list(here.propagate())
            )
            during("idle", doomed == "idle", lambda: None)
            same_state(there, here)
            for session in (here, there):
                session.add_prompt("a", Point((3, 3, 40), positive=False))
            same_updates(list(there.propagate(first=35)), list(here.propagate(first=35)))
            same_state(there, here)

    story(None)
    for n in range(10):
        story(PHASES[n % len(PHASES)])
    assert len(started) > 11
    assert 0 < len(notices) <= 11
