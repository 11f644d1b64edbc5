"""A session: what was said and done as data (torch-free), and the facade that users hold.

`settings`, `entries`, `state` and `results` are the session without the network; `executor` says what runs the network,
`local` runs it in this process with the sweeps of `sweep`; `session` puts them together.
"""

from __future__ import annotations

from .session import BaseSession, Session
from .settings import ModelFacts, SessionSettings
from .state import DIRECTIONS, Direction, SessionState

__all__ = ["DIRECTIONS", "BaseSession", "Direction", "ModelFacts", "Session", "SessionSettings", "SessionState"]
