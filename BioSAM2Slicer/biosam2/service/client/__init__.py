"""The session interface on the asking side, over pipes or HTTP. Needs no torch."""

from .pipes import WorkerSession
from .session import ClientSession, RemoteModel

__all__ = ["ClientSession", "RemoteModel", "WorkerSession"]
