"""A session on a volume, and the user's hands, without the panel's widgets."""

from __future__ import annotations

from typing import Any

import numpy as np
from BioSAM2SlicerLib.scene.VolumeGeometry import VolumeGeometry
from BioSAM2SlicerLib.session.PanelSession import PanelSession
from engine_process import engines
from host import event_loop


class Desk:
    """A session with segments a and b, whose problems are noted."""

    def __init__(
        self,
        host: Any,
        volume: Any,
        make_driver: Any,
        model_fields: dict[str, str],
        segmentation: Any = None,
        node: Any = None,
    ) -> None:
        self.host = host
        self.volume = volume
        self.node = node or host.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "settings")
        self.editor = host.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.editor.SetOverwriteMode(self.editor.OverwriteNone)
        self.segmentation = segmentation
        if segmentation is None:
            self.segmentation = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "masks")
            self.segmentation.CreateDefaultDisplayNodes()
            for name in ("a", "b"):
                self.segmentation.GetSegmentation().AddEmptySegment(name, name)
        self.problems: list[str] = []
        self.clients: list[Any] = []

        def client() -> Any:
            self.clients.append(make_driver())
            return self.clients[-1]

        self.logic = PanelSession(self.node, self.editor, client, model_fields)
        self.logic.problem.connect(self.problems.append)
        assert self.logic.setInput(self.volume, self.segmentation)

    def settle(self, timeout_s: float = 120) -> None:
        event_loop.wait_until(lambda: not self.logic.busy, timeout_s, "the worker to be done")

    def point(self, segment: str, ijk: tuple[float, float, float], positive: bool = True) -> None:
        """As a click: another part of Slicer adds a control point."""
        node = self.logic.prompts.pointsNode(segment, positive)
        node.AddControlPoint(*VolumeGeometry(self.volume).localFromIjk(ijk))

    def voxels(self, segment: str) -> np.ndarray:
        array = self.host.slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segment, self.volume)
        return np.zeros(VolumeGeometry(self.volume).shape, bool) if array is None else array.astype(bool)

    def engine(self, model_fields: dict[str, str]) -> Any:
        """The same session without the panel, in another process; see `engine_process.Engine`."""
        array = self.host.slicer.util.arrayFromVolume(self.volume)
        settings = self.logic.state.settings
        asked = {name: getattr(settings, name) for name in ("axis", "window", "crop", "policy", "capacity", "merge")}
        return engines().Engine(model_fields, (array, *VolumeGeometry(self.volume).lps()), asked)


def paint(desk: Desk, segment: str, axis: str, index: int, mask: np.ndarray) -> None:
    """As an effect of the Segment Editor does it, and the event loop after it."""
    desk.logic._slices.writeSlice(segment, axis, index, mask)
    event_loop.process_events()
