"""One budget of encoded slices for many sessions."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ...engine.features import EncodedFrame, FeatureCache


class SharedFeatures(FeatureCache):
    """A session's way into a cache that it shares; least recently used goes first, whoever used it.

    Args:
        shared: the cache.
    """

    def __init__(self, shared: FeatureCache) -> None:
        super().__init__(shared.budget)
        self._shared = shared
        self._keys: set[Hashable] = set()

    def get(self, key: Hashable, encode: Callable[[], EncodedFrame]) -> EncodedFrame:
        """As `FeatureCache.get`."""
        self._keys.add(key)
        return self._shared.get(key, encode)

    def holds(self, key: Hashable) -> bool:
        """As `FeatureCache.holds`."""
        return self._shared.holds(key)

    @property
    def room(self) -> int:
        """As `FeatureCache.room`, for all sessions together."""
        return self._shared.room

    def clear(self) -> None:
        """Forget every session's frames: memory has run out."""
        self._shared.clear()

    def forget(self) -> None:
        """Forget this session's frames: it is over."""
        self._shared.discard(self._keys)
        self._keys.clear()
