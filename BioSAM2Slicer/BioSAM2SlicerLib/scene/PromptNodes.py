"""Points, boxes and strokes as markups in the scene: seen on their slice, dragged, deleted, saved with the scene."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import slicer
import vtk
from biosam2 import Box, Point
from biosam2.frames import Frames
from biosam2.prompts import Prompt
from slicer.i18n import tr as _

from ..Signal import Signal
from .PlaceTarget import keptPlaceTarget
from .Stroke import GREEN, KIND, RED, STROKES, YELLOW, Colour, Stroke, addStrokeNode, placesOf, setPlaces
from .VolumeGeometry import VolumeGeometry

_SEGMENTATION_ROLE = "BioSAM2Slicer.segmentation"
_SEGMENT = "BioSAM2Slicer.segment"
_ID = "BioSAM2Slicer.prompt"
_SIGN = "BioSAM2Slicer.sign"
_POSITIVE, _NEGATIVE, _BOX = "positive", "negative", "box"

_Ijk: TypeAlias = tuple[float, float, float]
# Reading a place back from a file rounds it; a prompt that moved less stays as it was, in voxels.
_STILL = 0.01


@dataclass(frozen=True)
class PlacedPrompt:
    """A point, box or stroke of a segment, in voxel indices."""

    segmentId: str
    prompt: Point | Box | Stroke

    def on(self, frames: Frames) -> Prompt:
        """The prompt on slices along an axis.

        Raises:
            PromptError: a stroke is none there, see `Stroke.on`.
        """
        return self.prompt.on(frames) if isinstance(self.prompt, Stroke) else self.prompt

    def sameAs(self, other: PlacedPrompt) -> bool:
        """Whether nothing was moved."""
        (kind, numbers), (otherKind, otherNumbers) = _compared(self.prompt), _compared(other.prompt)
        if self.segmentId != other.segmentId or kind != otherKind or len(numbers) != len(otherNumbers):
            return False
        return bool(np.max(np.abs(np.subtract(numbers, otherNumbers))) < _STILL)


class PromptNodes:
    """The prompts of one segmentation on one volume.

    A segment has one point list for each sign, a region of interest for each box, and a curve or line for each stroke.
    They stand under the volume's transform. Every prompt has an identifier that is saved with it.

    Signals:
        added(id, PlacedPrompt), moved(id, PlacedPrompt now, PlacedPrompt before), removed(id, PlacedPrompt): the user
            did it, by whatever part of Slicer. Nothing is said about what this class was told to do.
        refused(str): a prompt outside the volume was taken away again; the reason.

    Args:
        segmentationNode: what the prompts are for.
        volumeNode: what they stand on.
    """

    def __init__(self, segmentationNode: Any, volumeNode: Any) -> None:
        self.added = Signal()
        self.moved = Signal()
        self.removed = Signal()
        self.refused = Signal()
        self._segmentation = segmentationNode
        self._volume = volumeNode
        self._known: dict[str, PlacedPrompt] = {}
        self._observed: dict[str, tuple[Any, list[int]]] = {}
        self._quiet = 0
        self._dragged = False
        self._number = 0
        self._visible = True
        scene = slicer.mrmlScene
        self._sceneTags = [scene.AddObserver(slicer.vtkMRMLScene.NodeRemovedEvent, self._onNodeRemoved)]
        for node in self._nodes():
            self._observe(node)
        self._known = self._read()

    def cleanup(self) -> None:
        """Observe nothing any more; the markups stay in the scene."""
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []
        for node, tags in self._observed.values():
            for tag in tags:
                node.RemoveObserver(tag)
        self._observed = {}

    def prompts(self) -> dict[str, PlacedPrompt]:
        """All points, boxes and strokes by identifier."""
        return dict(self._known)

    def pointsNode(self, segmentId: str, positive: bool) -> Any:
        """The point list for a segment and sign, made when it is first asked for."""
        kind = _POSITIVE if positive else _NEGATIVE
        for node in self._nodes():
            if node.GetAttribute(_SEGMENT) == segmentId and node.GetAttribute(KIND) == kind:
                return node
        sign = "+" if positive else "−"
        with keptPlaceTarget():
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLMarkupsFiducialNode", f"{self._segmentName(segmentId)} {sign}"
            )
        display = self._prepare(node, segmentId, kind, GREEN if positive else RED)
        display.SetGlyphType(display.Circle2D if positive else display.Cross2D)
        return node

    def addPoint(self, segmentId: str, ijk: tuple[float, float, float], positive: bool = True) -> str:
        """Place a point; its identifier."""
        with self._quietly():
            node = self.pointsNode(segmentId, positive)
            local = VolumeGeometry(self._volume).localFromIjk(ijk)
            number = node.AddControlPoint(vtk.vtkVector3d(*local.tolist()))
            return self._name(node, number)

    def addBox(
        self, segmentId: str, minIjk: tuple[float, float, float], maxIjk: tuple[float, float, float], name: str = ""
    ) -> str:
        """Place a box around these inclusive voxel bounds; its identifier."""
        with self._quietly():
            name = name or self._next()
            with keptPlaceTarget():
                node = slicer.mrmlScene.AddNewNodeByClass(
                    "vtkMRMLMarkupsROINode", f"{self._segmentName(segmentId)} box"
                )
            node.SetAttribute(_ID, name)
            layOut(node, VolumeGeometry(self._volume), minIjk, maxIjk)
            self._prepare(node, segmentId, _BOX, YELLOW)
        return name

    def addStroke(self, segmentId: str, stroke: Stroke, name: str = "") -> str:
        """Show what was drawn; its identifier."""
        markup = stroke.kind.markup
        assert markup is not None
        words = [self._segmentName(segmentId), markup.name]
        if markup.signed:
            words.append("+" if stroke.positive else "−")
        with self._quietly():
            name = name or self._next()
            with keptPlaceTarget():
                node = addStrokeNode(stroke, VolumeGeometry(self._volume), " ".join(words))
            node.SetAttribute(_ID, name)
            node.SetAttribute(_SIGN, _POSITIVE if stroke.positive else _NEGATIVE)
            display = self._prepare(node, segmentId, stroke.name, stroke.colour)
            # A stroke has many vertices: they can be dragged, and do not hide what lies under them.
            display.SetGlyphScale(display.GetGlyphScale() / (4 if stroke.isFree else 2))
        return name

    def remove(self, name: str) -> None:
        """Take a prompt away; one that is gone already is no error."""
        with self._quietly():
            for node in self._nodes():
                if node.GetAttribute(_ID) == name:
                    slicer.mrmlScene.RemoveNode(node)
                    return
                for number in range(_count(node)):
                    if node.GetNthControlPointDescription(number) == name:
                        node.RemoveNthControlPoint(number)
                        return

    def deletePointed(self) -> bool:
        """Delete the prompt under the pointer, as the user; False where there is none."""
        for node in self._nodes():
            display = node.GetDisplayNode()
            if not display.GetVisibility() or not display.HasActiveComponent():
                continue
            if node.GetAttribute(_ID):
                slicer.mrmlScene.RemoveNode(node)
                return True
            number = display.GetActiveComponentIndex()
            if 0 <= number < _count(node) and _placed(node, number):
                node.RemoveNthControlPoint(number)
                return True
        return False

    def removeSegment(self, segmentId: str) -> None:
        """Take away all prompts of a segment, and their nodes."""
        with self._quietly():
            for node in self._nodes():
                if node.GetAttribute(_SEGMENT) == segmentId:
                    slicer.mrmlScene.RemoveNode(node)

    def restore(self, wanted: dict[str, PlacedPrompt]) -> None:
        """Make the markups these, each under its identifier."""
        with self._quietly():
            there = self._read()
            for name, placed in list(there.items()):
                if name not in wanted or not (placed.sameAs(wanted[name]) or self._bend(name, placed, wanted[name])):
                    self.remove(name)
                    del there[name]
            for name, placed in wanted.items():
                if name in there:
                    continue
                if isinstance(placed.prompt, Stroke):
                    self.addStroke(placed.segmentId, placed.prompt, name)
                elif isinstance(placed.prompt, Box):
                    self.addBox(placed.segmentId, placed.prompt.min_ijk, placed.prompt.max_ijk, name)
                else:
                    node = self.pointsNode(placed.segmentId, placed.prompt.positive)
                    local = VolumeGeometry(self._volume).localFromIjk(placed.prompt.ijk)
                    number = node.AddControlPoint(vtk.vtkVector3d(*local.tolist()))
                    node.SetNthControlPointDescription(number, name)

    def setVisible(self, visible: bool) -> None:
        """Show or hide all prompts."""
        self._visible = visible
        for node in self._nodes():
            node.SetDisplayVisibility(visible)

    def followTransform(self) -> None:
        """Stand under the transform that the volume has now."""
        with self._quietly():
            for node in self._nodes():
                node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())

    # -- inside ---------------------------------------------------------------------------------

    def _segmentName(self, segmentId: str) -> str:
        segment = self._segmentation.GetSegmentation().GetSegment(segmentId)
        return segment.GetName() if segment is not None else segmentId

    def _nodes(self) -> list[Any]:
        scene = slicer.mrmlScene
        kind = "vtkMRMLMarkupsNode"
        nodes = [scene.GetNthNodeByClass(number, kind) for number in range(scene.GetNumberOfNodesByClass(kind))]
        own = self._segmentation.GetID()
        return [n for n in nodes if n.GetAttribute(KIND) and n.GetNodeReferenceID(_SEGMENTATION_ROLE) == own]

    def _bend(self, name: str, placed: PlacedPrompt, wanted: PlacedPrompt) -> bool:
        """Give a stroke's markup the places of another one of its kind; False where it is no such stroke.

        A markup that is being dragged cannot be taken away.
        """
        stroke, other = placed.prompt, wanted.prompt
        if not isinstance(stroke, Stroke) or not isinstance(other, Stroke) or placed.segmentId != wanted.segmentId:
            return False
        if (stroke.name, stroke.positive) != (other.name, other.positive):
            return False
        node = next(node for node in self._nodes() if node.GetAttribute(_ID) == name)
        setPlaces(node, VolumeGeometry(self._volume), other.places)
        return True

    def _prepare(self, node: Any, segmentId: str, kind: str, colour: Colour) -> Any:
        """Make a new node one of the prompts'; its display node."""
        node.SetAttribute(_SEGMENT, segmentId)
        node.SetAttribute(KIND, kind)
        node.SetNodeReferenceID(_SEGMENTATION_ROLE, self._segmentation.GetID())
        node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSelectedColor(*colour)
        display.SetColor(*colour)
        # Slicer's own, green, would make a negative point under the pointer look positive.
        display.SetActiveColor(1.0, 1.0, 1.0)
        # Smaller than Slicer's 3 %, so that the mask under a box is seen.
        display.SetInteractionHandleScale(1.5)
        display.SetPointLabelsVisibility(False)
        display.SetPropertiesLabelVisibility(False)
        display.SetFillVisibility(False)
        display.SetVisibility3D(False)
        node.SetDisplayVisibility(self._visible)
        self._observe(node)
        return display

    def _observe(self, node: Any) -> None:
        kinds = slicer.vtkMRMLMarkupsNode
        tags = [
            node.AddObserver(kinds.PointStartInteractionEvent, self._onDragStarted),
            node.AddObserver(kinds.PointEndInteractionEvent, self._onDragEnded),
        ]
        tags += [
            node.AddObserver(event, self._onChanged)
            for event in (kinds.PointPositionDefinedEvent, kinds.PointRemovedEvent, kinds.PointModifiedEvent)
        ]
        self._observed[node.GetID()] = (node, tags)

    def _onDragStarted(self, *_event: Any) -> None:
        self._dragged = True

    def _onDragEnded(self, *_event: Any) -> None:
        self._dragged = False
        self._tell()

    def _onChanged(self, *_event: Any) -> None:
        # While a prompt is dragged the mask waits for the place where it is dropped.
        if not self._dragged:
            self._tell()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, _scene: Any, _event: Any, node: Any) -> None:
        if node.GetID() in self._observed:
            for tag in self._observed.pop(node.GetID())[1]:
                node.RemoveObserver(tag)
            self._tell()

    @contextmanager
    def _quietly(self) -> Any:
        """What happens inside was our own doing."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1
            if not self._quiet:
                self._known = self._read()

    def _tell(self) -> None:
        """Compare the markups with what was there, and say what the user did."""
        if self._quiet:
            return
        self._refuse()
        before, self._known = self._known, self._read()
        now = dict(self._known)
        for name, placed in before.items():
            if name not in now:
                self.removed.emit(name, placed)
        for name, placed in now.items():
            if name not in before:
                self.added.emit(name, placed)
            elif not placed.sameAs(before[name]):
                self.moved.emit(name, placed, before[name])
            else:
                self._known[name] = before[name]

    def _refuse(self) -> None:
        """Take away points outside the volume, and strokes without a vertex; put back what was dragged out of it."""
        geometry = VolumeGeometry(self._volume)
        refused = False
        before = dict(self._known)
        with self._quietly():
            for node in self._nodes():
                if node.GetAttribute(KIND) == _BOX:
                    low, high = bounds(node, geometry)
                    if geometry.contains(low) and geometry.contains(high):
                        continue
                    refused = True
                    last = self._known.get(node.GetAttribute(_ID))
                    if last is None:
                        slicer.mrmlScene.RemoveNode(node)
                    else:
                        layOut(node, geometry, last.prompt.min_ijk, last.prompt.max_ijk)  # type: ignore[union-attr]
                    continue
                if node.GetAttribute(_ID):
                    refused |= self._refuseStroke(node, geometry)
                    continue
                for number in reversed(range(_count(node))):
                    if not _placed(node, number):
                        continue
                    if not geometry.contains(geometry.ijkFromLocal(node.GetNthControlPointPosition(number))):
                        refused = True
                        node.RemoveNthControlPoint(number)
        self._known = before  # what else the user did is still to be told
        if refused:
            self.refused.emit(_("A prompt must lie inside the volume."))

    def _refuseStroke(self, node: Any, geometry: VolumeGeometry) -> bool:
        """Whether a stroke was dragged out of the volume."""
        places = placesOf(node, geometry)
        if not places:
            slicer.mrmlScene.RemoveNode(node)
            return False
        if all(geometry.contains(place) for place in places):
            return False
        last = self._known.get(node.GetAttribute(_ID))
        if last is None or not isinstance(last.prompt, Stroke):
            slicer.mrmlScene.RemoveNode(node)
        else:
            setPlaces(node, geometry, last.prompt.places)
        return True

    def _read(self) -> dict[str, PlacedPrompt]:
        """The markups as they are; points that are new get their identifier."""
        geometry = VolumeGeometry(self._volume)
        found = {}
        for node in self._nodes():
            segmentId = node.GetAttribute(_SEGMENT)
            if node.GetAttribute(KIND) == _BOX:
                low, high = bounds(node, geometry)
                found[node.GetAttribute(_ID)] = PlacedPrompt(segmentId, Box(low, high))
                continue
            if node.GetAttribute(KIND) in STROKES:
                places, positive = placesOf(node, geometry), node.GetAttribute(_SIGN) != _NEGATIVE
                if places:
                    stroke = Stroke(node.GetAttribute(KIND), places, positive)
                    found[node.GetAttribute(_ID)] = PlacedPrompt(segmentId, stroke)
                continue
            for number in range(_count(node)):
                if _placed(node, number):
                    ijk = geometry.ijkFromLocal(node.GetNthControlPointPosition(number))
                    point = Point(tuple(np.round(ijk, 4).tolist()), node.GetAttribute(KIND) == _POSITIVE)
                    found[self._name(node, number)] = PlacedPrompt(segmentId, point)
        names = [int(name[1:]) for name in found if name[1:].isdigit()]
        self._number = max([self._number, *names])
        return found

    def _name(self, node: Any, number: int) -> str:
        name = node.GetNthControlPointDescription(number)
        if not name:
            name = self._next()
            self._quiet += 1  # the description's own event tells nothing
            node.SetNthControlPointDescription(number, name)
            self._quiet -= 1
        return name

    def _next(self) -> str:
        self._number += 1
        return f"p{self._number}"


def layOut(
    node: Any,
    geometry: VolumeGeometry,
    minIjk: tuple[float, float, float],
    maxIjk: tuple[float, float, float],
) -> None:
    """Put a region of interest around inclusive voxel bounds, in the volume's orientation."""
    low, high = np.asarray(minIjk, float), np.asarray(maxIjk, float)
    matrix = vtk.vtkMatrix4x4()
    directions = geometry.ijkToLocal[:3, :3] / geometry.spacing
    centre = geometry.localFromIjk((low + high) / 2)
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, directions[row, column])
        matrix.SetElement(row, 3, centre[row])
    node.SetAndObserveObjectToNodeMatrix(matrix)
    node.SetSize(*((high - low + 1) * geometry.spacing).tolist())


