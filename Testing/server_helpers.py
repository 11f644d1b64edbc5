"""A real server in a thread, and networks that misbehave."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from threading import Event, Thread

import requests
import uvicorn
from biosam2.service.server.app import Settings, make_app
from biosam2.service.server.device import Devices
from biosam2.service.server.local import LocalDevice
from biosam2.service.server.process import ProcessDevice
from biosam2.service.server.volumes import VolumeStore
from prometheus_client.parser import text_string_to_metric_families


class Served:
    """A server on a free port of this computer, or on a given one; use as a context manager.

    Args:
        models: of its own process; or the processes of its devices.
    """

    def __init__(self, models: dict | Sequence[ProcessDevice], settings: Settings | None = None, port: int = 0) -> None:
        if isinstance(models, dict):
            self.device = LocalDevice(models, 4 << 30)
            self.app = make_app(Devices([self.device]), settings)
        else:
            self.app = make_app(Devices(models), settings, VolumeStore(1 << 30, shared=True))
        self._listening = listen(port)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self.app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [self._listening]}, daemon=True)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()


def metrics(served: Served, key: str = "") -> Callable[..., float]:
    """What a server tells Prometheus now, by name and labels."""
    answered = requests.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert answered.status_code == 200, answered.text
    families = text_string_to_metric_families(answered.text)
    samples = [sample for family in families for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        (found,) = (s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
        return found

    return value


def listen(port: int = 0) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(64)
    return listening


class Answering:
    """Listens, and does with each connection what it is told."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._listening = listen()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self._over = Event()

    def __enter__(self) -> Answering:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._handle(connection)


class Cutting(Answering):
    """Passes bytes on to a server and back, and cuts connections that have carried as much as allowed.

    Args:
        port: of the server.
        up, down: bytes that the next connections may carry each way before they are cut; None for all. Each is used
            once, by the connection that gets so far.
        lies: what the next requests are answered instead of the server, once each; their connections then end.
    """

    def __init__(self, port: int) -> None:
        super().__init__(self._pass_on)
        self._port = port
        self.up: list[int] = []
        self.down: list[int] = []
        self.lies: list[bytes] = []
        self.cuts = 0

    def _pass_on(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            for data, target, limits in self._flow(client, server):
                if target is server and self.lies:
                    client.sendall(self.lies.pop(0))
                    return
                if limits and len(data) >= limits[0]:
                    target.sendall(data[: limits.pop(0)])
                    self.cuts += 1
                    # Linger 0: the peer sees a reset, as from a crash.
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    return
                if limits:
                    limits[0] -= len(data)
                target.sendall(data)

    def _flow(self, client: socket.socket, server: socket.socket) -> Iterator[tuple]:
        other = {client: (server, self.up), server: (client, self.down)}
        while True:
            for ready in select.select(list(other), [], [])[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                yield data, *other[ready]
