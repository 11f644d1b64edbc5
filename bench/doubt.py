"""How well a doubt finds the slices that are wrong: which of them a user should look at first, after a propagation."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from biosam2 import Mask, Session
from biosam2.engine.features import FeatureCache
from biosam2.errors import PromptError
from biosam2.evaluation.cases import TargetCase
from biosam2.evaluation.user import User
from biosam2.evaluation.ways import Kind
from biosam2.masks import dice
from biosam2.models.model import Model
from numpy.typing import NDArray
from scipy.stats import spearmanr

Bools = NDArray[np.bool_]
Correction = Literal["mask", "click"]

DOUBTS = {
    "score": "1 - the model's score",
    "change": "1 - Dice to what the slice showed before the last correction",
    "score, change": "1 - score x that Dice",
    "neighbour": "1 - Dice to the next slice towards the prompted one",
    "distance": "slices to the nearest prompted one, as a part of the most",
    "score, distance": "1 - score x what is left of that",
    "change, distance": "1 - that Dice x what is left of that",
    "score, change, distance": "1 - score x that Dice x what is left of that",
    "distance then score": "distance; of slices at one distance the lower score first",
    "distance apart": "distance, where slices that were named before count as prompted",
    "reverse": "1 - Dice to a sweep in the other direction, slice by slice",
    "score, reverse": "1 - score x that Dice",
    "return": "1 - Dice, on the prompted slice, of a sweep back to it from each slice",
    "score, return": "1 - score x that Dice",
}
"""What is compared, by name."""
COSTLY = ("return", "score, return")
"""Those that cost a sweep for each slice."""
SWEPT = ("reverse", "score, reverse")
"""Those that cost a sweep."""
CHEAP = tuple(name for name in DOUBTS if name not in COSTLY)
BY = ("score", "neighbour", "distance", "distance then score", "reverse", "worst")
"""By what a simulated user chooses the next slice to look at; ``worst`` is who knows the truth."""
PROMPTS: tuple[Kind, ...] = ("click1", "box", "mask")
# Slices beyond the target's ends that are propagated to.
_BEYOND = 8
# Fewer slices than these have no order to speak of.
_LEAST = 5
LEAST_SLICES = _LEAST + 2
"""Of a target."""
_DRAWN = 4


@dataclass(frozen=True)
class Ranked:
    """One target after one propagation: how doubts order its slices.

    Attributes:
        case: what was segmented.
        prompt: on the middle slice.
        corrections: clicks since.
        slices: how many were drawn by the network and show something, or lie between such.
        dice: mean of these slices.
        lowest: of the worst of them.
        correlation: Spearman's, of a doubt with 1 - Dice; 0 where all slices are in the same doubt.
        named: Dice of the slice that is most in doubt.
        drawn: Dice of the volume with so many slices most in doubt as they truly are, from none on; nothing is
            propagated again. ``worst`` is the order of who knows the truth.
        seconds: CPU time that all doubts together took, sweeps back among them.
    """

    case: str
    prompt: str
    corrections: int
    slices: int
    dice: float
    lowest: float
    correlation: dict[str, float]
    named: dict[str, float]
    drawn: dict[str, tuple[float, ...]]
    seconds: float


@dataclass(frozen=True)
class Looked:
    """One target, corrected on the slice most in doubt again and again.

    Attributes:
        case: what was segmented.
        prompt: on the middle slice.
        by: what chose the slices, one of `BY`.
        dice: of the volume before the first look and after each.
    """

    case: str
    prompt: str
    by: str
    dice: tuple[float, ...]


class _Work:
    """A session on one target, what it shows, and how much each slice is in doubt.

    Args:
        case: the target.
        model: the network.
        prompt: on the middle slice.
        features: where encoded slices are kept.
        policy: of the memory.
    """

    def __init__(self, case: TargetCase, model: Model, prompt: Kind, features: FeatureCache, policy: str) -> None:
        self._open = partial(Session, model, case.volume, crop="auto", policy=policy, features=features)
        self.session = self._open()
        self.user = User(self.session, case.target, case.mask)
        self.case = case
        self.first, self.last = self.user.reach(_BEYOND)
        self.before: Bools | None = None
        self.shown = np.zeros_like(self.user.slices)
        self.scores: dict[int, float] = {}
        self.user.start(prompt)
        self.propagate()
        self.before = None

    def propagate(self) -> None:
        """Carry the prompts through the volume."""
        self.before = self.shown
        for update in self.session.propagate([self.case.target], first=self.first, last=self.last):
            self.scores[update.slice_index] = update.score
        self.shown = self.session.frames.unstack(self.session.mask(self.case.target))

    @property
    def prompted(self) -> list[int]:
        """Slices with prompts."""
        return sorted({prompt.slice_of(self.session.frames) for prompt in self.user.prompts})

    @property
    def candidates(self) -> list[int]:
        """Slices to look at, as in the panel's review: the network's, and none beyond the ends of what it drew."""
        drawn = np.flatnonzero(self.shown.any(axis=(1, 2)))
        if not len(drawn):
            return []
        marked = set(self.prompted)
        return [s for s in range(int(drawn[0]), int(drawn[-1]) + 1) if s in self.scores and s not in marked]

    def slice_dice(self, s: int) -> float:
        """To the truth."""
        return dice(self.shown[s], self.user.slices[s])

    def doubts(self, names: Sequence[str]) -> dict[str, dict[int, float]]:
        """Each slice's doubt, by what it is called."""
        slices, marked = self.candidates, self.prompted
        parts = {part for name in names for part in name.split(", ")}
        back = self.reversed() if "reverse" in parts else {}
        returned = self.returned() if "return" in parts else {}
        farthest = max((min(abs(m - s) for m in marked) for s in slices), default=0)
        nothing = np.zeros(self.shown.shape[1:], bool)
        found: dict[str, dict[int, float]] = {name: {} for name in names}
        for s in slices:
            near = min(marked, key=lambda m: abs(m - s))
            own = {
                "score": self.scores[s],
                "change": 1.0 if self.before is None else dice(self.shown[s], self.before[s]),
                "neighbour": dice(self.shown[s], self.shown[s + (1 if near > s else -1)]),
                "distance": 1 - abs(near - s) / (1 + farthest),
                "reverse": dice(self.shown[s], back.get(s, nothing)) if back else 0.0,
                "return": returned.get(s, 0.0),
            }
            for name in names:
                if name == "worst":
                    found[name][s] = 1 - self.slice_dice(s)
                elif name == "distance then score":
                    # Distances are whole numbers: a score decides only where they are equal.
                    found[name][s] = (abs(near - s) + 0.99 * (1 - self.scores[s])) / (1 + farthest)
                elif name != "distance apart":
                    found[name][s] = 1 - float(np.prod([own[part] for part in name.split(", ")]))
        if "distance apart" in names:
            order = _apart(slices, marked)
            found["distance apart"] = {s: 1 - n / len(order) for n, s in enumerate(order)}
        return found

    def reversed(self) -> dict[int, Bools]:
        """What a sweep in the other direction gives.

        From the next prompted slice, and beyond the last one from the last slice that shows something, back to the
        prompted slice that the sweep had come from; with what is shown on its own first slice as its only prompt.
        """
        marked = self.prompted
        drawn = [int(s) for s in np.flatnonzero(self.shown.any(axis=(1, 2))) if self.first <= s <= self.last]
        parts = [(b, a) for a, b in itertools.pairwise(marked)]
        parts += [(drawn[-1], marked[-1])] if drawn and drawn[-1] > marked[-1] else []
        parts += [(drawn[0], marked[0])] if drawn and drawn[0] < marked[0] else []
        found: dict[int, Bools] = {}
        for start, end in parts:
            session = self._open()
            try:
                session.add_prompt("reversed", Mask(start, self.shown[start]))
            except PromptError:
                continue  # too little to go back from: nothing agrees
            ways: dict[str, Any] = {"direction": "backward" if end < start else "forward"}
            for update in session.propagate(["reversed"], first=min(start, end), last=max(start, end), **ways):
                if update.slice_index != start or start not in marked:
                    found[update.slice_index] = update.mask
        return found

    def returned(self) -> dict[int, float]:
        """Dice of the nearest prompted slice to what a sweep back from a slice by itself finds there."""
        found = {}
        for s in self.candidates:
            near = min(self.prompted, key=lambda m: abs(m - s))
            session = self._open()
            try:
                session.add_prompt("returned", Mask(s, self.shown[s]))
            except PromptError:
                continue  # nothing on it to go back with
            ways: dict[str, Any] = {"direction": "backward" if near < s else "forward"}
            for update in session.propagate(["returned"], first=min(s, near), last=max(s, near), **ways):
                if update.slice_index == near:
                    found[s] = dice(update.mask, self.shown[near])
        return found

    def drawn(self, slices: Sequence[int]) -> tuple[float, ...]:
        """Dice of the volume with none, one, two … of these slices as they truly are."""
        shown = self.shown.copy()
        found = [dice(shown, self.user.slices)]
        for s in slices:
            shown[s] = self.user.slices[s]
            found.append(dice(shown, self.user.slices))
        return tuple(found)

    def correct(self, s: int, correction: Correction) -> bool:
        """Correct a slice; False where nothing is wrong on it."""
        if correction == "click":
            return self.user.correct_on(s, self.shown[s])
        if np.array_equal(self.shown[s], self.user.slices[s]):
            return False
        prompt = Mask(s, self.user.slices[s])
        self.session.add_prompt(self.case.target, prompt)
        self.user.prompts.append(prompt)
        return True


