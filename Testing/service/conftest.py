"""What the tests of the service share: a small network, and servers as processes."""

from __future__ import annotations

import pytest
from command_helpers import ServerProcess
from small_network import checkpoint, model, one_thread_in_children, volume, volumes

__all__ = ["checkpoint", "model", "one_thread_in_children", "volume", "volumes"]


@pytest.fixture
def serve():
    """Starts servers as processes, with the arguments of ``biosam2 serve``; gives each one's port."""
    started: list[ServerProcess] = []

    def start(*arguments: object, **environment: str) -> int:
        started.append(ServerProcess(*arguments, **environment))
        return started[-1].port

    yield start
    for server in started:
        assert server.stop() in (0, -15, 143)
