"""Prompts that are drawn by dragging, in voxel indices, and the markups that show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import slicer
from biosam2.frames import Frames
from biosam2.prompts import BY_NAME, IJK, Box, Point, Prompt, PromptKind
from numpy.typing import ArrayLike

from .VolumeGeometry import VolumeGeometry

STROKES: Mapping[str, type[PromptKind]] = {
    name: kind for name, kind in BY_NAME.items() if kind.markup is not None and kind not in (Point, Box)
}
"""The kinds of prompts that are drawn, by their names."""


KIND = "BioSAM2Slicer.kind"
"""Attribute of a markup that is a prompt: of which kind."""
Colour: TypeAlias = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""
GREEN: Colour = (0.2, 0.9, 0.2)
RED: Colour = (1.0, 0.25, 0.2)
YELLOW: Colour = (1.0, 0.85, 0.2)


@dataclass(frozen=True)
class Stroke:
    """What was drawn. On which slice it lies depends on the session's axis.

    Args:
        name: of its kind, see `STROKES`.
        places: its vertices, voxel indices; may be fractional.
        positive: whether what it marks belongs to the segment.
    """

    name: str
    places: tuple[IJK, ...]
    positive: bool = True

    @property
    def colour(self) -> Colour:
        """In which it is shown: by its sign, where its kind has signs."""
        markup = self.kind.markup
        assert markup is not None
        return YELLOW if not markup.signed else GREEN if self.positive else RED

    @property
    def isFree(self) -> bool:
        """Whether it goes as the hand went, and not straight from one end to the other."""
        markup = self.kind.markup
        return markup is not None and markup.places is None

    @property
    def kind(self) -> type[PromptKind]:
        """The engine's class of it."""
        return STROKES[self.name]

    def on(self, frames: Frames) -> Prompt:
        """The prompt that it is on slices along an axis.

        Raises:
            PromptError: it is none: it leaves its slice, or has too few vertices.
        """
        return self.kind.from_places(self.places, frames, self.positive)  # type: ignore[return-value]


def addStrokeNode(stroke: Stroke, geometry: VolumeGeometry, name: str) -> Any:
    """Put a stroke into the scene as a markup; the node, which has no display yet."""
    markup = stroke.kind.markup
    assert markup is not None
    node = slicer.mrmlScene.AddNewNodeByClass(markup.node, name)
    if node.IsA("vtkMRMLMarkupsCurveNode"):
        # What is seen is what the model is told: straight from vertex to vertex, as the pointer went.
        node.SetCurveTypeToLinear()
    setPlaces(node, geometry, stroke.places)
    return node


def setPlaces(node: Any, geometry: VolumeGeometry, places: ArrayLike) -> None:
    """Give a stroke's markup these vertices, voxel indices, in place of its own."""
    local = geometry.localFromIjk(np.asarray(places, float).reshape(-1, 3))
    slicer.util.updateMarkupsControlPointsFromArray(node, local)


def placesOf(node: Any, geometry: VolumeGeometry) -> tuple[IJK, ...]:
    """The vertices of a stroke's markup, voxel indices."""
    numbers = range(node.GetNumberOfControlPoints())
    isPlaced = [node.GetNthControlPointPositionStatus(number) == node.PositionDefined for number in numbers]
    local = slicer.util.arrayFromMarkupsControlPoints(node).reshape(-1, 3)[isPlaced]
    return tuple((i, j, k) for i, j, k in np.round(geometry.ijkFromLocal(local), 4).tolist())


def pointedRuler(volumeNode: Any) -> Stroke | None:
    """The line under the pointer that was measured with Slicer's Markups module; None where there is none."""
    scene, kind, geometry = slicer.mrmlScene, "vtkMRMLMarkupsLineNode", VolumeGeometry(volumeNode)
    for number in range(scene.GetNumberOfNodesByClass(kind)):
        node = scene.GetNthNodeByClass(number, kind)
        display = node.GetDisplayNode()
        if node.GetAttribute(KIND) or display is None or not display.HasActiveComponent():
            continue
        ends = []
        for end in range(node.GetNumberOfControlPoints()):
            i, j, k = geometry.ijkFromWorld(node.GetNthControlPointPositionWorld(end)).tolist()
            ends.append((i, j, k))
        return Stroke("line", tuple(ends))
    return None