def _apart(slices: Sequence[int], marked: Sequence[int]) -> list[int]:
    """Slices, the farthest first, each from those marked and from those before it."""
    left, known, order = list(slices), list(marked), []
    while left:
        farthest = max(left, key=lambda s: min(abs(m - s) for m in known))
        left.remove(farthest)
        known.append(farthest)
        order.append(farthest)
    return order


def ranked(
    model: Model,
    cases: Iterable[TargetCase],
    prompts: Sequence[Kind] = PROMPTS,
    corrections: int = 1,
    names: Sequence[str] = CHEAP,
    policy: str = "path",
) -> Iterator[Ranked]:
    """How doubts order the slices of each case, after the first propagation and after each correction by a click.

    Args:
        model: the network.
        cases: on what.
        prompts: on the middle slice, each by itself.
        corrections: how many.
        names: of doubts, some of `DOUBTS`.
        policy: of the memory.
    """
    for case in cases:
        features = FeatureCache()
        for prompt in prompts:
            work = _Work(case, model, prompt, features, policy)
            for done in range(corrections + 1):
                if done and not work.user.correct():
                    break
                if done:
                    work.propagate()
                slices = work.candidates
                if len(slices) < _LEAST:
                    continue
                started = time.process_time()
                doubts = work.doubts([*names, "worst"])
                seconds = time.process_time() - started
                truth = np.array([work.slice_dice(s) for s in slices])
                correlation, named, drawn = {}, {}, {}
                for name, own in doubts.items():
                    values = np.array([own[s] for s in slices])
                    flat = np.ptp(values) == 0 or np.ptp(truth) == 0
                    correlation[name] = 0.0 if flat else float(spearmanr(values, 1 - truth).statistic)
                    named[name] = float(truth[values.argmax()])
                    drawn[name] = work.drawn([slices[n] for n in np.argsort(-values, kind="stable")[:_DRAWN]])
                yield Ranked(
                    case.title,
                    prompt,
                    done,
                    len(slices),
                    float(truth.mean()),
                    float(truth.min()),
                    correlation,
                    named,
                    drawn,
                    seconds,
                )


