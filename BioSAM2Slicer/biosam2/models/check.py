"""Ask the addresses of the registry whether what it names is still there. Nothing is downloaded."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from urllib.parse import urlsplit

import requests

from ..errors import ModelError
from . import registry
from .download import (
    TEMPORARY_STATUS,
    connection_failure,
    offered_bytes,
    published_sha256,
    source_url,
    untold_sha256,
)
from .receipts import recorded_sha256
from .registry import ModelEntry

State = Literal["good", "moved", "differs", "missing", "refused", "unreachable"]

_CONNECT_SECONDS, _READ_SECONDS = 10, 15
_MOST_REDIRECTS = 8
_PERMANENT = {301, 308}
_GONE = {404, 410}
# A listing that says 156 MB stands for anything that rounds to it.
_LISTING_STEP = 1_000_000


@dataclass(frozen=True)
class ModelFinding:
    """What one address of the registry answered.

    Attributes:
        subject: the model's name, or the name of what lies there, such as ``licence Apache-2.0``.
        url: the address that was asked.
        state: ``good``; ``moved``, it answers from elsewhere and the registry should follow; ``differs``, another
            file; ``missing``, the host has it no more; ``refused``, the host does not hand it out; ``unreachable``,
            no answer.
        detail: the same in words, on one line.
        bytes: size of the file as it is offered; None where that is not known.
        sha256: its hash as the host tells it; None where it tells none.
    """

    subject: str
    url: str
    state: State
    detail: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Address:
    subject: str
    url: str
    entry: ModelEntry | None = None  # of a checkpoint; a page has none


def check(models: Sequence[ModelEntry] | None = None, *, seconds: float = 30) -> list[ModelFinding]:
    """Ask every address of some models at once: of the checkpoint, and of the pages with its licence and terms.

    Of a checkpoint the first byte is asked for, and the size and the hash that come with the answer are compared with
    the registry. Where BIOSAM2_MIRROR is set the mirror is asked, as a download would, and the pages are not.

    Args:
        models: by default all that are to be downloaded.
        seconds: after which an address that has not answered counts as unreachable.

    Returns:
        One finding for each address, those of checkpoints first, in the models' order.

    Raises:
        ModelError: a model that has no address.
    """
    if models is None:
        models = [entry for entry in registry.list_models() if entry.source == "download"]
    addresses = _addresses(models)
    answers: queue.SimpleQueue[tuple[int, ModelFinding | BaseException]] = queue.SimpleQueue()
    for number, address in enumerate(addresses):
        # Daemons: neither a name server nor a host that sends a byte now and then can hold up the program's end.
        threading.Thread(target=_answer, args=(number, address, answers), daemon=True).start()
    findings: dict[int, ModelFinding] = {}
    end = time.monotonic() + seconds
    while len(findings) < len(addresses):
        try:
            number, answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, BaseException):
            raise answer
        findings[number] = answer
    late = f"the server does not answer within {seconds:g} s"
    return [
        findings.get(number) or ModelFinding(address.subject, address.url, "unreachable", late)
        for number, address in enumerate(addresses)
    ]


def _addresses(models: Sequence[ModelEntry]) -> list[_Address]:
    for entry in models:
        if entry.source != "download":
            raise ModelError(
                f"model {entry.name} is not downloaded from anywhere; run: biosam2 models verify {entry.name}"
            )
    files = [_Address(entry.name, source_url(entry), entry) for entry in models]
    pages: dict[str, _Address] = {}
    for entry in models:
        for subject, url in ((f"licence {entry.licence}", entry.licence_url), ("terms", entry.terms_url)):
            if url is not None and source_url(entry) == entry.url:
                pages.setdefault(url, _Address(subject, url))
    return [*files, *pages.values()]


def _answer(
    number: int, address: _Address, answers: queue.SimpleQueue[tuple[int, ModelFinding | BaseException]]
) -> None:
    try:
        answers.put((number, _ask(address)))
    except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
        answers.put((number, error))


def _ask(address: _Address) -> ModelFinding:
    headers = {"Accept-Encoding": "identity"}
    if address.entry is not None:
        # Not HEAD: addresses that a host signs for its storage are often good for GET alone.
        headers["Range"] = "bytes=0-0"
    try:
        with requests.Session() as session:
            session.max_redirects = _MOST_REDIRECTS
            with session.get(
                address.url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
            ) as response:
                return _judge(address, response)
    except (requests.ConnectionError, requests.Timeout) as error:
        return ModelFinding(address.subject, address.url, "unreachable", connection_failure(error))
    except requests.TooManyRedirects:
        return ModelFinding(address.subject, address.url, "refused", "it redirects without end")
    except requests.RequestException as error:
        return ModelFinding(address.subject, address.url, "refused", str(error).splitlines()[0])


def _judge(address: _Address, response: requests.Response) -> ModelFinding:
    status = f"HTTP {response.status_code} {response.reason}".strip()
    moved = _moved_to(response)
    if response.status_code in _GONE:
        return ModelFinding(address.subject, address.url, "missing", f"{status}; {moved or 'it is there no more'}")
    if response.status_code in TEMPORARY_STATUS:
        return ModelFinding(address.subject, address.url, "unreachable", f"the server is busy ({status})")
    if address.entry is None:
        return _judge_page(address, response, status)
    if response.status_code not in {200, 206}:
        return ModelFinding(address.subject, address.url, "refused", f"the server answers {status}")
    size, sha256 = offered_bytes(response), published_sha256(response, address.entry)
    differences = [text for text in (_other_size(address.entry, size), _other_hash(address.entry, sha256)) if text]
    state: State = "differs" if differences else "moved" if moved else "good"
    detail = "; ".join([*differences, *filter(None, [moved])]) or _facts(size, sha256)
    return ModelFinding(address.subject, address.url, state, detail, size, sha256)


def _judge_page(address: _Address, response: requests.Response, status: str) -> ModelFinding:
    """A page is good as long as its host has it: where it leads a reader, and whether programs may read it, is free."""
    moved = _moved_to(response)
    if moved and urlsplit(str(response.url)).hostname != urlsplit(address.url).hostname:
        return ModelFinding(address.subject, address.url, "moved", moved)
    return ModelFinding(address.subject, address.url, "good", f"its host answers {status}")


def _other_size(entry: ModelEntry, size: int | None) -> str | None:
    """How the size that is offered differs from the registry's, in words."""
    if size is None:
        return "the server does not say how large the file is"
    if entry.bytes is not None:
        return None if size == entry.bytes else f"{size} bytes are offered where the registry has {entry.bytes}"
    if entry.listed_bytes is not None and abs(size - entry.listed_bytes) > _LISTING_STEP / 2:
        return f"{size} bytes are offered where the registry has some {entry.listed_bytes / 1e6:.0f} MB"
    return None


