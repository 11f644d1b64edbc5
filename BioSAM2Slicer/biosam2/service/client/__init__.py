"""The session interface on the asking side, over pipes or HTTP. Needs no torch."""

from .http import RemoteSession
from .pipes import WorkerSession
from .session import ClientSession

__all__ = ["ClientSession", "RemoteSession", "WorkerSession"]
