"""Peak memory of one side against the number of slices, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from biosam2.speed import Speed

from .networks import network_of, reference_of
from .phases import PHASES, noise
from .sides import EngineSide, PredictorSide, Side

_MIB = 2**20
# Encoded slices are kept within a budget that the user sets; this one is full before the smallest volume ends.
_BUDGET = 8 * _MIB


@dataclass(frozen=True)
class Peak:
    """The largest resident set of a first propagation through a volume, in MiB.

    Attributes:
        side: ``sam2``, or which optimisations the engine used.
        slices: of the volume.
        peak: of the whole process.
        volume: the voxels alone.
    """

    side: str
    slices: int
    peak: float
    volume: float


def peaks(name: str, size: int | None, counts: list[int], plane: int, speeds: dict[str, Speed | None]) -> list[Peak]:
    """Peaks of all sides.

    Args:
        name: of the network; see `network_of`.
        size: side of its input; see `network_of`.
        counts: numbers of slices.
        plane: rows and columns of a slice.
        speeds: sides by name; None is `sam2`'s predictor.
    """
    found = []
    for slices in counts:
        for side, speed in speeds.items():
            settings = {"speed": None if speed is None else speed.to_json(), "name": name, "size": size}
            command = [sys.executable, "-m", "bench.peak", json.dumps({**settings, "slices": slices, "plane": plane})]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(Peak(side, slices, float(done.stdout), slices * plane * plane * 2 / _MIB))
    return found


def table(found: list[Peak]) -> str:
    """Markdown: a row for each number of slices, MiB beside the volume's own."""
    sides = list(dict.fromkeys(p.side for p in found))
    lines = [f"| slices | volume | {' | '.join(sides)} |", "|---" * (len(sides) + 2) + "|"]
    for slices in dict.fromkeys(p.slices for p in found):
        here = {p.side: p for p in found if p.slices == slices}
        cells = [f"{here[side].peak - here[side].volume:.0f}" for side in sides]
        lines.append(f"| {slices} | {here[sides[0]].volume:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _peak() -> float:
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / _MIB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


def _main() -> None:
    asked = json.loads(sys.argv[1])
    model = network_of(asked["name"], asked["size"])
    volume = noise(asked["slices"], asked["plane"], asked["plane"])
    side: Side
    if asked["speed"] is None:
        side = PredictorSide(reference_of(model), volume)
    else:
        side = EngineSide(model, volume, Speed.from_json(asked["speed"]), _BUDGET)
    for _ in PHASES["first"].course(side, volume):
        pass
    sys.stdout.write(f"{_peak()}\n")


if __name__ == "__main__":
    _main()
