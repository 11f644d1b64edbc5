"""What a dataset holds, and whether its labels fit its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .case import Case
from .opening import open_case


@dataclass(frozen=True)
class CaseFinding:
    """What one case holds.

    Attributes:
        case: what was opened.
        size: number of voxels along i, j, k.
        spacing: along i, j, k in mm.
        voxels: of each target by name.
        problem: why it cannot be used, or empty; then the rest is not known.
    """

    case: Case
    size: tuple[int, int, int] = (0, 0, 0)
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    voxels: dict[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def empty(self) -> list[str]:
        """Targets that no voxel belongs to."""
        return [name for name, count in self.voxels.items() if count == 0]


def check_case(case: Case) -> CaseFinding:
    """Open a case and say what it holds."""
    try:
        sample = open_case(case)
    except InputError as error:
        return CaseFinding(case, problem=str(error))
    voxels = {name: int(np.count_nonzero(mask)) for name, mask in sample.masks.items()}
    k, j, i = sample.volume.shape
    return CaseFinding(case, (i, j, k), sample.volume.spacing, voxels)


def check_all(cases: Iterable[Case], report: Callable[[CaseFinding], None] | None = None) -> list[CaseFinding]:
    """Open every case.

    Args:
        cases: of a dataset.
        report: is told of each.
    """
    findings = []
    for case in cases:
        findings.append(check_case(case))
        if report is not None:
            report(findings[-1])
    return findings


def refuse_misfits(findings: Sequence[CaseFinding]) -> None:
    """Refuse a dataset with cases that cannot be used.

    Raises:
        InputError: there are some; the message names them.
    """
    bad = [finding for finding in findings if finding.problem]
    if not bad:
        return
    shown = "; ".join(finding.problem for finding in bad[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    raise InputError(f"{len(bad)} of {len(findings)} cases cannot be used: {shown}{more}")


def line(finding: CaseFinding) -> str:
    """A case in one line."""
    case = finding.case
    if finding.problem:
        return f"{case.name}: cannot be used"
    facts = [case.kind, case.modality or "no modality", case.split or "no split"]
    size = "×".join(str(n) for n in finding.size)
    spacing = " × ".join(f"{s:.3g}" for s in finding.spacing)
    targets = ", ".join(f"{name} {f'{count} voxels' if count else 'EMPTY'}" for name, count in finding.voxels.items())
    return f"{case.name}: {', '.join(facts)}, {size} voxels of {spacing} mm; {targets}"


def summary(findings: Sequence[CaseFinding]) -> list[str]:
    """The whole in a few lines: cases, sizes and spacings from least to greatest, targets, empty labels."""
    good = [finding for finding in findings if not finding.problem]
    lines = [f"{len(good)} of {len(findings)} cases can be used"]
    if not good:
        return lines
    for title, values in (
        ("kinds", [f.case.kind for f in good]),
        ("modalities", [f.case.modality or "(none)" for f in good]),
        ("splits", [f.case.split or "(none)" for f in good]),
    ):
        lines.append(f"{title}: " + ", ".join(f"{name} {count}" for name, count in Counter(values).most_common()))
    for title, rows in (("sizes", [f.size for f in good]), ("spacings in mm", [f.spacing for f in good])):
        low, high = np.min(rows, axis=0), np.max(rows, axis=0)
        lines.append(
            f"{title}: " + ", ".join(f"{a} {x:.4g} to {y:.4g}" for a, x, y in zip("ijk", low, high, strict=True))
        )
    targets = Counter(name for f in good for name, count in f.voxels.items() if count)
    names = dict.fromkeys(name for f in good for name in f.voxels)
    lines.append("targets: " + ", ".join(f"{name} in {targets[name]}" for name in names))
    empty = [f"{f.case.name} ({', '.join(f.empty)})" for f in good if f.empty]
    lines.append(f"empty labels: {len(empty)}" + (f": {', '.join(empty)}" if empty else ""))
    return lines
