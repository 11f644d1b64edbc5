"""Who has a case open: a small file beside its segmentation, made and removed while the list is locked."""

from __future__ import annotations

import getpass
import os
import platform
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import msgspec
import psutil

from ..datasets.layout import stem
from ..io.atomic import atomic_path

_SAME_START = 5.0
"""Seconds by which the times that the system gives for the start of one process may differ."""


@dataclass(frozen=True)
class Claim:
    """A case that somebody has open.

    Attributes:
        user: who.
        host: the computer's name.
        machine: what tells two computers of one name apart.
        process: the process's identifier there.
        started: when the process started, seconds since 1970.
        token: of this opening; another one of the same process has another.
        since: when the case was opened, UTC as in 2026-05-17T09:30:00Z.
        saved: when it was saved last; empty if it was not.
    """

    user: str
    host: str
    machine: str
    process: int
    started: float
    token: str
    since: str
    saved: str = ""

    def __str__(self) -> str:
        """Who, where and since when, for a message."""
        when = f"saved last {self.saved}" if self.saved else f"since {self.since}"
        return f"{self.user} on {self.host}, {when}"

    @property
    def is_here(self) -> bool:
        """Whether this process made it."""
        return self._on_this_machine and self.process == os.getpid() and self._began_with(_process())

    @property
    def is_stale(self) -> bool:
        """Whether its process ran on this computer and has ended; of other computers it cannot be known."""
        if not self._on_this_machine:
            return False
        try:
            return not self._began_with(psutil.Process(self.process))
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def _began_with(self, process: psutil.Process) -> bool:
        """Whether a process started when its own did; the system adds the clock's present time, which may be set."""
        return abs(process.create_time() - self.started) <= _SAME_START

    @property
    def _on_this_machine(self) -> bool:
        return (self.host, self.machine) == (platform.node(), _machine())


def new_claim() -> Claim:
    """A claim of this process."""
    process = _process()
    return Claim(user_name(), platform.node(), _machine(), process.pid, process.create_time(), uuid.uuid4().hex, now())


def saved_now(claim: Claim) -> Claim:
    """The claim of a case that has just been saved."""
    return replace(claim, saved=now())


def claim_path(segmentation: Path) -> Path:
    """The file that says who has a case open."""
    return segmentation.with_name(f"{stem(segmentation)}.open.json")


def read_claim(segmentation: Path) -> Claim | None:
    """Who has a case open, a process that has ended included; None if nobody has.

    A file that is no claim, or cannot be read, counts as somebody's of another computer: it is not passed over.
    """
    path = claim_path(segmentation)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Claim)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Claim("somebody", f"a computer that {path.name} does not name", "", 0, 0.0, "", "an unknown time")


def write_claim(segmentation: Path, claim: Claim) -> None:
    """Say that a case is open; atomic.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(claim_path(segmentation)) as temporary:
        temporary.write_bytes(msgspec.json.encode(claim))


def user_name() -> str:
    """Who works here, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no account, as in some containers
        return "somebody"


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _process() -> psutil.Process:
    return psutil.Process(os.getpid())


@cache
def _machine() -> str:
    """Systemd's identifier of the machine, else the network card's address; empty where there is neither."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        node = uuid.getnode()
        return "" if node >> 40 & 1 else f"{node:012x}"  # that bit: a random number, another one in each process
