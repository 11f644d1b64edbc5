"""How nearly the approximate optimisations give what the exact ones give, with `nano` on the shared cases."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from biosam2 import Session
from biosam2.evaluation.cases import TargetCase, shared_cases
from biosam2.evaluation.user import User
from biosam2.masks import dice
from biosam2.models.model import Model
from biosam2.prompts import Prompt
from biosam2.speed import Speed
from numpy.typing import NDArray

# Slices beyond the target that the propagation goes to, so that a long volume does not drown its target in agreement.
_BEYOND = 12


@dataclass(frozen=True)
class Agreement:
    """One case done by one way.

    Attributes:
        case: what was segmented.
        way: which optimisations were used.
        step: ``first`` propagation, or the one after a ``correction``.
        dice: of the result to the exact way's, 0 to 1.
        truth: Dice of the result to the true mask.
        seconds: CPU time of the propagation.
    """

    case: str
    way: str
    step: str
    dice: float
    truth: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def agreement(
    model: Model, folder: Path, ways: Mapping[str, Speed], most: int | None = None, **settings: Any
) -> Iterator[Agreement]:
    """Every case by every way: a box on the middle slice, and then the correction that a user would make.

    The correction that follows is the one that the exact result calls for, whichever way is measured.

    Args:
        model: the network.
        folder: that holds the shared cases.
        ways: by name; the first is the one that others are compared with.
        most: how many cases at most.
        settings: of every session, see `Session`; by default all exact.
    """
    for number, case in enumerate(shared_cases(folder)):
        if most is not None and number >= most:
            return
        yield from _case(model, case, ways, settings)


def _case(model: Model, case: TargetCase, ways: Mapping[str, Speed], settings: dict[str, Any]) -> Iterator[Agreement]:
    expected: dict[str, NDArray[np.bool_]] = {}
    corrections: list[Prompt] | None = None
    for way, speed in ways.items():
        session = Session(model, case.volume, speed=speed, **settings)
        user = User(session, case.target, case.mask)
        user.start("box")
        first, last = user.reach(_BEYOND)
        for step in ("first", "correction"):
            if step == "correction" and corrections is None:
                said = len(user.prompts)
                user.correct()
                corrections = user.prompts[said:]
            elif step == "correction":
                for prompt in corrections or []:
                    session.add_prompt(case.target, prompt)
            start = time.process_time()
            for _ in session.propagate([case.target], first=first, last=last):
                pass
            seconds = time.process_time() - start
            mask = session.mask(case.target)
            exact = expected.setdefault(step, mask)
            yield Agreement(case.title, way, step, dice(mask, exact), dice(mask, case.mask), seconds)


def table(found: list[Agreement]) -> str:
    """Markdown: for each way and step, the mean and the least Dice to the exact result, and the speed."""
    lines = ["| way | step | mean Dice to exact | least | Dice to truth | times as fast |", "|---|---|---|---|---|---|"]
    exact = next(a.way for a in found)
    for way in dict.fromkeys(a.way for a in found):
        for step in ("first", "correction"):
            own = [a for a in found if (a.way, a.step) == (way, step)]
            base = sum(a.seconds for a in found if (a.way, a.step) == (exact, step))
            least = min(own, key=lambda a: a.dice)
            lines.append(
                f"| {way} | {step} | {sum(a.dice for a in own) / len(own):.3f} | {least.dice:.3f} ({least.case}) "
                f"| {sum(a.truth for a in own) / len(own):.3f} | {base / max(1e-9, sum(a.seconds for a in own)):.2f}× |"
            )
    return "\n".join(lines)


def means(found: list[Agreement]) -> dict[str, float]:
    """Mean Dice to the exact result over all cases, by way and step, of every way but the exact one."""
    values: dict[str, list[float]] = {}
    for one in found:
        if one.way != found[0].way:
            values.setdefault(f"{one.way}, {one.step}", []).append(one.dice)
    return {name: sum(own) / len(own) for name, own in values.items()}
