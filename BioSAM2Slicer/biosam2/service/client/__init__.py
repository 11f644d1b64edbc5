"""The session interface on the asking side, over pipes or HTTP. Needs no torch."""

from .http import RemoteSession
from .link import RemoteModel
from .pipes import WorkerSession
from .session import ClientSession

__all__ = ["ClientSession", "RemoteModel", "RemoteSession", "WorkerSession"]
