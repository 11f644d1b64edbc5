"""One case and one model: everything that is measured of them, in whatever process it happens to run."""

from __future__ import annotations

import functools
import io
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import datasets
from ..engine.features import FeatureCache
from ..engine.memory import DissimilarityPolicy
from ..errors import BioSAM2Error
from ..frames import resolve_window
from ..masks import dice
from ..models import Model, load_model
from ..volume import Volume
from .cases import TargetCase, targets_of
from .metrics import iou, surface_agreement
from .preprocessing import (
    ResizeRule,
    labelled_slices,
    largest_piece,
    resized_mask,
    resized_volume,
    restored,
    window_of,
    without_small,
)
from .protocol import DEFAULT_PROTOCOL, Protocol
from .runs import EvaluationSettings, RunResult, run
from .ways import OWN_ANSWER, Kind, Pipeline

ENOUGH = 0.9
"""The Dice at which clicks are counted."""


@dataclass(frozen=True)
class Network:
    """A model as a process is told of it.

    Attributes:
        label: how results call it.
        name: a registry's name or a checkpoint's path.
        config: of a checkpoint.
        device: where it runs.
        sha256: of its weights.
    """

    label: str
    name: str
    config: str | None
    device: str
    sha256: str


@dataclass(frozen=True)
class Task:
    """What is to be measured.

    Attributes:
        case: on what.
        network: with what.
        ways: pipelines and prompts.
        settings: of the engine; the pipeline is that of the way.
        protocol: what else is fixed, the tolerance of the normalised surface Dice among it.
        threads: of torch, None to leave it alone.
    """

    case: datasets.Case
    network: Network
    ways: tuple[tuple[Pipeline, Kind], ...]
    settings: EvaluationSettings
    protocol: Protocol = DEFAULT_PROTOCOL
    threads: int | None = None


@dataclass(frozen=True)
class Metrics:
    """One target, segmented by one model in one way. Lists have an entry after the first result and each correction.

    Attributes:
        case, target, modality, split, kind, dataset: what was measured on; see `datasets.Case`.
        model, pipeline, prompt: what was measured.
        dice, iou, nsd: 0 to 1.
        hd95: in mm, None where one of the masks is empty.
        clicks_to_90: prompts until a Dice of 0.9, None where it is not reached.
        seconds: that it took.
        note: why there is no result, or empty.
        picture: name of the picture of the first result, or empty.
        tolerance: of `nsd`, in mm.
    """

    case: str
    target: str
    modality: str
    split: str
    kind: str
    model: str
    pipeline: Pipeline
    prompt: Kind
    dice: tuple[float, ...]
    iou: tuple[float, ...]
    nsd: tuple[float, ...]
    hd95: tuple[float | None, ...]
    clicks_to_90: int | None
    seconds: float
    note: str = ""
    picture: str = ""
    dataset: str = ""
    tolerance: float = 2.0

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: it.
        metrics: of each target and way; targets that mark nothing are left out.
        pictures: PNG files by name.
        failure: why there are no metrics, or empty.
        details: the traceback, where the failure is an internal error.
    """

    task: Task
    metrics: tuple[Metrics, ...] = ()
    pictures: dict[str, bytes] = field(default_factory=dict)
    failure: str = ""
    details: str = ""


Banks: TypeAlias = dict[tuple[str, Pipeline, Kind], DissimilarityPolicy]
"""Memory banks that go from case to case, by model, pipeline and prompt."""


def evaluate(task: Task, banks: Banks | None = None) -> Outcome:
    """Do a task; whatever goes wrong with it is in the outcome, so that other cases go on.

    Args:
        task: it.
        banks: for settings whose scope is ``images``: what earlier tasks left, which this one adds to.
    """
    try:
        return _evaluate(task, {} if banks is None else banks)
    except BioSAM2Error as error:
        return Outcome(task, failure=str(error))
    except Exception as error:  # noqa: BLE001 - one case's fault, of whatever kind, must not end the other cases
        return Outcome(task, failure=f"{type(error).__name__}: {error}", details=traceback.format_exc())


def can_do(case: datasets.Case, pipeline: Pipeline, prompt: Kind) -> bool:
    """Whether a pipeline and a prompt make sense for a case: one image has no sequence and no use for a mask.

    Args:
        case: of a dataset.
        pipeline: ``volume``, ``image`` or ``video``.
        prompt: what the simulated user begins with.
    """
    return (case.kind != "2D" or pipeline == "image") and not (pipeline == "image" and prompt in OWN_ANSWER)


def _evaluate(task: Task, banks: Banks) -> Outcome:
    model = _model(task.network.name, task.network.config, task.network.device)
    if task.threads is not None:
        import torch

        torch.set_num_threads(task.threads)
    sample = datasets.open_case(task.case)
    prepared: dict[tuple[float, float] | None, PreparedCase] = {}
    metrics, pictures = [], {}
    for number, case in enumerate(targets_of(sample)):
        mask = without_small(case.mask, task.protocol.least_area, task.protocol.least_volume)
        if not mask.any():
            continue
        case = replace(case, mask=mask)
        window = window_of(task.protocol.window_rule(task.case.kind), case.volume, task.case.modality, case.target)
        if window not in prepared:
            prepared.clear()  # one at a time is what memory is planned for
            prepared[window] = PreparedCase(case.volume, window, task.protocol.resize, model.config.image_size)
        shown = prepared[window]
        for pipeline, prompt in task.ways:
            settings = replace(task.settings, pipeline=pipeline, marking=task.protocol.marking)
            if settings.scope == "images":
                bank = DissimilarityPolicy(capacity=settings.capacity, scope="images")
                bank = banks.setdefault((task.network.label, pipeline, prompt), bank)
                settings = replace(settings, policy=bank, capacity=None, scope="segment")
            seen = shown.case(case)
            found = run(seen, model, prompt, settings, shown.features, shown.window)
            name = f"{number}-{pipeline}-{prompt}"
            masks = [shown.restore(one) for one in found.masks]
            if task.protocol.largest_piece:
                masks = [largest_piece(one) for one in masks]
            measured = _measured(task, case, pipeline, prompt, found, masks)
            pictures[name] = picture(seen, found, task.settings.axis)
            metrics.append(replace(measured, picture=name))
    return Outcome(task, tuple(metrics), pictures)


class PreparedCase:
    """A volume as the protocol shows it to the network, and what was encoded of it.

    Args:
        volume: as it lies in the file.
        window: (centre, width); None for the engine's own.
        rule: by which its slices are resized.
        size: of the network's input, in pixels.
    """

    def __init__(self, volume: Volume, window: tuple[float, float] | None, rule: ResizeRule, size: int) -> None:
        self.features = FeatureCache()
        self._shape = volume.shape
        self._size, self._rule = size, rule
        self.window, self._volume = window, volume
        if rule != "engine":
            self._volume = resized_volume(volume, resolve_window(window, volume), rule, size)
            self.window = (127.5, 255.0)

    def case(self, case: TargetCase) -> TargetCase:
        """A target of the volume, as it is shown."""
        if self._rule == "engine":
            return case
        return replace(case, volume=self._volume, mask=resized_mask(case.mask, self._size))

    def restore(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A result on the volume's own voxels."""
        return mask if self._rule == "engine" else restored(mask, self._shape)


