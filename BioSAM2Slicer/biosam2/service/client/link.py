"""What a client session needs of whatever carries its messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .. import messages as m

Progress: TypeAlias = Callable[[str, "float | None"], None]
Notice: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class RemoteModel:
    """The network at the other side; named as `biosam2.models.Model` names the same things.

    Attributes:
        name: as its registry calls it.
        sha256: hash of the checkpoint.
        device: where it runs.
        device_reason: why there.
        image_size: side of its square input, in pixels.
    """

    name: str
    sha256: str
    device: str
    device_reason: str
    image_size: int


class Link(Protocol):
    """A host with a session on it, within reach."""

    def ask(self, request: m.Request) -> Iterator[m.Reply]:
        """Send a request now; yield its answers as they come, the final one last.

        Raises:
            ConnectionLostError: the host is gone.
        """

    def tell(self, request: m.Request) -> None:
        """Send what has no answer; may be called from another thread.

        Raises:
            ConnectionLostError: the host is gone.
        """

    def close(self) -> None:
        """Let go of the host, and of the session on it."""


class Connector(Protocol):
    """Reaches a host, as often as needed."""

    def open(self, settings: m.Create, progress: Progress, notice: Notice) -> tuple[Link, RemoteModel]:
        """A new session with these settings on the connector's volume.

        Raises:
            BioSAM2Error: there cannot be one.
        """

    def close(self) -> None:
        """Let go of what was kept for opening again."""
