"""Whatever is done in the panel, in whatever order: it shows what a session shows that is told the same entries."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from BioSAM2SlicerLib.scene.Stroke import Stroke
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from host import event_loop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from panel_helpers import add_volume
from session_desk import Desk, paint

SLICES = 6
NAMES = st.sampled_from(["a", "b"])
INDICES = st.integers(0, SLICES - 1)


def block(top: int) -> np.ndarray:
    mask = np.zeros((40, 48), bool)
    mask[top : top + 14, 18:34] = True
    return mask


class Panels(RuleBasedStateMachine):
    """A desk on a small ball; after each step its voxels are compared with a session's that replays its state.

    Attributes:
        given: host, driver's maker and model, see `Desk`.
    """

    given: tuple[Any, Any, Any]

    @initialize()
    def begin(self) -> None:
        host, make_driver, model_fields = self.given
        host.close_scene()
        k, j, i = np.mgrid[:SLICES, :40, :48]
        ball = ((k - 3) * 4) ** 2 + (j - 20) ** 2 + (i - 26) ** 2 <= 81
        noise = np.random.default_rng(0).normal(100, 10, ball.shape)
        volume = add_volume(host, np.where(ball, 400 + noise, noise).astype(np.int16))
        self.model_fields = model_fields
        self.desk = Desk(host, volume, make_driver, model_fields)
        self.desk.logic.setParameters(window="auto")
        self.click("a", (26, 20, 3), True)

    @rule(name=NAMES, ijk=st.tuples(st.integers(16, 36), st.integers(10, 30), INDICES), positive=st.booleans())
    def click(self, name: str, ijk: tuple[int, int, int], positive: bool) -> None:
        self.desk.point(name, ijk, positive)
        self.compare()

    @rule(name=NAMES, low=INDICES, high=INDICES)
    def box(self, name: str, low: int, high: int) -> None:
        self.desk.logic.addBox(name, (18, 12, min(low, high)), (34, 28, max(low, high)), "k")
        self.compare()

    @rule(
        name=NAMES,
        index=INDICES,
        top=st.integers(2, 24),
        kind=st.sampled_from(["scribble", "lasso", "line"]),
        positive=st.booleans(),
    )
    def draw(self, name: str, index: int, top: int, kind: str, positive: bool) -> None:
        ways = {
            "scribble": [(18, top), (24, top + 3), (30, top)],
            "lasso": [(18, top), (34, top), (30, top + 12), (16, top + 9)],
            "line": [(17, 20), (35, top)],
        }
        places = tuple((float(i), float(j), float(index)) for i, j in ways[kind])
        self.desk.logic.addStroke(name, Stroke(kind, places, positive), "k")
        self.compare()

    @rule(number=st.integers(0, 9), top=st.integers(2, 24))
    def drag(self, number: int, top: int) -> None:
        """A vertex of a stroke is dragged, by whatever part of Slicer."""
        nodes = [node for node in self.desk.logic.prompts._nodes() if node.GetAttribute("BioSAM2Slicer.prompt")]
        nodes = [node for node in nodes if node.GetNumberOfControlPoints() > 1]
        if nodes:
            node, geometry = nodes[number % len(nodes)], VolumeGeometry(self.desk.volume)
            place = geometry.ijkFromLocal(node.GetNthControlPointPosition(1))
            node.SetNthControlPointPosition(1, geometry.localFromIjk((place[0], top, place[2])))
        self.compare()

    @rule(number=st.integers(0, 9))
    def delete(self, number: int) -> None:
        """A markup is deleted, by whatever part of Slicer."""
        names = sorted(self.desk.logic.prompts.prompts())
        if names:
            name = names[number % len(names)]
            for node in self.desk.logic.prompts._nodes():
                if node.GetAttribute("BioSAM2Slicer.prompt") == name:
                    self.desk.host.scene.RemoveNode(node)
                    break
                if node.IsA("vtkMRMLMarkupsFiducialNode"):
                    for n in range(node.GetNumberOfControlPoints()):
                        if node.GetNthControlPointDescription(n) == name:
                            node.RemoveNthControlPoint(n)
                            break
        self.compare()

    @rule(name=NAMES, index=INDICES, top=st.integers(5, 20), empty=st.booleans())
    def paint(self, name: str, index: int, top: int, empty: bool) -> None:
        paint(self.desk, name, "k", index, block(top) & (not empty))
        self.compare()

    @rule(name=NAMES, index=INDICES)
    def take_mask(self, name: str, index: int) -> None:
        self.desk.logic.addMask(name, index)
        self.compare()

    @rule(name=NAMES)
    def start(self, name: str) -> None:
        self.desk.logic.startFrom(name)
        self.compare()

    @rule(name=NAMES, index=INDICES, locked=st.booleans())
    def lock(self, name: str, index: int, locked: bool) -> None:
        self.desk.logic.lock(name, index, locked)
        self.compare()

    @rule(name=NAMES)
    def clear(self, name: str) -> None:
        self.desk.logic.clear(name)
        self.compare()

    @rule(
        names=st.none() | st.sampled_from([["a"], ["b"]]),
        direction=st.sampled_from(["both", "forward", "backward"]),
        low=INDICES,
        high=INDICES,
        until_gone=st.booleans(),
        stop=st.none() | st.integers(0, 4),
    )
    def propagate(
        self, names: list[str] | None, direction: str, low: int, high: int, until_gone: bool, stop: int | None
    ) -> None:
        arrived = itertools.count()
        self.seen = 0

        def count(*_what: object) -> None:
            self.seen = next(arrived) + 1

        logic = self.desk.logic
        logic._propagation.arrived.connect(count)
        logic.propagate(names, direction, min(low, high), max(low, high), until_gone)
        if stop is not None:
            event_loop.wait_until(lambda: self.seen >= stop or not logic.running)
            logic.stop()
        self.compare()
        logic._propagation.arrived.disconnect(count)

    @rule(times=st.integers(1, 4))
    def undo(self, times: int) -> None:
        for _ in range(times):
            self.desk.logic.undo()
        self.compare()

    @rule(times=st.integers(1, 4))
    def redo(self, times: int) -> None:
        for _ in range(times):
            self.desk.logic.redo()
        self.compare()

    @rule()
    def renew(self) -> None:
        """The same voxels come anew: the worker has nothing of the session any more."""
        slicer, volume = self.desk.host.slicer, self.desk.volume
        slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume).copy())
        event_loop.process_events()
        self.compare()

    @rule()
    def reopen(self) -> None:
        """Another segmentation, and back: the session comes out of its text."""
        logic, volume, segmentation = self.desk.logic, self.desk.volume, self.desk.segmentation
        logic.setInput(None, None)
        assert logic.setInput(volume, segmentation)
        self.compare()

    def compare(self) -> None:
        """What is not the user's own paint is what the session says."""
        desk = self.desk
        desk.settle()
        state = desk.logic.state
        if state is None or not state.in_force:
            return
        engine = desk.engine(self.model_fields)
        for each in state.in_force:
            engine.replay(each.entry)
        for name in state.segments:
            voxels, shown = desk.voxels(name), engine.mask(name)
            prompted = state.prompted_slices(name)
            for index in range(SLICES):
                if desk.logic._results.isUsers(name, index):
                    continue
                expected = engine.predict(name, index) if index in prompted else shown[index]
                np.testing.assert_array_equal(voxels[index], expected, f"{name} {index}")

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.desk.logic.cleanup()


@pytest.mark.parametrize("examples", [6, pytest.param(200, marks=pytest.mark.soak)])
def test_the_panel_shows_what_its_session_says(host, make_driver, model_fields, examples):
    class Machine(Panels):
        given = (host, make_driver, model_fields)

    limits = settings(
        max_examples=examples,
        stateful_step_count=16,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=limits)