@functools.lru_cache(maxsize=2)
def _model(name: str, config: str | None, device: str) -> Model:
    return load_model(name, device, config=config)


def _measured(
    task: Task, case: TargetCase, pipeline: Pipeline, prompt: Kind, found: RunResult, masks: Sequence[NDArray[np.bool_]]
) -> Metrics:
    surface = task.protocol.surface(task.case.dataset, case.target)
    tolerance = task.protocol.tolerance if surface.others is None else surface.others
    truth = case.mask
    if surface.labelled_slices:
        within = labelled_slices(truth)
        truth, masks = truth[within], [mask[within] for mask in masks]
    agreements = [dice(mask, truth) for mask in masks]
    surfaces = [surface_agreement(mask, truth, case.volume.spacing, tolerance) for mask in masks]
    enough = [value >= surface.least_dice for value in agreements]
    reached = next((n for n, value in enumerate(agreements) if value >= ENOUGH), None)
    return Metrics(
        case=case.name,
        target=case.target,
        modality=task.case.modality,
        split=task.case.split,
        kind=task.case.kind,
        model=task.network.label,
        pipeline=pipeline,
        prompt=prompt,
        dice=tuple(agreements),
        iou=tuple(iou(mask, truth) for mask in masks),
        nsd=tuple(nsd if counts else 0.0 for (nsd, _), counts in zip(surfaces, enough, strict=True)),
        hd95=tuple(hd95 for _, hd95 in surfaces),
        clicks_to_90=None if reached is None else len(found.prompts) + reached,
        seconds=found.seconds,
        note=found.note,
        dataset=task.case.dataset,
        tolerance=tolerance,
    )


class _Compared:
    """The truth and what was found, as segments to draw."""

    segments = ("truth", "found")

    def __init__(self, case: TargetCase, mask: NDArray[np.bool_]) -> None:
        self.volume = case.volume
        self._masks = {"truth": case.mask, "found": mask}

    def mask(self, name: str) -> NDArray[np.bool_]:
        return self._masks[name]

    def labelmap(self) -> NDArray[Any]:
        return self._masks["truth"] + 2 * self._masks["found"].astype(np.uint8)


def picture(case: TargetCase, found: RunResult, axis: str) -> bytes:
    """A PNG of the slice that the first prompt is on and of those that are most wrong, truth and result outlined.

    Args:
        case: with the true mask.
        found: what the run gave.
        axis: that slices run along.

    Returns:
        The content of a PNG file.
    """
    from ..frames import Frames
    from ..render import montage

    frames = Frames(case.volume, axis, None, 0)
    drawn = montage(
        _Compared(case, found.masks[0]), frames, [("truth", p) for p in found.prompts], anatomical=False, tiles=3
    )
    stream = io.BytesIO()
    drawn.quantize(64).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
