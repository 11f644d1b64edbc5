"""Download a model's checkpoint: resumed after a broken connection, checked before it gets its name.

Proxies and certificates are taken from the environment variables that requests knows (HTTPS_PROXY, NO_PROXY,
REQUESTS_CA_BUNDLE). BIOSAM2_MIRROR names a folder on another server that holds the files by the same names.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import filelock
import requests

from ..errors import DownloadError, ModelError
from . import registry
from .hashing import sha256_of
from .receipts import part, receipt, state
from .registry import ModelEntry

Progress = Callable[[int, int], object]

_CHUNK = 1 << 16
_CONNECT_SECONDS, _READ_SECONDS = 10, 30
# A connection that breaks often but brings this much each time is not given up.
_ENOUGH_TO_GO_ON = 1 << 20
TEMPORARY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(
    entry: ModelEntry | str,
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    delays: Sequence[float] = (1, 2, 4),
) -> Path:
    """Fetch a model's checkpoint unless it is here already, and return its path.

    What arrived before a failure is kept in a ``.part`` file and continued by the next call. A second process that
    downloads the same model waits for the first. A file that was put in its place by hand is checked like any other,
    as far as the registry knows its hash.

    Args:
        entry: of the registry, or its name.
        progress: called with bytes received and bytes in all.
        cancel: set it, from another thread, to stop.
        delays: seconds before each new attempt after a failure; their number is the number of attempts.

    Raises:
        DownloadError: with the reason, and where to put a file that was fetched by hand.
        ModelError: there is no such model.
    """
    if isinstance(entry, str):
        entry = registry.get(entry)
    if entry.source != "download":
        return registry.path_of(entry)
    transfer = _Transfer(entry, progress or _no_progress, cancel or threading.Event())
    with _disk_errors(entry), _alone(entry):
        if not _already_here(entry):
            transfer.run(delays)
    return entry.path


def source_url(entry: ModelEntry) -> str:
    """Where a model is fetched from: its URL, or the same file name on the mirror."""
    mirror = os.environ.get("BIOSAM2_MIRROR")
    return f"{mirror.rstrip('/')}/{quote(entry.file)}" if mirror else str(entry.url)


class _InterruptedError(Exception):
    """The transfer stopped for a reason that a new attempt may not meet."""


@dataclass
class _Started:
    """What is known of the file that a ``.part`` is the beginning of; kept beside it."""

    url: str
    total: int
    validator: str | None = None
    sha256: str | None = None


class _Transfer:
    """One download, in as many attempts as it takes."""

    def __init__(self, entry: ModelEntry, progress: Progress, cancel: threading.Event) -> None:
        self._entry = entry
        self._url = source_url(entry)
        self._part, self._state = part(entry.path), state(entry.path)
        self._progress = progress
        self._cancel = cancel

    def run(self, delays: Sequence[float]) -> None:
        failures = 0
        furthest = self._received()
        anew = False
        while True:
            try:
                resumed = self._attempt()
                if self._finish(may_retry=resumed and not anew):
                    return
                anew = True
            except _InterruptedError as error:  # noqa: PERF203 -- one attempt each time round
                failures = 0 if self._received() - furthest >= _ENOUGH_TO_GO_ON else failures + 1
                furthest = max(furthest, self._received())
                if failures > len(delays):
                    raise self._error(str(error)) from error
                self._pause(delays[failures - 1] if failures else 0)

    def _attempt(self) -> bool:
        """Receive what is missing. Returns whether that continued an earlier attempt."""
        started = self._started()
        offset = self._received() if started else 0
        if started and offset == started.total:
            return True
        headers = {"Accept-Encoding": "identity"}
        if started and offset:
            headers["Range"] = f"bytes={offset}-"
            if started.validator:
                headers["If-Range"] = started.validator
        try:
            with requests.get(
                self._url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
            ) as response:
                return self._receive(response, started, offset)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise _InterruptedError(connection_failure(error)) from error
        except requests.RequestException as error:
            raise self._error(f"{type(error).__name__} ({str(error).splitlines()[0]})") from error

    def _receive(self, response: requests.Response, started: _Started | None, offset: int) -> bool:
        if response.status_code == 416:
            self._discard()
            raise _InterruptedError("the server has less than was received before")
        if response.status_code in TEMPORARY_STATUS:
            raise _InterruptedError(f"the server is busy (HTTP {response.status_code})")
        if response.status_code not in {200, 206}:
            raise self._error(f"the server answers HTTP {response.status_code} {response.reason}")

        now = self._offered(response)
        if response.status_code == 206:
            begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            same = started is not None and now.total == started.total and now.sha256 == started.sha256
            if begins is None or int(begins[1]) != offset or not same:
                self._discard()
                raise _InterruptedError("the server continued with another file")
        else:
            offset = 0
        free = shutil.disk_usage(self._part.parent).free
        if free < now.total - offset:
            raise self._error(f"it needs {_mb(now.total - offset)} and the disk has {_mb(free)} free")

        self._state.write_text(json.dumps(asdict(now)), encoding="utf-8")
        received = offset
        self._progress(received, now.total)
        with self._part.open("ab" if offset else "wb") as file:
            for block in response.iter_content(_CHUNK):
                received += len(block)
                if received > now.total:
                    file.close()
                    self._discard()
                    raise self._error(f"the server sends more than {now.total} bytes; it has another file")
                file.write(block)
                self._progress(received, now.total)
                if self._cancel.is_set():
                    raise self._error("it was stopped")
        if received < now.total:
            raise _InterruptedError(f"the connection broke off after {_mb(received)} of {_mb(now.total)}")
        return offset > 0

    def _offered(self, response: requests.Response) -> _Started:
        """What the server says of the file, as far as it agrees with the registry."""
        entry = self._entry
        total = offered_bytes(response)
        if total is None:
            total = entry.bytes
        if total is None:
            raise self._error("the server does not say how large the file is")
        if entry.bytes is not None and total != entry.bytes:
            raise self._error(f"the server offers {total} bytes where the model has {entry.bytes}; it has another file")
        sha256 = entry.sha256 or published_sha256(response, entry)
        if sha256 is None:
            raise self._error(untold_sha256(entry))
        etag = response.headers.get("ETag", "")
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        return _Started(self._url, total, validator, sha256)

    def _finish(self, may_retry: bool) -> bool:
        """Check the whole file and give it its name. Returns False when it is worth fetching it anew."""
        started = self._started()
        assert started is not None
        found = sha256_of(self._part, remember_from=started.total + 1)
        if found != started.sha256:
            self._discard()
            if may_retry:
                return False
            raise self._error(f"what the server sent is not the model's file (its SHA-256 is {found}); it was deleted")
        with self._part.open("rb+") as file:
            os.fsync(file.fileno())
        record = {"url": self._url, "bytes": started.total, "sha256": found}
        receipt(self._entry.path).write_text(json.dumps(record), encoding="utf-8")
        os.replace(self._part, self._entry.path)
        self._state.unlink(missing_ok=True)
        return True

    def _started(self) -> _Started | None:
        """What the ``.part`` file belongs to; None where there is none, or it is of something else."""
        try:
            started = _Started(**json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        expected = self._entry.sha256 or started.sha256
        usable = started.url == self._url and started.sha256 == expected and self._received() <= started.total
        return started if usable else None

    def _received(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def _pause(self, seconds: float) -> None:
        if self._cancel.wait(seconds):
            raise self._error("it was stopped")

    def _error(self, reason: str) -> DownloadError:
        return _error(self._entry, reason)


def offered_bytes(response: requests.Response) -> int | None:
    """The size in bytes of the whole file of which a server sends all or a part; None where it does not say."""
    if response.status_code == 206:
        match = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
        return int(match[1]) if match else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def published_sha256(response: requests.Response, entry: ModelEntry) -> str | None:
    """The hash that a model's own host tells in a header, over https; None where it does not.

    Hosts such as Hugging Face tell it in the redirection to their storage, whose own answers are not trusted here.
    """
    if entry.sha256_header is None:
        return None
    host = urlsplit(str(entry.url)).hostname
    for answer in (*response.history, response):
        where = urlsplit(str(answer.url))
        value = answer.headers.get(entry.sha256_header, "").strip('"').lower()
        if where.scheme == "https" and where.hostname == host and _SHA256.fullmatch(value):
            return value
    return None


def untold_sha256(entry: ModelEntry) -> str:
    """Why a file whose hash nobody told is not taken, in words."""
    return f"its SHA-256 is told only by {urlsplit(str(entry.url)).hostname} over https; unset BIOSAM2_MIRROR"


def _already_here(entry: ModelEntry) -> bool:
    if not entry.present:
        return False
    try:
        registry.verify(entry)
    except ModelError:
        return False
    return True


@contextmanager
def _alone(entry: ModelEntry) -> Iterator[None]:
    """Wait until no other process downloads this model. The system frees the lock of a process that died."""
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(entry.path.with_name(f".{entry.file}.lock")):
        yield


@contextmanager
def _disk_errors(entry: ModelEntry) -> Iterator[None]:
    try:
        yield
    except requests.RequestException:
        raise  # an OSError too, and none of the disk's
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _error(entry, "the disk is full; free some space and it goes on where it stopped") from error
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise _error(entry, reason) from error


def _error(entry: ModelEntry, reason: str) -> DownloadError:
    return DownloadError(
        f"model {entry.name} was not downloaded from {source_url(entry)}: {reason}. "
        f"Run it again, or fetch {entry.url} by hand and put it at {entry.path}"
    )


def connection_failure(error: requests.RequestException) -> str:
    """Why a server was not reached, in words."""
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer (see HTTPS_PROXY and NO_PROXY)"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted here (behind a proxy that inspects TLS, set REQUESTS_CA_BUNDLE)"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "there is no connection to the server (offline, or a proxy is needed: HTTPS_PROXY)"


def _no_progress(received: int, total: int) -> None:
    pass


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
