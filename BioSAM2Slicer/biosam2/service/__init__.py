"""The same session in another process (pipes) or on another machine (HTTP).

`messages` is what is said, `host` answers, `conversation` asks. `pipes` (to a `worker`) and `http` (to a `server`) are
the two ways between them, and `client` is the session on either.
Nothing here imports torch until a model is loaded, so that a client or a relay runs without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .http import RemoteSession
    from .pipes import WorkerSession

_LAZY = {"RemoteSession": ".http", "WorkerSession": ".pipes"}

__all__ = ["RemoteSession", "WorkerSession"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
