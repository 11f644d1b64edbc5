"""How well memory policies do beside SAM 2's own, with a network of real weights on labelled cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from biosam2 import Session
from biosam2.engine.features import FeatureCache
from biosam2.engine.memory import (
    DissimilarityPolicy,
    MemoryPolicy,
    NearestPolicy,
    PathPolicy,
    QualityGatePolicy,
    Sam2Policy,
)
from biosam2.evaluation.cases import TargetCase
from biosam2.evaluation.user import User
from biosam2.evaluation.ways import Kind
from biosam2.masks import dice
from biosam2.models.model import Model

from .policies import Anchors, TwoPass

BANKS: dict[str, Callable[[Model], MemoryPolicy]] = {
    "sam2": lambda model: Sam2Policy(),
    "path": lambda model: PathPolicy(),
    "nearest": lambda model: NearestPolicy(),
    "quality": lambda model: QualityGatePolicy(),
    "dissimilar": lambda model: DissimilarityPolicy(),
    "dissimilar, 16": lambda model: DissimilarityPolicy(capacity=16),
    # What BioSAM-2's reference does.
    "dissimilar, 16 across images": lambda model: DissimilarityPolicy(capacity=16, scope="images"),
    "twopass": lambda model: TwoPass(),
    "anchors": Anchors,
}
_PROMPTS: tuple[Kind, ...] = ("click1", "box")


@dataclass(frozen=True)
class BankResult:
    """One case done with one policy.

    Attributes:
        case: what was segmented.
        bank: the policy, a key of `BANKS`.
        prompt: on the middle slice.
        dice: to the true mask after one propagation both ways, and after a correction.
        beyond: voxels on slices without the target, after the first propagation, as a part of the target's.
        seconds: CPU time.
    """

    case: str
    bank: str
    prompt: str
    dice: tuple[float, ...]
    beyond: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def banks(
    model: Model, cases: Iterable[TargetCase], crop: Literal["auto"] | None = None, beyond: int = 12
) -> Iterator[BankResult]:
    """Every case with every policy, and one correction; a policy that goes across images sees them in order.

    Args:
        model: the network.
        cases: on what.
        crop: see `Session`.
        beyond: slices beyond the target's ends that are propagated to.
    """
    policies = {(bank, prompt): make(model) for bank, make in BANKS.items() for prompt in _PROMPTS}
    for case in cases:
        features = FeatureCache()
        for (bank, prompt), policy in policies.items():
            start = time.process_time()
            session = Session(model, case.volume, crop=crop, policy=policy, features=features)
            user = User(session, case.target, case.mask)
            user.start(prompt)
            present = np.flatnonzero(user.slices.any(axis=(1, 2)))
            first = max(0, int(present[0]) - beyond)
            last = min(session.number_of_slices - 1, int(present[-1]) + beyond)
            found = []
            for corrected in (False, True):
                if not corrected or user.correct():
                    _propagate(session, case.target, policy, first, last)
                found.append(session.mask(case.target))
            outside = found[0][~case.mask.any(axis=(1, 2))].sum() / case.mask.sum()
            agreements = tuple(dice(mask, case.mask) for mask in found)
            yield BankResult(case.title, bank, prompt, agreements, float(outside), time.process_time() - start)
    for policy in policies.values():
        if isinstance(policy, Anchors):
            policy.close()


def _propagate(session: Session, segment: str, policy: MemoryPolicy, first: int, last: int) -> None:
    """Both ways, and once more where the policy wants a second sweep."""
    for second in (False, True) if isinstance(policy, TwoPass) else (False,):
        if isinstance(policy, TwoPass):
            policy.second = second
        for _ in session.propagate([segment], first=first, last=last):
            pass


def table(found: list[BankResult]) -> str:
    """Markdown: the mean Dice of each policy, and on how many cases it is better or worse than SAM 2's by 0.005."""
    lines = [
        "| policy | prompt | mean Dice | better | worse | after one correction | beyond the ends | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for bank in BANKS:
        for prompt in _PROMPTS:
            rows = [one for one in found if (one.bank, one.prompt) == (bank, prompt)]
            first = {one.case: one.dice[0] for one in found if (one.bank, one.prompt) == ("sam2", prompt)}
            gains = [one.dice[0] - first[one.case] for one in rows]
            before, after = np.mean([one.dice for one in rows], axis=0)
            lines.append(
                f"| {bank} | {prompt} | {before:.3f} | {sum(gain > 0.005 for gain in gains)} of {len(rows)} "
                f"| {sum(gain < -0.005 for gain in gains)} | {after:.3f} "
                f"| {np.mean([one.beyond for one in rows]):.2f} | {np.mean([one.seconds for one in rows]):.1f} |"
            )
    return "\n".join(lines)
