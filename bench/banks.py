"""How well memory policies do beside SAM 2's own, with a network of real weights on labelled cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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

from .policies import Anchors, Neighbours, TwoPass

BANKS: dict[str, Callable[[Model], MemoryPolicy]] = {
    "sam2": lambda model: Sam2Policy(),
    "path": lambda model: PathPolicy(),
    "nearest": lambda model: NearestPolicy(),
    "quality": lambda model: QualityGatePolicy(),
    "dissimilar": lambda model: DissimilarityPolicy(),
    "dissimilar, 16": lambda model: DissimilarityPolicy(capacity=16),
    # What BioSAM-2's reference does.
    "dissimilar, 16 across images": lambda model: DissimilarityPolicy(capacity=16, scope="images"),
    "neighbours": lambda model: Neighbours(),
    "twopass": lambda model: TwoPass(),
    "anchors": Anchors,
}
PROMPTS: tuple[Kind, ...] = ("click1", "box", "mask")
"""On the middle slice."""


@dataclass(frozen=True)
class BankResult:
    """One case done with one policy.

    Attributes:
        case: what was segmented.
        bank: the policy, a key of `BANKS`.
        prompt: on the middle slice.
        dice: to the true mask after one propagation both ways, and after each correction.
        beyond: voxels on slices without the target, as a part of the target's, after each of them.
        seconds: CPU time.
    """

    case: str
    bank: str
    prompt: str
    dice: tuple[float, ...]
    beyond: tuple[float, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def banks(
    model: Model,
    cases: Iterable[TargetCase],
    crop: Literal["auto"] | None = None,
    beyond: int = 12,
    names: Sequence[str] = tuple(BANKS),
    prompts: Sequence[Kind] = PROMPTS[:2],
    corrections: int = 1,
) -> Iterator[BankResult]:
    """Every case with every policy, and corrections; a policy that goes across images sees them in order.

    Args:
        model: the network.
        cases: on what.
        crop: see `Session`.
        beyond: slices beyond the target's ends that are propagated to.
        names: of policies, some of `BANKS`.
        prompts: on the middle slice, each by itself.
        corrections: by a click on the slice that is most wrong, each followed by a propagation.
    """
    policies = {(bank, prompt): BANKS[bank](model) for bank in names for prompt in prompts}
    try:
        for case in cases:
            features = FeatureCache()
            for (bank, prompt), policy in policies.items():
                start = time.process_time()
                session = Session(model, case.volume, crop=crop, policy=policy, features=features)
                user = User(session, case.target, case.mask)
                user.start(prompt)
                present = user.slices.any(axis=(1, 2))
                first, last = user.reach(beyond)
                agreements, outside = [], []
                for done in range(corrections + 1):
                    if not done or user.correct():
                        _propagate(session, case.target, policy, first, last)
                    mask = session.frames.unstack(session.mask(case.target))
                    agreements.append(dice(mask, user.slices))
                    outside.append(float(mask[~present].sum() / case.mask.sum()))
                yield BankResult(
                    case.title, bank, prompt, tuple(agreements), tuple(outside), time.process_time() - start
                )
    finally:
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


def table(found: Sequence[BankResult]) -> str:
    """Markdown: the mean Dice of each policy after each correction, and how often it is better or worse by 0.005.

    Better and worse count cases, first and after the last correction, against the first policy of the results.
    """
    banks_, prompts = list(dict.fromkeys(one.bank for one in found)), dict.fromkeys(one.prompt for one in found)
    rounds = range(1, len(found[0].dice))
    lines = [
        f"| prompt | policy | first |{''.join(f' {n} |' for n in rounds)} better | worse | beyond the ends | seconds |",
        f"|---|---|---|{'---|' * len(rounds)}---|---|---|---|",
    ]
    for prompt in prompts:
        reference = {one.case: one.dice for one in found if (one.bank, one.prompt) == (banks_[0], prompt)}
        for bank in banks_:
            rows = [one for one in found if (one.bank, one.prompt) == (bank, prompt)]
            means = np.mean([one.dice for one in rows], axis=0)
            gains = np.array([np.subtract(one.dice, reference[one.case]) for one in rows])[:, [0, -1]]
            beyond = np.mean([one.beyond for one in rows], axis=0)
            lines.append(
                f"| {prompt} | {bank} |{''.join(f' {value:.3f} |' for value in means)} "
                f"{_ends((gains > 0.005).sum(axis=0))} | {_ends((gains < -0.005).sum(axis=0))} of {len(rows)} "
                f"| {beyond[0]:.2f} → {beyond[-1]:.2f} | {np.mean([one.seconds for one in rows]):.1f} |"
            )
    return "\n".join(lines)


def _ends(counts: Any) -> str:
    """First and last count."""
    return f"{counts[0]} → {counts[-1]}"
