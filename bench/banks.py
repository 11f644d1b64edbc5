"""How well memory policies do beside SAM 2's own, with a network of real weights on the shared cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biosam2.engine.features import FeatureCache
from biosam2.engine.memory import DissimilarityPolicy, MemoryPolicy, PathPolicy, Sam2Policy
from biosam2.evaluation.cases import shared_cases
from biosam2.evaluation.runs import EvaluationSettings, run
from biosam2.evaluation.ways import Kind
from biosam2.models.model import Model

BANKS: dict[str, Callable[[], MemoryPolicy]] = {
    "sam2": Sam2Policy,
    "path": PathPolicy,
    "dissimilar": DissimilarityPolicy,
    "dissimilar, 16": lambda: DissimilarityPolicy(capacity=16),
    # What BioSAM-2's reference does.
    "dissimilar, 16 across images": lambda: DissimilarityPolicy(capacity=16, scope="images"),
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
        seconds: CPU time.
    """

    case: str
    bank: str
    prompt: str
    dice: tuple[float, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def banks(model: Model, folder: Path, most: int | None = None, beyond: int = 12) -> Iterator[BankResult]:
    """Every case with every policy, whole frames, one correction; a policy that goes across images sees them in order.

    Args:
        model: the network.
        folder: that holds the shared cases.
        most: how many cases at most.
        beyond: slices beyond the target's ends that are propagated to.
    """
    policies = {(bank, prompt): make() for bank, make in BANKS.items() for prompt in _PROMPTS}
    for number, case in enumerate(shared_cases(folder)):
        if most is not None and number >= most:
            return
        features = FeatureCache()
        for (bank, prompt), policy in policies.items():
            settings = EvaluationSettings(crop=None, policy=policy, rounds=1, beyond=beyond)
            start = time.process_time()
            found = run(case, model, prompt, settings, features)
            yield BankResult(case.title, bank, prompt, tuple(found.dice(case)), time.process_time() - start)


def table(found: list[BankResult]) -> str:
    """Markdown: the mean Dice of each policy, and on how many cases it is better or worse than SAM 2's by 0.005."""
    lines = ["| policy | prompt | mean Dice | better | worse | after one correction |", "|---|---|---|---|---|---|"]
    for bank in BANKS:
        for prompt in _PROMPTS:
            own = {one.case: one.dice for one in found if (one.bank, one.prompt) == (bank, prompt)}
            first = {one.case: one.dice for one in found if (one.bank, one.prompt) == ("sam2", prompt)}
            gains = [own[case][0] - first[case][0] for case in own]
            means = [sum(dice[n] for dice in own.values()) / len(own) for n in (0, 1)]
            lines.append(
                f"| {bank} | {prompt} | {means[0]:.3f} | {sum(gain > 0.005 for gain in gains)} of {len(own)} "
                f"| {sum(gain < -0.005 for gain in gains)} | {means[1]:.3f} |"
            )
    return "\n".join(lines)
