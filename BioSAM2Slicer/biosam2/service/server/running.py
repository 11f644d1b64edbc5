"""Running the server: who may reach it, certificates, structured logs."""

from __future__ import annotations

import ipaddress
import json
import logging
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ... import extras
from ...errors import InputError

if TYPE_CHECKING:
    from .app import Settings
    from .device import Devices

# Seconds that running requests get when the server is stopped.
_GOODBYE = 5
# Seconds that a connection stays open between two clicks, so that the next one needs no new handshake.
_KEPT = 60


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and what belongs to it.

    Args:
        more: what every line says besides.
    """

    _USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

    def __init__(self, more: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._more = dict(more or {})

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        content = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **self._more,
            **{name: value for name, value in vars(record).items() if name not in self._USUAL},
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str)


def check_exposure(host: str, api_key: str | None, allow_no_key: bool) -> None:
    """Refuse to serve everybody in reach.

    Raises:
        InputError: the address can be reached from elsewhere, and there is no key.
    """
    if api_key is not None and len(api_key) < 16:
        raise InputError("the API key is too short to be safe; use 16 characters or more")
    if api_key is None and not allow_no_key and not _is_loopback(host):
        raise InputError(
            f"{host} can be reached from other computers and there is no API key; "
            "set BIOSAM2_API_KEY or --api-key, or say --allow-no-key if the network is trusted"
        )


def run(
    devices: Devices,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: Path | None = None,
    key: Path | None = None,
    shared: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM; after SIGUSR1, until the last session has ended.

    Args:
        devices: where sessions run.
        settings: how it is run.
        host: the address to listen on.
        port: the TCP port.
        certificate: a PEM file, for TLS.
        key: the certificate's private key, a PEM file.
        shared: whether the devices are in other processes, which map the volumes.

    Raises:
        InputError: the address is taken, or the certificate cannot be used.
        DependencyError: FastAPI or uvicorn is not installed.
    """
    extras.require("serve", "the server")
    import uvicorn

    from .app import make_app
    from .volumes import VolumeStore

    start_logging()
    app = make_app(devices, settings, VolumeStore(settings.volume_memory, shared))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # addresses hold the sessions' names, which are secret
        server_header=False,
        timeout_graceful_shutdown=_GOODBYE,
        timeout_keep_alive=_KEPT,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:
        raise InputError(f"the certificate or its key cannot be used: {error}") from error
    listening = _listen(host, port)
    logging.getLogger("biosam2.server").info(
        "listening",
        extra={
            "address": host,
            "port": listening.getsockname()[1],
            "tls": certificate is not None,
            "key": settings.api_key is not None,
            "models": list(devices.models),
            "devices": [device.name for device in devices],
        },
    )
    server = uvicorn.Server(config)

    def drained() -> None:
        server.should_exit = True

    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, lambda *_: app.state.leases.drain(drained))
    server.run(sockets=[listening])


def start_logging(**more: str) -> None:
    """JSON lines on standard error.

    Args:
        more: what every line is to say besides.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(more))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port or --host"
        ) from error
    return listening


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
