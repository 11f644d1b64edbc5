"""The definition of "the same session": whatever is done, and wherever it runs, the same is answered and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import biosam2
import pytest
import requests
from biosam2 import Volume
from biosam2.service import RemoteSession, pipes
from biosam2.service import messages as m
from biosam2.service.client import ClientSession
from biosam2.service.pipes import PipeLink, WorkerConnector
from biosam2.service.upload import geometry_of
from biosam2.session import SessionSettings
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from server_helpers import Served
from service_helpers import LoopConnector, ModelEngine
from session_contract import SessionParty, Sessions


class KeptWorker:
    """A worker process that outlives its sessions: starting one takes seconds."""

    def __init__(self, checkpoint: Path, log: Path) -> None:
        self._model = m.LoadModel(id=0, checkpoint=str(checkpoint), device="cpu")
        self._log = log
        self.link: PipeLink | None = None

    def connector(self, volume: Volume) -> _Connector:
        return _Connector(self, volume, self._model, arguments=["--log-file", str(self._log)])

    def session(self, crop: str | None, volume: Volume) -> ClientSession:
        return ClientSession(self.connector(volume), volume, crop=crop, on_notice=print)

    def lose(self, session: ClientSession, hard: bool) -> None:
        assert self.link is not None
        if hard:
            self.link.process.kill()
            self.link.process.wait()
        elif self.link.process.poll() is None and session._running is None:
            # The client is not told that there is a session without entries now.
            self.link.call(m.Create(id=pipes._id(), settings=session.settings), _ignore)

    def end(self) -> None:
        if self.link is not None:
            self.link.close()


class _Connector(WorkerConnector):
    def __init__(self, worker: KeptWorker, volume: Volume, *given: Any, **more: Any) -> None:
        super().__init__(volume, *given, **more)
        self._worker, self._voxels = worker, volume

    def open(self, settings: SessionSettings, progress: Any, notice: Any) -> tuple[Any, m.Created]:
        link = self._worker.link
        if link is None or link.process.poll() is not None:
            link, created = super().open(settings, progress, notice)
            self._worker.link = link
        else:
            with pipes.shared_file(self._voxels) as path:
                link.call(m.OpenVolume(id=pipes._id(), path=path, **geometry_of(self._voxels)), progress)
            answer = link.call(m.Create(id=pipes._id(), settings=settings), progress)
            assert isinstance(answer, m.Created)
            created = answer
        return _Kept(link), created


class _Kept:
    """A link that is not closed with its session."""

    def __init__(self, link: PipeLink) -> None:
        self.ask, self.tell = link.ask, link.tell

    def close(self) -> None:
        self.tell = self.ask = _closed


def _closed(*given: object) -> Any:
    raise AssertionError("a closed link is used")


def _ignore(*given: object) -> None:
    return


@pytest.fixture
def worker(checkpoint: Path, tmp_path: Path) -> Iterator[KeptWorker]:
    kept = KeptWorker(checkpoint, tmp_path / "worker.log")
    yield kept
    kept.end()


@pytest.fixture
def served(model: biosam2.models.Model) -> Iterator[Served]:
    with Served({"small": model}) as server:
        yield server


def run(machine: type[Sessions], examples: int) -> None:
    limits = settings(
        max_examples=examples,
        stateful_step_count=16,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=limits)


def here(model: biosam2.models.Model, volume: Volume, volumes: Callable[[int], Volume]) -> Callable[..., SessionParty]:
    return lambda crop: SessionParty(lambda v: biosam2.Session(model, v, crop=crop), volume, volumes)


@pytest.mark.parametrize("examples", [15, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_session_is_the_same_on_a_host_that_forgets_and_ends(
    model: biosam2.models.Model, volume: Volume, volumes: Callable[[int], Volume], examples: int
) -> None:
    """A host in this process, so that thousands of sessions can be compared."""

    def elsewhere(crop: str | None) -> SessionParty:
        connectors: list[LoopConnector] = []

        def make(voxels: Volume) -> ClientSession:
            connectors.append(LoopConnector(ModelEngine(model, voxels)))
            return ClientSession(connectors[-1], voxels, crop=crop, on_notice=print)

        def lose(session: ClientSession, hard: bool) -> None:
            known = connectors[-1].loop.host._known
            if hard:
                connectors[-1].cut()
            elif known is not None and session._running is None:
                known._entries.clear()

        return SessionParty(make, volume, volumes, lose)

    class Machine(Sessions):
        parties = {"here": here(model, volume, volumes), "host": elsewhere}  # noqa: RUF012
        deaths = 100

    run(Machine, examples)


@pytest.mark.parametrize("examples", [5, pytest.param(300, marks=pytest.mark.soak)])
def test_a_session_is_the_same_in_a_worker_and_on_a_server(
    model: biosam2.models.Model,
    volume: Volume,
    volumes: Callable[[int], Volume],
    worker: KeptWorker,
    served: Served,
    examples: int,
) -> None:
    """Real pipes and sockets; workers are killed, and the server's sessions ended."""

    def in_worker(crop: str | None) -> SessionParty:
        return SessionParty(lambda v: worker.session(crop, v), volume, volumes, worker.lose)

    def on_server(crop: str | None) -> SessionParty:
        def lose(session: RemoteSession, hard: bool) -> None:
            link: Any = session.executor.link  # type: ignore[attr-defined]
            if link is not None:
                requests.delete(f"{served.url}{link._path}", timeout=30)

        def make(voxels: Volume) -> RemoteSession:
            return RemoteSession(served.url, voxels, ahead=1, crop=crop, on_notice=print)

        return SessionParty(make, volume, volumes, lose)

    class Machine(Sessions):
        parties = {  # noqa: RUF012
            "here": here(model, volume, volumes),
            "worker": in_worker,
            "server": on_server,
        }

    run(Machine, examples)