def bounds(node: Any, geometry: VolumeGeometry) -> tuple[_Ijk, _Ijk]:
    """The inclusive voxel bounds that a region of interest encloses: whole voxels, at least one."""
    matrix = node.GetObjectToNodeMatrix()
    half = np.array(node.GetSize()) / 2
    corners = []
    for signs in np.ndindex(2, 2, 2):
        corner = (np.array(signs) * 2 - 1) * half
        corners.append(geometry.ijkFromLocal(matrix.MultiplyPoint([*corner.tolist(), 1.0])[:3]))
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    first, last = np.floor(low + 1 + 1e-3), np.ceil(high - 1 - 1e-3)
    # Thinner than a voxel: the one that its middle lies in.
    middle = np.floor((low + high) / 2 + 0.5)
    thin = last < first
    first, last = np.where(thin, middle, first), np.where(thin, middle, last)
    return tuple(first.tolist()), tuple(last.tolist())


def _compared(prompt: Point | Box | Stroke) -> tuple[object, tuple[float, ...]]:
    """What must be the same of two prompts, and numbers that may differ by rounding."""
    if isinstance(prompt, Stroke):
        return (prompt.name, prompt.positive), tuple(number for place in prompt.places for number in place)
    if isinstance(prompt, Box):
        return Box, (*prompt.min_ijk, *prompt.max_ijk)
    return (Point, prompt.positive), prompt.ijk


def _count(node: Any) -> int:
    return node.GetNumberOfControlPoints() if node.IsA("vtkMRMLMarkupsFiducialNode") else 0


def _placed(node: Any, number: int) -> bool:
    """Whether a point has been placed; the one under the cursor in place mode has not."""
    return node.GetNthControlPointPositionStatus(number) == slicer.vtkMRMLMarkupsNode.PositionDefined