def looked(
    model: Model,
    cases: Iterable[TargetCase],
    looks: int = 4,
    correction: Correction = "click",
    by: Sequence[str] = BY,
    policy: str = "path",
) -> Iterator[Looked]:
    """Each case corrected on the slice most in doubt, chosen in several ways; no slice is looked at twice.

    Args:
        model: the network.
        cases: on what.
        looks: how many.
        correction: ``click``: one click in what is most wrong on the slice; ``mask``: it is drawn as it truly is.
        by: what chooses, some of `BY`.
        policy: of the memory.
    """
    for case in cases:
        features = FeatureCache()
        for name in by:
            work = _Work(case, model, "box", features, policy)
            found, seen = [dice(work.shown, work.user.slices)], set[int]()
            for _ in range(looks):
                own = {s: doubt for s, doubt in work.doubts([name])[name].items() if s not in seen}
                if own:
                    s = max(own, key=lambda s: own[s])
                    seen.add(s)
                    if work.correct(s, correction):
                        work.propagate()
                found.append(dice(work.shown, work.user.slices))
            yield Looked(case.title, "box", name, tuple(found))


def ranked_table(found: Sequence[Ranked]) -> str:
    """Markdown: a row for each doubt, its mean correlation and the Dice of the slice that it names."""
    rounds = sorted({one.corrections for one in found})
    after = ["first", *(f"after correction {n}" for n in rounds[1:])]
    lines = [
        f"| doubt | {' | '.join(f'{w}: correlation | Dice of the slice named' for w in after)} |",
        f"|---|{'---|---|' * len(rounds)}",
    ]
    for name in (name for name in DOUBTS if name in found[0].correlation):
        cells = []
        for n in rounds:
            own = [one for one in found if one.corrections == n]
            # Nothing has changed before the first correction.
            lacking = n == 0 and "change" in name
            cells += ["", ""] if lacking else [_mean(own, "correlation", name), _mean(own, "named", name)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for words, value in (("mean of all slices", "dice"), ("the worst slice", "lowest")):
        cells = [f" | {np.mean([getattr(o, value) for o in found if o.corrections == n]):.3f}" for n in rounds]
        lines.append(f"| *{words}* | {' | '.join(cells)} |")
    return "\n".join(lines)


def drawn_table(found: Sequence[Ranked]) -> str:
    """Markdown: the mean Dice after the first propagation, with none, one, two … slices drawn as they truly are."""
    own = [one for one in found if one.corrections == 0]
    lines = [f"| drawn in the order of | {' | '.join(map(str, range(_DRAWN + 1)))} |", f"|---|{'---|' * (_DRAWN + 1)}"]
    for name in own[0].drawn:
        if "change" not in name:
            means = np.mean([one.drawn[name] for one in own], axis=0)
            lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in means)} |")
    return "\n".join(lines)


def looked_table(found: Sequence[Looked]) -> str:
    """Markdown: the mean Dice after each look, by what chose the slices."""
    looks = len(found[0].dice)
    lines = [f"| chosen by | {' | '.join(f'{n} looks' for n in range(looks))} |", f"|---|{'---|' * looks}"]
    for name in dict.fromkeys(one.by for one in found):
        means = np.mean([one.dice for one in found if one.by == name], axis=0)
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in means)} |")
    return "\n".join(lines)


def to_json(found: Sequence[Ranked] | Sequence[Looked]) -> list[Mapping[str, Any]]:
    """As JSON data."""
    return [asdict(one) for one in found]


def _mean(found: Sequence[Ranked], what: str, name: str) -> str:
    return f"{np.mean([getattr(one, what)[name] for one in found]):.3f}"
