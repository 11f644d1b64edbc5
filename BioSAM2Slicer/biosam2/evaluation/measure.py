"""Every case, prompt and method in turn, as records that can be stored and put into tables."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ..engine.features import FeatureCache
from ..errors import InputError
from ..frames import Frames
from ..masks import dice
from ..models import Model
from ..prompts import Prompt
from ..session.entries import prompt_to_json
from . import classical
from .cases import TargetCase
from .ceiling import ceiling
from .metrics import iou
from .runs import EvaluationSettings, run
from .ways import STANDARD, Kind

# Names of the engine's methods in records and tables.
CROP, EXACT = "crop", "exact"
_CROPS: tuple[Literal["auto"], None] = ("auto", None)


@dataclass(frozen=True)
class Record:
    """How one method did on one case from one kind of prompt.

    Attributes:
        case: name of the volume.
        target: name of the target.
        prompt: kind of the prompt.
        method: ``crop`` or ``exact`` (the engine's), or a classical tool's name.
        dice: after the first propagation and after each correction; one number for a classical tool.
        iou: likewise.
        slice_dice: on the prompted slice, with which the first propagation begins; None for a classical tool.
        seconds: that it took.
        note: why there is no result, or empty.
        key: hash of all that a classical tool's result depends on, empty for the engine's methods.
    """

    case: str
    target: str
    prompt: Kind
    method: str
    dice: tuple[float, ...]
    iou: tuple[float, ...]
    slice_dice: float | None
    seconds: float
    note: str = ""
    key: str = ""


@dataclass(frozen=True)
class Ceiling:
    """The best Dice that the network's resolution allows on a case, in crops and in whole frames."""

    case: str
    target: str
    crop: float
    exact: float


@dataclass(frozen=True)
class Results:
    """All that was measured of one model."""

    records: tuple[Record, ...]
    ceilings: tuple[Ceiling, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: bytes, source: Path) -> Results:
        """What `to_json` gave; whatever else the text holds is passed over.

        Args:
            text: JSON.
            source: where it comes from, for the message.

        Raises:
            InputError: it is something else.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{source} does not hold figures of this command ({error}); name another file") from error


def measure(
    cases: Iterable[TargetCase],
    model: Model,
    kinds: Sequence[Kind] = STANDARD,
    methods: Sequence[str] = (CROP, EXACT, *classical.TOOLS),
    settings: EvaluationSettings | None = None,
    report: Callable[[str], None] | None = None,
    known: Results | None = None,
) -> Results:
    """Measure a model, and classical tools with the same prompts, on some cases.

    Args:
        cases: on what.
        model: the network.
        kinds: of the prompts.
        methods: some of ``crop``, ``exact`` and `classical.TOOLS`. Clicks that a classical tool is given are those
            that the user gave the engine first asked, as its results call for them.
        settings: of the engine; the crop is the method's, and corrections are made with ``crop`` only.
        report: is told what was found, line by line.
        known: earlier results; what a classical tool made of the same image and prompts is taken from them, for it
            does not depend on the model.
    """
    settings = settings or EvaluationSettings()
    earlier = {record.key: record for record in known.records if record.key} if known else {}
    records: list[Record] = []
    ceilings: list[Ceiling] = []
    for case in cases:
        crop_ceiling, exact_ceiling = (ceiling(case, model.image_size, settings.axis, crop) for crop in _CROPS)
        ceilings.append(Ceiling(case.name, case.target, crop_ceiling, exact_ceiling))
        features = FeatureCache()
        for kind in kinds:
            found = list(_measure_prompt(case, model, kind, methods, settings, features, earlier))
            records += found
            if report is not None:
                text = ", ".join(f"{r.method} {' '.join(f'{d:.3f}' for d in r.dice)}" for r in found)
                report(f"{case.title}, {kind}: {text}")
    return Results(tuple(records), tuple(ceilings))


def _measure_prompt(
    case: TargetCase,
    model: Model,
    kind: Kind,
    methods: Sequence[str],
    settings: EvaluationSettings,
    features: FeatureCache,
    earlier: Mapping[str, Record],
) -> Iterable[Record]:
    prompts: tuple[Prompt, ...] = ()
    for method in methods:
        if method in classical.TOOLS:
            continue
        own = (
            replace(settings, crop="auto")
            if method == CROP
            else replace(settings, crop=None, policy="sam2", merge=None, rounds=0)
        )
        found = run(case, model, kind, own, features)
        prompts = prompts or found.prompts
        yield Record(
            case.name,
            case.target,
            kind,
            method,
            tuple(found.dice(case)),
            tuple(found.iou(case)),
            found.slice_dice,
            found.seconds,
            found.note,
        )
    tools = {name: tool for name, tool in classical.TOOLS.items() if name in methods}
    about = _about(case, prompts, settings.axis) if tools else ""
    for name, tool in tools.items():
        key = hashlib.sha256(f"{name} {about}".encode()).hexdigest()
        if key in earlier:
            yield replace(earlier[key], case=case.name, target=case.target, prompt=kind)
            continue
        started = time.perf_counter()
        mask = classical.segment(tool, Frames(case.volume, settings.axis, None, model.image_size), prompts)
        seconds = time.perf_counter() - started
        agreement = (dice(mask, case.mask),), (iou(mask, case.mask),)
        yield Record(case.name, case.target, kind, name, *agreement, None, seconds, key=key)


def _about(case: TargetCase, prompts: Sequence[Prompt], axis: str) -> str:
    """Hash of the image, the truth, the prompts, and the tools' own code."""
    digest = hashlib.sha256(Path(classical.__file__).read_bytes())
    digest.update(json.dumps([axis, case.volume.spacing, [prompt_to_json(p) for p in prompts]]).encode())
    for array in (case.volume.array, case.mask):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
