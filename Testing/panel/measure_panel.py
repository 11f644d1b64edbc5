"""How smooth the panel is: ``python Testing/panel/measure_panel.py``. The longest work of the thread that draws Slicer.

A volume of 512×512×300 in the tests' host (Slicer's own scene, real Qt, Slicer's way of holding the interpreter lock),
the real worker, a propagation; every turn of the event loop is timed, the goal is 50 ms. Then two large segments at
once on a CT and an MR: the gaps in a timer of 20 ms, the goal is 100 ms. Wall time counts what other programs take from
this thread, CPU time does not. Needs what the tests need: pip install -e '.[test]'.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "BioSAM2Slicer")]
GOAL_MS = 50
GAP_MS = 100
# A CT and an MR, (k, j, i).
LARGE = {"CT, two large segments": (300, 512, 512), "MR, two large segments": (60, 256, 256)}


@dataclass(frozen=True)
class Stretches:
    """Turns of the event loop, milliseconds.

    Attributes:
        turns: how many did anything.
        longest_ms, median_ms, above_goal: of wall time.
        longest_cpu_ms, above_goal_cpu: of this thread's CPU time.
        slices: how many arrived.
        seconds: in what time.
    """

    turns: int
    longest_ms: float
    median_ms: float
    above_goal: int
    longest_cpu_ms: float
    above_goal_cpu: int
    slices: int
    seconds: float


class _Clock:
    """Times the turns of the event loop."""

    def __init__(self) -> None:
        self._wall: list[float] = []
        self._cpu: list[float] = []

    def run(self, until: Any) -> None:
        """Let the loop run until something is so."""
        from host import event_loop

        while not until():
            wall, cpu = time.perf_counter(), time.thread_time()
            event_loop._process(0)
            self._cpu.append(1000 * (time.thread_time() - cpu))
            self._wall.append(1000 * (time.perf_counter() - wall))
            # Between two turns Slicer waits; what it waits for is not its work.
            time.sleep(0.001)

    def stretches(self, slices: int, seconds: float) -> Stretches:
        """What was measured."""
        wall, cpu = np.array(self._wall), np.array(self._cpu)
        worked = wall[cpu > 0.05]
        return Stretches(
            len(worked),
            round(float(wall.max()), 1),
            round(float(np.median(worked)) if len(worked) else 0.0, 2),
            int((wall > GOAL_MS).sum()),
            round(float(cpu.max()), 1),
            int((cpu > GOAL_MS).sum()),
            slices,
            round(seconds, 1),
        )


def ellipsoid(shape: tuple[int, int, int]) -> np.ndarray:
    """A bright ellipsoid in noise, int16 (k, j, i), and most of the volume's slices are in it."""
    k, j, i = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    inside = (k[:, None, None] / 0.9) ** 2 + (j[:, None] / 0.4) ** 2 + (i / 0.4) ** 2 <= 1
    noise = np.random.default_rng(0).integers(80, 120, shape, dtype=np.int16)
    return noise + 300 * inside.astype(np.int16)


def propagation(slices: int) -> dict[str, Stretches]:
    """Box, outline and propagation with the panel open; stretches while slices arrive, and at the end."""
    import host as slicer_host

    host = slicer_host.start()
    from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver
    from BioSAM2SlicerLib.worker.WorkerPlace import PYTHON, WorkerPlace
    from host import event_loop
    from panel_helpers import add_volume
    from test_panel_widget import Panel

    host.show(add_volume(host, ellipsoid((300, 512, 512))))
    panel = Panel(host, lambda: ProcessDriver(WorkerPlace(PYTHON, sys.executable).command()), None)
    try:
        panel.click("box")
        host.views["Red"].drag(panel.world(140, 140, 150), panel.world(370, 370, 150))
        panel.settle()
        panel.find("first").value, panel.find("last").value = 150, 150 + slices - 1
        event_loop.process_events()
        arrived: list[int] = []
        panel.session.maskWritten.connect(lambda _segment, _axis, index, _score: arrived.append(index))
        coming, ending = _Clock(), _Clock()
        started = time.monotonic()
        panel.click("propagate")
        coming.run(lambda: len(arrived) >= slices - 1)
        seconds = time.monotonic() - started
        ending.run(lambda: not panel.session.busy)
        done = time.monotonic()
        # What is painted a moment later.
        ending.run(lambda: time.monotonic() > done + 1)
        return {
            "while slices arrive": coming.stretches(len(arrived), seconds),
            "at the end": ending.stretches(len(arrived), seconds),
        }
    finally:
        panel.close()


@dataclass(frozen=True)
class Gaps:
    """Between the ticks of a timer of 20 ms while a propagation runs, milliseconds.

    Attributes:
        ticks: how many.
        median_ms, p95_ms, longest_ms: of the gaps.
        above_goal: how many were longer than `GAP_MS`.
        slices: masks that arrived.
        seconds: in what time.
    """

    ticks: int
    median_ms: float
    p95_ms: float
    longest_ms: float
    above_goal: int
    slices: int
    seconds: float


