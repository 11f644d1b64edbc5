"""What a person has looked at and approved, as a record and a DICOM SEG say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from ..errors import InputError


@dataclass(frozen=True)
class Review:
    """What a person did with the masks that a network drew.

    Attributes:
        approved: whether they approved all of it.
        reviewer: who; empty where they are not to be named.
        when: of the approval, UTC as in 2026-05-17T09:30:00Z; may be empty.
        axis: along which the slices run, ``k``, ``j`` or ``i``.
        looked_at: slices that were looked at, by the segment's name.
    """

    approved: bool = False
    reviewer: str = ""
    when: str = ""
    axis: str = "k"
    looked_at: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, "tuple[int, ...]"])

    def to_json(self) -> dict[str, Any]:
        """As JSON data; runs of slices are written as first and last."""
        return {
            "approved": self.approved,
            "reviewer": self.reviewer,
            "when": self.when,
            "axis": self.axis,
            "looked_at": {name: _runs(slices) for name, slices in self.looked_at.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Review:
        """What `to_json` wrote.

        Raises:
            InputError: it is damaged.
        """
        try:
            found = msgspec.convert(data, _Data)
            looked_at = {
                name: tuple(n for first, last in runs for n in range(first, last + 1))
                for name, runs in found.looked_at.items()
            }
        except msgspec.ValidationError as error:
            raise InputError(f"the review is damaged: {error}") from error
        return cls(found.approved, found.reviewer, found.when, found.axis, looked_at)

    def text(self, segment: str, shown: Iterable[int]) -> str:
        """One line about a segment: how many of the slices that show it were looked at, and whether it was approved.

        Args:
            segment: its name.
            shown: the slices, along `axis`, that show it.
        """
        there = set(shown)
        seen = len(there & set(self.looked_at.get(segment, ())))
        said = f"A person looked at {seen} of the {len(there)} slices that show it"
        return f"{said}, and approved the segmentation." if self.approved else f"{said}."


# More slices than any volume has: a damaged run must not fill the memory.
_Slice = Annotated[int, msgspec.Meta(ge=0, lt=1_000_000)]


class _Data(msgspec.Struct):
    approved: bool
    reviewer: str = ""
    when: str = ""
    axis: str = "k"
    looked_at: dict[str, list[tuple[_Slice, _Slice]]] = {}


def _runs(slices: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(slices)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
