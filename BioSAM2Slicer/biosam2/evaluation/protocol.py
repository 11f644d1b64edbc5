"""Protocols: what an evaluation fixes besides models and cases, as published ones do; see `protocols.json`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from ..datasets.case import CaseKind
from ..errors import InputError
from .preprocessing import ResizeRule, WindowRule
from .user import DEFAULT_MARKING, Marking
from .ways import Kind, Pipeline

MetricName: TypeAlias = Literal["dice", "nsd", "hd95", "iou"]


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a dataset's surfaces are compared.

    Attributes:
        source: where that is published.
        targets: tolerance of the normalised surface Dice in mm (of pictures: pixels) by target.
        others: of targets that are not named; None for the protocol's own.
        labelled_slices: targets that are compared only within the slices that show them.
        least_dice: the surface Dice counts as 0 where Dice is below.
    """

    source: str
    targets: dict[str, float] = {}
    others: float | None = None
    labelled_slices: tuple[str, ...] = ()
    least_dice: float = 0.0


class Protocol(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an evaluation fixes.

    Attributes:
        name: as users type it; empty for none in particular.
        title: in words.
        sources: what was read to write it down.
        open: what the sources do not say, and what is done instead.
        ways: pipelines and prompts by kind of case; none to leave them to the user.
        marking: how prompts are simulated.
        windows: rule by kind of case.
        resize: rule by which slices become the network's input.
        least_area, least_volume: pixels and voxels of a target's pieces; smaller ones are left out.
        largest_piece: whether only the largest piece of a result counts.
        tolerance: of the normalised surface Dice in mm, where `tolerances` does not say another.
        tolerances: by dataset.
        metrics: that are reported, the first one first.
    """

    name: str = ""
    title: str = ""
    sources: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    ways: dict[CaseKind, tuple[tuple[Pipeline, Kind], ...]] = {}
    marking: Marking = DEFAULT_MARKING
    windows: dict[CaseKind, WindowRule] = {}
    resize: ResizeRule = "engine"
    least_area: int = 0
    least_volume: int = 0
    largest_piece: bool = False
    tolerance: float = 2.0
    tolerances: dict[str, Tolerance] = {}
    metrics: tuple[MetricName, ...] = ("dice", "nsd", "hd95", "iou")

    def window_rule(self, kind: CaseKind) -> WindowRule:
        """The rule for cases of a kind."""
        return self.windows.get(kind, "engine")

    def surface(self, dataset: str, target: str) -> Tolerance:
        """How a target of a dataset is compared; its own tolerance is `others` of the result.

        Args:
            dataset: its name, empty for one that is not published.
            target: its name.
        """
        known = self.tolerances.get(dataset, Tolerance(""))
        own = known.targets.get(target, self.tolerance if known.others is None else known.others)
        return Tolerance(
            known.source,
            {},
            own,
            (target,) if target in known.labelled_slices else (),
            known.least_dice,
        )


DEFAULT_PROTOCOL = Protocol()
"""What holds where no protocol is named."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tolerances: dict[str, Tolerance]
    protocols: dict[str, Protocol]


PROTOCOLS = ("biosam2", "medsam2", "radioactive")


def get_protocol(name: str) -> Protocol:
    """A published protocol.

    Args:
        name: one of `PROTOCOLS`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise InputError(f"there is no protocol {name!r}; use {', '.join(PROTOCOLS)}")
    file = _read()
    return msgspec.structs.replace(file.protocols[name], name=name, tolerances=file.tolerances)


@cache
def _read() -> _File:
    return msgspec.json.decode((Path(__file__).parent / "protocols.json").read_bytes(), type=_File)