def _other_hash(entry: ModelEntry, sha256: str | None) -> str | None:
    """How the hash that the host tells differs from the registry's, or from the file that is here, in words."""
    known = entry.sha256 or (recorded_sha256(entry.path) if entry.present else None)
    if sha256 is None and entry.sha256 is None:
        mirrored = source_url(entry) != entry.url
        return untold_sha256(entry) if mirrored else f"the host tells no SHA-256 (header {entry.sha256_header})"
    if sha256 is None:
        return None
    if known is not None and sha256 != known:
        where = "the registry has" if entry.sha256 else "the file here has"
        return f"the host tells SHA-256 {sha256} where {where} {known}"
    return None


def _moved_to(response: requests.Response) -> str | None:
    """Where the address has moved for good, in words; None where it has not.

    Permanent redirections say so. A host such as Hugging Face answers for a repository that was renamed with a
    temporary one, to the same file below another folder of the same host; one to its storage is its ordinary way.
    """
    for answer, following in pairwise([*response.history, response]):
        old, new = urlsplit(str(answer.url)), urlsplit(str(following.url))
        renamed = old.hostname == new.hostname and old.path != new.path and _tail(old.path) == _tail(new.path)
        if answer.status_code in _PERMANENT or renamed:
            return f"moved to {following.url}"
    return None


def _tail(path: str) -> list[str]:
    """The end of a path: what a repository calls a file, without the repository's own name."""
    return path.split("/")[-3:]


def _facts(size: int | None, sha256: str | None) -> str:
    return f"{size} bytes" if sha256 is None else f"{size} bytes, SHA-256 {sha256} by its host"
