"""What an evaluation is to measure, and what it measured, as data."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from ..datasets import Case
from ..record import versions
from . import summary
from .protocol import DEFAULT_PROTOCOL, Protocol
from .runs import EvaluationSettings
from .tasks import Metrics, Network
from .ways import Kind, Pipeline

FORMAT = "biosam2-evaluation-1"


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        cases: on what.
        networks: with what.
        ways: pipelines and prompts; of these, what makes sense for a case, and what the protocol has for its kind.
        settings: of the engine.
        protocol: what else is fixed.
        threads: of torch in each process, None to leave it alone.
    """

    cases: tuple[Case, ...]
    networks: tuple[Network, ...]
    ways: tuple[tuple[Pipeline, Kind], ...]
    settings: EvaluationSettings
    protocol: Protocol = DEFAULT_PROTOCOL
    threads: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        plan: what was to be.
        metrics: in the plan's order, whatever order they were measured in.
        failures: cases that could not be measured: case, model, why.
        empty: targets that mark nothing: case, target.
    """

    plan: Plan
    metrics: tuple[Metrics, ...]
    failures: tuple[tuple[str, str, str], ...]
    empty: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON data: settings, versions, every figure, summaries, and what got worse."""
        return {
            "format": FORMAT,
            "models": [asdict(network) for network in self.plan.networks],
            "settings": asdict(self.plan.settings),
            "nsd_tolerance_mm": self.plan.protocol.tolerance,
            "protocol": msgspec.to_builtins(self.plan.protocol),
            "versions": versions(),
            "figures": [one.to_json() for one in self.metrics],
            "summary": [asdict(row) for row in summary.summarise(self.metrics)],
            "remarks": summary.remarks(self.metrics),
            "failures": [dict(zip(("case", "model", "why"), failure, strict=True)) for failure in self.failures],
            "empty": [dict(zip(("case", "target"), one, strict=True)) for one in self.empty],
        }

    def to_csv(self) -> str:
        """A row for each target, way and round."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        facts = ("case", "target", "dataset", "modality", "split", "kind", "model", "pipeline", "prompt")
        values = ("dice", "nsd", "hd95", "iou")
        writer.writerow((*facts, "round", *values, "nsd_tolerance_mm", "clicks_to_90", "seconds", "note"))
        for one in self.metrics:
            own = [getattr(one, name) for name in facts]
            for n in range(len(one.dice)):
                # Six digits: more differ between processors.
                numbers = ["" if (v := getattr(one, name)[n]) is None else f"{v:.6f}" for name in values]
                clicks = "" if one.clicks_to_90 is None else one.clicks_to_90
                writer.writerow((*own, n, *numbers, one.tolerance, clicks, f"{one.seconds:.2f}", one.note))
        return stream.getvalue()
