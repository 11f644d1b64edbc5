"""What a client session needs of whatever carries its messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from ..session.settings import SessionSettings
from . import messages as m

Progress: TypeAlias = Callable[[str, "float | None"], None]
Notice: TypeAlias = Callable[[str], None]


class Link(Protocol):
    """A host with a session on it, within reach."""

    def ask(self, request: m.Request) -> Iterator[m.Reply]:
        """Send a request now; yield its answers as they come, the final one last.

        Where the connection breaks off, and the host may still be there, they end before the final one.

        Raises:
            ConnectionLostError: the host is gone.
        """

    def tell(self, request: m.Request) -> None:
        """Send what has no answer; may be called from another thread.

        Raises:
            ConnectionLostError: the host is gone.
        """

    def close(self) -> None:
        """Release the host, and the session on it."""


class Connector(Protocol):
    """Reaches a host, as often as needed."""

    def open(self, settings: SessionSettings, progress: Progress, notice: Notice) -> tuple[Link, m.Created]:
        """A new session with these settings on the connector's volume, and what the host says of it.

        Raises:
            BioSAM2Error: there cannot be one.
        """

    def close(self) -> None:
        """Release what was kept for opening again."""
