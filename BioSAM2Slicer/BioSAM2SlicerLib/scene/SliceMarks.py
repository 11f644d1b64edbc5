"""Who owns the slices of a segmentation: the model where it drew last, the user where the user changed that since."""

from __future__ import annotations

import json
from collections.abc import Iterator

# Owners; a slice without one has not been written by the session.
NONE, MODEL, USER = "", "model", "user"


class SliceMarks:
    """Owners by segment and slice, with what they were before a step.

    Example:
        >>> marks = SliceMarks()
        >>> marks.mark(("Segment_1", 12), MODEL)
        >>> marks.owner(("Segment_1", 12))
        'model'
    """

    def __init__(self) -> None:
        self._marks: dict[tuple[str, int], str] = {}

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Slices that the session has written, changed since or not."""
        return iter(self._marks)

    def owner(self, key: tuple[str, int]) -> str:
        """One of the module's constants."""
        return self._marks.get(key, NONE)

    def mark(self, key: tuple[str, int], owner: str, before: dict[tuple[str, int], str] | None = None) -> None:
        """Set the owner of a slice.

        Args:
            key: segment and slice.
            owner: one of the module's constants.
            before: where the owner before a step is kept.
        """
        if before is not None:
            before.setdefault(key, self.owner(key))
        if owner == NONE:
            self._marks.pop(key, None)
        else:
            self._marks[key] = owner

    def swap(self, kept: dict[tuple[str, int], str]) -> None:
        """Exchange owners with those that were kept: a step is undone, or redone."""
        for key, other in kept.items():
            kept[key] = self.owner(key)
            self.mark(key, other)

    def owned(self, segmentId: str, owner: str) -> list[int]:
        """Slices of a segment with an owner, ascending."""
        return sorted(index for (name, index), mark in self._marks.items() if name == segmentId and mark == owner)

    def forget(self, segmentId: str | None = None) -> None:
        """Forget the owners of one segment's slices, or of all."""
        self._marks = {key: mark for key, mark in self._marks.items() if segmentId is not None and key[0] != segmentId}

    def toText(self) -> str:
        """The user's slices, for the parameter node; empty where there are none."""
        users = sorted(key for key, mark in self._marks.items() if mark == USER)
        return json.dumps(users) if users else ""

    def load(self, text: str) -> None:
        """Mark the slices that `toText` told of."""
        for name, index in json.loads(text or "[]"):
            self._marks[str(name), int(index)] = USER
