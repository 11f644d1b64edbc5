"""What a server and the process of one of its devices say to each other, in the frames of `framing`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ...session.settings import ModelFacts
from .. import messages as m
from ..framing import Limits

# The server has checked sizes already; an envelope is a little larger than what is in it.
LIMITS = Limits(head=1 << 20, body=1 << 30, decoded=2 << 30)


class _Part(msgspec.Struct, eq=False, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Common to all."""


class Begin(_Part):
    """A new session's host, under a number of the server's choosing.

    Attributes:
        volume: its name; one that is mapped already is not opened again.
        voxels: where it is to be mapped from.
    """

    seat: int
    model: str
    volume: str
    voxels: m.OpenVolume


class Ask(_Part):
    """A request to a session's host."""

    seat: int
    asked: m.Asked


class End(_Part):
    """The session is over."""

    seat: int


class Measure(_Part):
    """What does the process hold?"""

    id: int


class Ready(_Part):
    """The models are loaded."""

    models: list[ModelFacts]


class Unready(_Part):
    """They cannot be; see `errors.error_of`."""

    kind: str
    text: str


class Told(_Part):
    """What a session's host says."""

    seat: int
    reply: m.Reply


class Turned(_Part):
    """A host's turn is over.

    Attributes:
        taken: requests that it has taken up since its beginning.
        moving: see `Host.moving`.
    """

    seat: int
    taken: int
    moving: bool


class Measured(_Part):
    """What the process holds; see `Load`."""

    id: int
    feature_bytes: int
    feature_budget_bytes: int
    process_bytes: int


FromServer: TypeAlias = Begin | Ask | End | Measure
FromDevice: TypeAlias = Ready | Unready | Told | Turned | Measured
