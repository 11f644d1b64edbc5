"""How long somebody worked on a case: the time between things that they did, without breaks."""

from __future__ import annotations

import time
from collections.abc import Callable


class WorkTimer:
    """Counts seconds of work and interactions; a break counts for no more than `idle` seconds.

    Args:
        idle: seconds without a sign of life that still count as work, such as looking at the images.
        clock: gives seconds; it must not go back.

    Example:
        >>> timer = WorkTimer()
        >>> timer.interact()  # a click
        >>> timer.notice()  # a slice was turned
        >>> seconds, interactions = timer.take()  # with each save
    """

    def __init__(self, idle: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle = idle
        self._clock = clock
        self._last = clock()
        self._seconds = 0.0
        self._interactions = 0

    def notice(self) -> None:
        """Somebody is at work: the time since the last sign of life counts."""
        now = self._clock()
        self._seconds += min(max(now - self._last, 0.0), self._idle)
        self._last = now

    def interact(self) -> None:
        """A prompt or a correction was given."""
        self.notice()
        self._interactions += 1

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._seconds and not self._interactions

    def take(self) -> tuple[float, int]:
        """Seconds and interactions since they were taken last; a save that fails puts them back, see `put_back`."""
        taken = self._seconds, self._interactions
        self._seconds, self._interactions = 0.0, 0
        return taken

    def put_back(self, seconds: float, interactions: int) -> None:
        """Count again what was taken and could not be saved.

        Args:
            seconds: of work.
            interactions: that were taken with them.
        """
        self._seconds += seconds
        self._interactions += interactions

    def restart(self) -> None:
        """Begin with another case: what was not taken is dropped, and time counts from now."""
        self._seconds, self._interactions = 0.0, 0
        self._last = self._clock()
