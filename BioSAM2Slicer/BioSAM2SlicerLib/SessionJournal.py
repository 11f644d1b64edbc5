"""What was said and done in a session, in order: the part of the panel's state from which masks can be made again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from biosam2 import Mask
from biosam2.errors import BioSAM2Error
from biosam2.prompts import Prompt
from biosam2.session.entries import Cleared, Entry, Locked, Prompted, Propagated, Removed, from_json, to_json

from .PromptNodes import sliceOf as sliceOfMarkup


@dataclass(eq=False)
class Remark:
    """One entry, and the markup that a prompt belongs to.

    Attributes:
        entry: of the engine's journal; a propagation's is replaced as its slices are finished.
        promptId: of the prompt that was added or removed.
        scores: of a propagation, by segment and slice: how sure the model is of its mask, 0 to 1; its own score
            where it found something, and what is left to 1 where it found nothing.
        changes: of a propagation, by segment and slice: how much its mask differs from the one that the model drew
            there before, 0 to 1; not of slices that it came to for the first time.
        seen: of a propagation: slices that the user has looked at since.
        text: of anything else, as JSON, once it was asked for.
    """

    entry: Entry
    promptId: str = ""
    scores: dict[tuple[str, int], float] = field(default_factory=dict)
    changes: dict[tuple[str, int], float] = field(default_factory=dict)
    seen: set[tuple[str, int]] = field(default_factory=set)
    text: str = field(default="", repr=False)


class SessionJournal:
    """Entries in force. Segments go by their identifiers, which stay when a segment is renamed."""

    def __init__(self) -> None:
        self.remarks: list[Remark] = []

    def add(self, entry: Entry, promptId: str = "") -> Remark:
        """Note that something was said or done."""
        remark = Remark(entry, promptId)
        self.remarks.append(remark)
        return remark

    def drop(self, remark: Remark) -> None:
        """It was refused after all."""
        self.remarks = [other for other in self.remarks if other is not remark]

    def prompts(self, segmentId: str) -> list[tuple[str, Prompt]]:
        """The segment's prompts in the session's own order, with their identifiers."""
        live: list[tuple[str, Prompt]] = []
        for remark in self.remarks:
            entry = remark.entry
            if getattr(entry, "segment", None) != segmentId:
                continue
            if isinstance(entry, Prompted):
                live.append((remark.promptId, entry.prompt))
            elif isinstance(entry, Removed):
                del live[entry.position]
            elif isinstance(entry, Cleared):
                live.clear()
        return live

    def segments(self) -> list[str]:
        """Segments that carry prompts, in the order of their first."""
        seen = dict.fromkeys(r.entry.segment for r in self.remarks if isinstance(r.entry, Prompted))
        return [segmentId for segmentId in seen if self.prompts(segmentId)]

    def results(self, segmentId: str) -> dict[int, Remark]:
        """Slices that a propagation has reached since the segment was last cleared, and the last one that did."""
        found: dict[int, Remark] = {}
        for remark in self.remarks:
            if isinstance(remark.entry, Propagated):
                found.update((index, remark) for name, index in remark.entry.finished if name == segmentId)
            elif isinstance(remark.entry, Cleared) and remark.entry.segment == segmentId:
                found.clear()
        return found

    def finished(self, segmentId: str) -> set[int]:
        """Slices that a propagation has reached since the segment was last cleared."""
        return set(self.results(segmentId))

    def on(self, segmentId: str, axis: str, index: int) -> list[Prompt]:
        """The segment's prompts for a slice, in the session's own order."""
        return [prompt for _name, prompt in self.prompts(segmentId) if sliceOf(prompt, axis) == index]

    def masks(self, segmentId: str) -> dict[int, str]:
        """Slices with a mask prompt, and its identifier."""
        return {p.slice_index: name for name, p in self.prompts(segmentId) if isinstance(p, Mask)}

    def locked(self, segmentId: str) -> set[int]:
        """Slices that the user locked."""
        found: set[int] = set()
        for remark in self.remarks:
            entry = remark.entry
            if isinstance(entry, Locked) and entry.segment == segmentId:
                (found.add if entry.locked else found.discard)(entry.slice_index)
            elif isinstance(entry, Cleared) and entry.segment == segmentId:
                found.clear()
        return found

    def kept(self, segmentId: str, axis: str) -> set[int]:
        """Slices that stay as they are: locked, or drawn as a mask prompt that no later prompt refines."""
        drawn: set[int] = set()
        for _name, prompt in self.prompts(segmentId):
            (drawn.add if isinstance(prompt, Mask) else drawn.discard)(sliceOf(prompt, axis))
        return drawn | self.locked(segmentId)

    def clear(self) -> None:
        """Nothing was said or done."""
        self.remarks = []

    def toText(self) -> str:
        """As JSON, for the parameter node; empty where there is nothing."""
        if not self.remarks:
            return ""
        return f"[{', '.join(_toText(remark) for remark in self.remarks)}]"

    def load(self, text: str) -> None:
        """Hold what `toText` wrote, and nothing else.

        Raises:
            ValueError: it is damaged; then there is nothing.
        """
        self.clear()
        if not text:
            return
        try:
            for data in json.loads(text):
                remark = self.add(from_json(data["entry"]), str(data["id"]))
                remark.scores = _numbers(data.get("scores", ()))
                remark.changes = _numbers(data.get("changes", ()))
                remark.seen = {(str(name), int(index)) for name, index in data.get("seen", ())}
            for segmentId in {getattr(remark.entry, "segment", "") for remark in self.remarks}:
                self.prompts(segmentId)
        except (BioSAM2Error, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            self.clear()
            raise ValueError(f"the journal in the scene is damaged: {error}") from error


def _toText(remark: Remark) -> str:
    """A remark as JSON; a mask, which stays as it is, is packed once."""
    if isinstance(remark.entry, Propagated):
        return json.dumps(_toData(remark))
    if not remark.text:
        remark.text = json.dumps(_toData(remark))
    return remark.text


def _toData(remark: Remark) -> dict[str, Any]:
    data: dict[str, Any] = {"id": remark.promptId, "entry": to_json(remark.entry)}
    for name in ("scores", "changes"):
        if numbers := getattr(remark, name):
            data[name] = [[*key, round(number, 4)] for key, number in sorted(numbers.items())]
    if remark.seen:
        data["seen"] = sorted(remark.seen)
    return data


def _numbers(data: Iterable[Sequence[Any]]) -> dict[tuple[str, int], float]:
    return {(str(name), int(index)): float(number) for name, index, number in data}


def sliceOf(prompt: Prompt, axis: str) -> int:
    """The slice that a prompt is for; of a box over several slices, the middle one."""
    return prompt.slice_index if isinstance(prompt, Mask) else sliceOfMarkup(prompt, axis)
