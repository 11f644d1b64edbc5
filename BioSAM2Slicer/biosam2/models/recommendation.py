"""Which model to use for a modality on a device, by what the registry says of each. Works without torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..errors import InputError, ModelError
from .registry import ModelEntry, list_models

_DEVICE = re.compile(r"(cpu|gpu|mps|cuda(:\d+)?)")
# What people and datasets write, and DICOM's own code.
_CODES = {
    "MRI": "MR",
    "PET": "PT",
    "CBCT": "CT",
    "ULTRASOUND": "US",
    "ENDOSCOPY": "ES",
}


@dataclass(frozen=True)
class Recommendation:
    """A model for a situation.

    Attributes:
        entry: the model.
        modality: DICOM code that was asked for; empty where none was.
        here: whether its checkpoint need not be downloaded.
        reason: why this one, in a few words.
    """

    entry: ModelEntry
    modality: str
    here: bool
    reason: str

    @property
    def summary(self) -> str:
        """Name, size and conditions on one line: ``medsam2, 156 MB, CC-BY-SA-4.0``; a model that is here, its name."""
        if self.here:
            return self.entry.name
        size = f"{self.entry.size / 1e6:.0f} MB" if self.entry.size else ""
        return ", ".join(part for part in (self.entry.name, size, self.entry.conditions) if part)


def recommend(
    modality: str,
    device: str,
    network_available: bool,
    *,
    target: str = "",
    models: Sequence[ModelEntry] | None = None,
    here: Collection[str] | None = None,
) -> Recommendation:
    """The model to begin with.

    Of the models that run on the device and are here or can be fetched: one made for the target on this modality, then
    general ones, then one for trying out. Of general ones: one trained on the modality (on most, where it is unknown),
    then one that is tied to none, then one trained on others. Among those one that is here comes first, then the
    smaller. Earlier versions are never recommended, nor the user's own models, of which the registry does not know
    what they were trained on.

    Args:
        modality: DICOM's code (``CT``, ``MR``, ``US`` …) or a common name such as ``MRI``; empty if unknown.
        device: ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``gpu`` for any that is none of the first.
        network_available: whether a model may be downloaded.
        target: what is to be outlined, in words, such as ``liver lesion``.
        models: those to choose among; by default all of the registry.
        here: names of those that need no download; by default those whose file is on this computer.

    Raises:
        InputError: no such device.
        ModelError: no model fits.
    """
    if not _DEVICE.fullmatch(device):
        raise InputError(f"there is no device {device!r}; use cpu, gpu, cuda, cuda:N or mps")
    code = modality_code(modality)
    entries = list_models() if models is None else models
    local = {entry.name for entry in entries if entry.present} if here is None else set(here)
    fitting = [
        entry
        for entry in entries
        if entry.source != "user"
        and entry.purpose != "archive"
        and (entry.purpose != "task" or _made_for(entry, code, target))
        and (device != "cpu" or not entry.needs_gpu)
        and (network_available or entry.name in local)
    ]
    if not fitting:
        raise ModelError(f"no model of the registry fits {code or 'these images'} on this device without a download")

    def order(entry: ModelEntry) -> tuple[bool, bool, int, bool, float]:
        return (
            entry.purpose != "task",
            entry.purpose == "trial",
            _distance(entry, code),
            entry.name not in local,
            entry.size or float("inf"),
        )

    best = min(fitting, key=order)
    return Recommendation(best, code, best.name in local, _reason(best, code))


def recommendation_line(modality: str, *, target: str = "", models: Sequence[ModelEntry] | None = None) -> str:
    """What to use on a GPU, on a CPU and without a network, on one line.

    Example:
        >>> recommendation_line("MR")
        'for MR on a GPU: medsam2, 156 MB, CC-BY-SA-4.0, …; without a network or on a CPU: nano'
    """
    gpu = recommend(modality, "gpu", True, target=target, models=models)
    gpu_alone = recommend(modality, "gpu", False, target=target, models=models)
    cpu = recommend(modality, "cpu", True, target=target, models=models)
    cpu_alone = recommend(modality, "cpu", False, target=target, models=models)
    situations = [("on a GPU", gpu)]
    if gpu_alone != gpu:
        situations.append(("without a network", gpu_alone))
    if cpu_alone not in (cpu, situations[-1][1]):
        situations.append(("on a CPU without a network", cpu_alone))
    situations.append(("on a CPU", cpu))
    where: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for situation, one in situations:
        where.setdefault(one.entry.name, []).append(situation)
        shown[one.entry.name] = one.summary
    clauses = [f"{' or '.join(these)}: {shown[name]}" for name, these in where.items()]
    about = " ".join(part for part in (gpu.modality, target) if part)
    return f"for {about or 'any image'} {'; '.join(clauses)}"


def modality_code(modality: str) -> str:
    """DICOM's code of a modality that is given by it or by a common name; empty for an empty one."""
    code = modality.strip().upper()
    return _CODES.get(code, code)


def _distance(entry: ModelEntry, code: str) -> int:
    """How far what a model was trained on is from a modality; the least is best."""
    if not code:
        return -len(entry.modalities)
    return 0 if code in entry.modalities else 2 if entry.modalities else 1


def _made_for(entry: ModelEntry, code: str, target: str) -> bool:
    words = set(_words(target))
    return code in entry.modalities and any(set(_words(known)) <= words for known in entry.targets)


def _words(text: str) -> list[str]:
    """Words in lower case, an English plural as its singular."""
    return [word.removesuffix("s") for word in re.findall(r"[a-z]+", text.lower())]


def _reason(entry: ModelEntry, code: str) -> str:
    if entry.purpose == "task":
        return "made for this"
    if code in entry.modalities:
        return f"trained on {code}"
    return "for trying out" if entry.purpose == "trial" else "general"
