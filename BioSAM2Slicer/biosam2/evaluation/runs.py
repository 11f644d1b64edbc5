"""What the engine makes of a case: prompted by a simulated user, propagated over the whole volume, corrected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..engine.features import FeatureCache
from ..engine.memory import MemoryPolicy
from ..errors import InputError, PromptError
from ..masks import dice
from ..models import Model
from ..prompts import Prompt
from ..session import Direction, Session
from .cases import TargetCase
from .metrics import iou
from .user import DEFAULT_MARKING, Marking, User
from .ways import OWN_ANSWER, Kind, Pipeline


@dataclass(frozen=True)
class EvaluationSettings:
    """How the engine is run.

    Attributes:
        axis, crop, policy, capacity, merge: see `Session`.
        rounds: of corrections.
        pipeline: how the target is found: ``volume`` from its middle slice both ways; ``video`` from the first frame
            that shows it, forward; ``image`` on each slice that shows it, prompted there and seen without memory.
        beyond: how many slices beyond the target's ends it is propagated, each way; None for the whole volume.
        marking: how the first prompt is made.
        scope: ``images``: the bank of the policy ``dissimilar`` goes on from case to case, in their order, as in
            BioSAM-2's reference; see `DissimilarityPolicy`.
    """

    axis: str = "k"
    crop: Literal["auto"] | None = "auto"
    policy: str | MemoryPolicy | None = "path"
    capacity: int | None = None
    merge: Literal["progressive"] | None = None
    rounds: int = 3
    beyond: int | None = None
    pipeline: Pipeline = "volume"
    marking: Marking = DEFAULT_MARKING
    scope: Literal["segment", "images"] = "segment"

    def __post_init__(self) -> None:
        if self.policy == "dissimilar" or (self.capacity is None and self.scope == "segment"):
            return
        if isinstance(self.policy, MemoryPolicy):
            raise InputError("a memory policy of your own has its capacity and its scope; leave them out here")
        raise InputError(f"only the policy dissimilar has a bank with a capacity and a scope, not {self.policy}")


@dataclass(frozen=True)
class RunResult:
    """One case segmented from one kind of prompt.

    Attributes:
        prompts: what the user said before the first propagation.
        masks: bool (K, J, I), after the first propagation and after each correction; the last one stands for all
            later ones where nothing was left to correct.
        slice_dice: Dice on the prompted slice, with which the first propagation begins.
        seconds: that the propagations took.
        note: why there is no result, or empty.
    """

    prompts: tuple[Prompt, ...]
    masks: tuple[NDArray[np.bool_], ...]
    slice_dice: float
    seconds: float
    note: str = ""

    def dice(self, case: TargetCase) -> list[float]:
        """Dice after the first propagation and after each correction."""
        return [dice(mask, case.mask) for mask in self.masks]

    def iou(self, case: TargetCase) -> list[float]:
        """Intersection over union after the first propagation and after each correction."""
        return [iou(mask, case.mask) for mask in self.masks]


def run(
    case: TargetCase,
    model: Model,
    kind: Kind,
    settings: EvaluationSettings | None = None,
    features: FeatureCache | None = None,
    window: tuple[float, float] | None = None,
) -> RunResult:
    """Prompt a case, segment it as the pipeline does, and correct it `rounds` times.

    A prompt that the engine refuses gives an empty mask, as it does to the user, and so does an empty target.

    Args:
        case: the target.
        model: the network.
        kind: of the first prompt.
        settings: of the engine.
        features: where encoded slices are kept.
        window: (centre, width) in which the volume is shown; None for the engine's own.

    Raises:
        InputError: masks or lassos for the ``image`` pipeline, whose answer would be the prompt itself.
    """
    settings = settings or EvaluationSettings()
    if settings.pipeline == "image" and kind in OWN_ANSWER:
        raise InputError(f"a {kind} is its own answer on a single image; leave it out, or choose another pipeline")
    if not case.mask.any():
        return _nothing(case, settings, "the target is lost at the size to which the protocol resizes slices")
    session = Session(
        model,
        case.volume,
        settings.axis,
        window,
        settings.crop,
        settings.policy,
        features=features,
        capacity=settings.capacity,
        merge=settings.merge,
    )
    if settings.pipeline == "image":
        return _run_slices(session, case, kind, settings)
    slices = session.frames.unstack(case.mask)
    first = int(np.flatnonzero(slices.any(axis=(1, 2)))[0]) if settings.pipeline == "video" else -1
    user = User(session, case.target, case.mask, first, marking=settings.marking)
    try:
        user.start(kind)
    except PromptError as error:
        return _nothing(case, settings, str(error), tuple(user.prompts))
    prompts = tuple(user.prompts)
    started = time.perf_counter()
    masks = list(_rounds(session, user, settings))
    seconds = time.perf_counter() - started
    masks += masks[-1:] * (settings.rounds + 1 - len(masks))
    # A propagation begins with the prompted slice, seen alone. Asking for it before would put it into a memory bank
    # that goes across images twice.
    begun = session.frames.unstack(masks[0])[user.slice_index]
    on_slice = dice(begun, user.slices[user.slice_index])
    return RunResult(prompts, tuple(masks), on_slice, seconds)


def _nothing(case: TargetCase, settings: EvaluationSettings, why: str, prompts: tuple[Prompt, ...] = ()) -> RunResult:
    return RunResult(prompts, (np.zeros_like(case.mask),) * (settings.rounds + 1), 0.0, 0.0, why)


def _rounds(session: Session, user: User, settings: EvaluationSettings) -> Iterator[NDArray[np.bool_]]:
    first, last = user.reach(settings.beyond)
    direction: Direction = "forward" if settings.pipeline == "video" else "both"
    for n in range(settings.rounds + 1):
        if n and not user.correct():
            return
        for _ in session.propagate([user.segment], direction=direction, first=first, last=last):
            pass
        yield session.mask(user.segment)


def _run_slices(session: Session, case: TargetCase, kind: Kind, settings: EvaluationSettings) -> RunResult:
    """The ``image`` pipeline: in each round a correction on each slice that is still wrong.

    The run's prompts are those of the first slice, as the user of one image would count them.
    """
    started = time.perf_counter()
    slices = session.frames.unstack(case.mask)
    shown = np.zeros((settings.rounds + 1, *slices.shape), bool)
    prompts: list[Prompt] = []
    refused = ""
    for index in np.flatnonzero(slices.any(axis=(1, 2))).tolist():
        user = User(session, case.target, case.mask, index, marking=settings.marking)
        try:
            user.start(kind)
        except PromptError as error:
            refused = refused or f"slice {index}: {error}"
            continue
        prompts = prompts or list(user.prompts)
        for n in range(settings.rounds + 1):
            if n:
                user.correct_on(index, shown[n - 1, index])
            shown[n, index] = session.predict(case.target, index)
    masks = tuple(np.ascontiguousarray(session.frames.stack(one)) for one in shown)
    return RunResult(tuple(prompts), masks, dice(masks[0], case.mask), time.perf_counter() - started, refused)