def two_segments(volume: np.ndarray, boxes: list[tuple[tuple[int, ...], tuple[int, ...]]], slices: int) -> Gaps:
    """Two large segments carried through some slices at once, in the panel.

    Args:
        volume: int16 (k, j, i).
        boxes: opposite corners (i, j, k) of each segment's box.
        slices: how many to propagate, upwards from the boxes.
    """
    import host as slicer_host

    host = slicer_host.start()
    host.close_scene()
    from BioSAM2SlicerLib.worker.ProcessDriver import ProcessDriver
    from BioSAM2SlicerLib.worker.WorkerPlace import PYTHON, WorkerPlace
    from host import event_loop
    from panel_helpers import add_volume
    from PySide6 import QtCore
    from test_panel_widget import Panel

    host.show(add_volume(host, volume))
    panel = Panel(host, lambda: ProcessDriver(WorkerPlace(PYTHON, sys.executable).command()), None)
    try:
        panel.click("box")
        for number, (low, high) in enumerate(boxes):
            if number:
                added = panel.session.segmentationNode.GetSegmentation().AddEmptySegment()
                panel.widget._editor.setCurrentSegmentID(added)
            host.views["Red"].drag(panel.world(*low), panel.world(*high))
            panel.settle()
        first = boxes[0][0][2]
        panel.find("first").value, panel.find("last").value = first, first + slices - 1
        panel.find("all").checked = True
        ticks: list[float] = []
        arrived: list[int] = []
        panel.session.maskWritten.connect(lambda _segment, _axis, index, _score: arrived.append(index))
        timer = QtCore.QTimer()
        timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
        timer.start(20)
        started = time.monotonic()
        panel.click("propagate")
        event_loop.wait_until(lambda: not panel.session.busy, 600, "the propagation")
        seconds = time.monotonic() - started
        timer.stop()
        gaps = 1000 * np.diff(ticks)
        return Gaps(
            len(ticks),
            round(float(np.median(gaps)), 1),
            round(float(np.percentile(gaps, 95)), 1),
            round(float(gaps.max()), 1),
            int((gaps > GAP_MS).sum()),
            len(arrived),
            round(seconds, 1),
        )
    finally:
        panel.close()


def large(shape: tuple[int, int, int]) -> np.ndarray:
    """Two bright blocks side by side in noise, int16 (k, j, i), each nearly half of every slice."""
    _, rows, columns = shape
    noise = np.random.default_rng(0).integers(80, 120, shape, dtype=np.int16)
    for part in (slice(columns // 16, columns * 7 // 16), slice(columns * 9 // 16, columns * 15 // 16)):
        noise[:, rows // 16 : rows * 15 // 16, part] += 300
    return noise


def large_boxes(shape: tuple[int, int, int], k: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The boxes around those blocks on a slice."""
    _, rows, columns = shape
    top, bottom = rows // 16, rows * 15 // 16 - 1
    return [
        ((columns // 16, top, k), (columns * 7 // 16 - 1, bottom, k)),
        ((columns * 9 // 16, top, k), (columns * 15 // 16 - 1, bottom, k)),
    ]


def writing(slices: int) -> dict[str, float]:
    """How many slices a second a segmentation takes, when masks wait already."""
    import host as slicer_host

    host = slicer_host.start()
    from BioSAM2SlicerLib.scene.SegmentSlices import SegmentSlices
    from panel_helpers import add_volume

    scene = host.scene
    shape = (300, 512, 512)
    volume = add_volume(host, np.zeros(shape, np.int16), name="empty")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("one", "one")
    editor = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    segments = SegmentSlices(node, editor, volume)
    masks = ellipsoid(shape) > 200
    times = []
    for index in range(150, 150 + slices):
        begin = time.thread_time()
        segments.writeSlice(segment, "k", index, masks[index])
        times.append(1000 * (time.thread_time() - begin))
    for one in (volume, node, editor):
        scene.RemoveNode(one)
    return {
        "slices a second (CPU time)": round(1000 * len(times) / sum(times), 1),
        "longest ms (CPU time)": round(max(times), 1),
    }


@click.command(help=__doc__)
@click.option("--slices", type=click.IntRange(2, 149), default=40, show_default=True, help="How many to propagate.")
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here.")
def main(slices: int, out: Path | None) -> None:
    """Measure, and print."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    figures: dict[str, Any] = {"writing": writing(slices)}
    figures |= {name: asdict(stretches) for name, stretches in propagation(slices).items()}
    for name, shape in LARGE.items():
        first = shape[0] // 3
        figures[name] = asdict(two_segments(large(shape), large_boxes(shape, first), min(slices, shape[0] - first)))
    text = json.dumps(figures, indent=1)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
