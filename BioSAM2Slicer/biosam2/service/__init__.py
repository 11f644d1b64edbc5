"""The same session in another process (pipes) or on another machine (HTTP).

`messages` is what is said, `host` answers, `client` asks; `worker` and `server` are the two ways between them.
Nothing here imports torch until a model is loaded, so that a client or a relay runs without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import RemoteSession, WorkerSession

_LAZY = ("RemoteSession", "WorkerSession")

__all__ = ["RemoteSession", "WorkerSession"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(".client", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
