"""What the status line says: derived from how things stand and what has just happened, not from who wrote last."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from slicer.i18n import tr as _

# What a line is.
NEXT, WORKING, REMARK, PROBLEM, WARNING, NOTICE = "next", "working", "remark", "problem", "warning", "notice"


@dataclass(frozen=True)
class Situation:
    """The facts that a status line is derived from.

    Attributes:
        volumes: how many volumes the scene holds.
        volume: whether one is chosen.
        refused: whether the chosen segmentation does not fit the chosen volume.
        tilt: degrees by which the most tilted view is off the volume's planes; 0 where boxes can be drawn.
        tool: the tool in hand, see `PromptTools.tool`.
        positive: whether the next point is positive.
        effect: the Segment Editor's active effect; empty for none.
        marked: whether the chosen segment carries a prompt.
        propagated: whether a propagation has reached slices of the chosen segment.
        shown: the slice that a view shows; None where none does.
        words: what that slice is; empty where there is nothing to say.
        left: propagated slices that were not looked at.
        working: what the worker does before it can answer; empty where it can.
        running: whether a propagation is under way.
        progress: slices done and to do, slices per second, seconds left; None before the first.
    """

    volumes: int = 0
    volume: bool = False
    refused: bool = False
    tilt: float = 0.0
    tool: str = "none"
    positive: bool = True
    effect: str = ""
    marked: bool = False
    propagated: bool = False
    shown: int | None = None
    words: str = ""
    left: int = 0
    working: str = ""
    running: bool = False
    progress: tuple[int, int, float, float] | None = None


@dataclass(frozen=True)
class Line:
    """What is shown.

    Attributes:
        text: the line.
        kind: one of the module's constants.
    """

    text: str
    kind: str

    @property
    def dismissable(self) -> bool:
        """Whether the user may want it gone."""
        return self.kind in (PROBLEM, WARNING, NOTICE)


@dataclass(frozen=True)
class _Rule:
    """How long a message of a kind is shown.

    Attributes:
        seconds: at most; None for no limit.
        overWork: whether it hides what is going on.
        endsByAct: whether the user's next act ends it.
    """

    seconds: float | None
    overWork: bool
    endsByAct: bool


# The first that is held is shown.
_RULES = {
    # Something happened without the user's doing: nothing but time and the user removes it.
    NOTICE: _Rule(20.0, overWork=True, endsByAct=False),
    # The answer to what the user tried.
    PROBLEM: _Rule(20.0, overWork=True, endsByAct=True),
    # The result needs a second thought.
    WARNING: _Rule(None, overWork=True, endsByAct=True),
    # What was done.
    REMARK: _Rule(8.0, overWork=False, endsByAct=True),
}


class StatusLine:
    """Holds messages for as long as they matter, and derives a line from the situation otherwise.

    Args:
        clock: gives seconds.

    Example:
        >>> status = StatusLine()
        >>> status.tell(NOTICE, "The worker ended.")
        >>> status.line(Situation(working="Starting …")).text
        'The worker ended.'
        >>> status.dismiss()
        >>> status.line(Situation(volume=True, working="Starting …")).text
        'Starting …'
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float | None]] = {}

    def tell(self, kind: str, text: str) -> None:
        """Hold a message; the one before of its kind is over. An empty text ends it."""
        if not text:
            self._held.pop(kind, None)
            return
        # A failure may be told both as an event and as an answer; once is enough.
        if any(text == held for other, (held, _until) in self._held.items() if other != kind and other != REMARK):
            return
        seconds = _RULES[kind].seconds
        self._held[kind] = (text, None if seconds is None else self._clock() + seconds)

    def acted(self) -> None:
        """The user did something new: what was said about the act before is over."""
        self._held = {kind: held for kind, held in self._held.items() if not _RULES[kind].endsByAct}

    def dismiss(self) -> None:
        """The user has read the line that is shown."""
        for kind in _RULES:
            if self._alive(kind):
                del self._held[kind]
                return

    def clear(self) -> None:
        """Another case: nothing that was said matters any more."""
        self._held = {}

    def line(self, situation: Situation) -> Line:
        """What is to be shown now."""
        busy = situation.running or bool(situation.working)
        for kind, rule in _RULES.items():
            if self._alive(kind) and (rule.overWork or not busy):
                return Line(self._held[kind][0], kind)
        return _derived(situation)

    def secondsLeft(self) -> float | None:
        """When the line may change by itself; None for never."""
        ends = [until for _text, until in self._held.values() if until is not None and until > self._clock()]
        return min(ends) - self._clock() if ends else None

    def _alive(self, kind: str) -> bool:
        if kind not in self._held:
            return False
        until = self._held[kind][1]
        return until is None or until > self._clock()


def _derived(s: Situation) -> Line:
    if s.running:
        return Line(_progress(s), WORKING)
    if s.working:
        return Line(s.working, WORKING)
    return Line(_next(s), NEXT)


def _progress(s: Situation) -> str:
    if s.progress is None:
        return _("Propagating …")
    done, total, rate, left = s.progress
    return _("Slice {done} of {total}, {rate:.1f} slices per second, {left:.0f} s left").format(
        done=done, total=total, rate=rate, left=left
    )


def _next(s: Situation) -> str:
    """What the user can do now."""
    if not s.volume:
        return _("Choose a volume.") if s.volumes else _("Load a volume: drag its files into Slicer, or use Add Data.")
    if s.refused:
        return _("This segmentation lies on another grid than the volume: choose another, or a new one.")
    if s.tool == "point":
        if s.positive:
            return _("Click into the structure on a slice. For what does not belong to it, press T first.")
        return _("Click on what does not belong to the structure. For what does, press T first.")
    if s.tilt and (s.tool not in ("", "none") or not s.marked):
        return _(
            "This volume lies tilted in the views by {degrees:.0f}°: turn them to its planes, or use points."
        ).format(degrees=s.tilt)
    if s.tool == "box":
        return _("Drag a box around the structure on a slice.")
    if s.tool == "scribble":
        if s.positive:
            return _("Drag over the structure on a slice. For what does not belong to it, press T first.")
        return _("Drag over what does not belong to the structure. For what does, press T first.")
    if s.tool == "lasso":
        if s.positive:
            return _("Drag around what belongs to the structure. To erase a part of the mask, press T first.")
        return _("Drag around what is to be erased from the mask. To add a part, press T first.")
    if s.tool == "line":
        return _("Drag along the longest diameter of the structure on a slice.")
    if s.effect:
        return _("Paint on a slice; “Use painted slice as prompt” (M) gives it to the model.")
    if s.propagated and s.shown is not None and s.words:
        text = _("Slice {n}: {what}.").format(n=s.shown, what=s.words)
        if s.left:
            text += " " + _("{left} slices not looked at yet: press N for the next uncertain one.").format(left=s.left)
        return text
    if s.marked:
        return _("Correct the outline with points, or press Shift+Space to propagate it.")
    return _("Mark the structure on one slice: Point (P) and click, or Box (B) and drag.")
