"""A case of a worklist as nodes in the scene, and as files again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import slicer
from biosam2 import Box, Point
from biosam2.datasets.work_table import WorkCase
from biosam2.errors import InputError
from biosam2.frames import CT_PRESETS
from biosam2.io import read_video, read_volume
from biosam2.io.formats import VOLUME, extension
from biosam2.session.entries import Prompted, from_json, to_json
from biosam2.worklist import CaseFiles, Template
from slicer.i18n import tr as _

from .Parameters import keepText, keptText
from .PromptNodes import PlacedPrompt, PromptNodes
from .SequenceVideo import noteVideo
from .Stroke import STROKES, Stroke
from .VolumeGeometry import fillNode

_FORMAT = "biosam2-panel-session-1"


def loadVolume(case: WorkCase, template: Template) -> Any:
    """Put the image of a case into the scene, in the window of the template.

    Files of volumes are read by Slicer; DICOM series, pictures and videos by the engine's readers.

    Raises:
        InputError: the image cannot be read.
        DependencyError: a DICOM file's compression, or a video, needs a package that is not installed.
    """
    if case.image.is_file() and extension(case.image) in VOLUME and case.channel is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", case.name)
        storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(case.image))
        storage.SetCenterImage(0)
        # Else the reader takes files with other numbers in their names for more slices of this one.
        storage.SetSingleFile(1)
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(storage)
            slicer.mrmlScene.RemoveNode(node)
            raise InputError(_("Slicer cannot read {path}").format(path=case.image))
        node.SetAndObserveStorageNodeID(storage.GetID())
    else:
        node = _fromEngine(case)
    node.CreateDefaultDisplayNodes()
    window = CT_PRESETS[template.window] if isinstance(template.window, str) else template.window
    if window is not None and node.IsA("vtkMRMLScalarVolumeNode"):
        display = node.GetScalarVolumeDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(window[1], window[0])
    return node


def loadSegmentation(case: WorkCase, template: Template, volumeNode: Any) -> Any:
    """Put the segmentation of a case into the scene: what was saved, or else the template's segments, empty.

    Raises:
        InputError: what was saved cannot be read.
    """
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", _("{name} segmentation").format(name=case.name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    if case.segmentation.is_file():
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(case.segmentation))
        if not storage.ReadData(node):
            scene.RemoveNode(node)
            raise InputError(_("Slicer cannot read {path}").format(path=case.segmentation))
        return node
    for wanted in template.segments:
        segmentId = node.GetSegmentation().AddEmptySegment("", wanted.name)
        segment = node.GetSegmentation().GetSegment(segmentId)
        segment.SetColor(*wanted.colour)
        if wanted.terminology:
            segment.SetTag(segment.GetTerminologyEntryTagName(), wanted.terminology)
    return node


def saveSession(path: Path, parameterNode: Any, promptNodes: PromptNodes) -> None:
    """Write what is needed to go on with the prompts, in a file of its own."""
    prompts = {name: _plain(placed) for name, placed in promptNodes.prompts().items()}
    content = {"format": _FORMAT, "session": keptText(parameterNode), "prompts": prompts}
    path.write_text(json.dumps(content), encoding="utf-8")


def loadSession(files: CaseFiles, segmentationNode: Any, volumeNode: Any) -> None:
    """Put the prompts of a saved case into the scene, and its session to the segmentation; nothing where none is saved.

    Raises:
        InputError: the file is damaged.
    """
    if not files.session.is_file() or not files.segmentation.is_file():
        return
    try:
        content = json.loads(files.session.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(content["format"])
        wanted = {name: _placed(entry) for name, entry in content["prompts"].items()}
        text = str(content["session"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise InputError(
            _("{path} is damaged: the prompts of this case are not there").format(path=files.session)
        ) from error
    nodes = PromptNodes(segmentationNode, volumeNode)
    nodes.restore(wanted)
    nodes.cleanup()
    keepText(segmentationNode, text)


def _plain(placed: PlacedPrompt) -> dict[str, Any]:
    if isinstance(placed.prompt, Stroke):
        return {"segment": placed.segmentId, "stroke": asdict(placed.prompt)}
    return to_json(Prompted(placed.segmentId, placed.prompt))


def _placed(data: dict[str, Any]) -> PlacedPrompt:
    if "stroke" in data:
        stroke = msgspec.convert(data["stroke"], Stroke)
        if stroke.name not in STROKES:
            raise ValueError(f"{stroke.name} is no stroke")
        return PlacedPrompt(str(data["segment"]), stroke)
    entry = from_json(data)
    if not isinstance(entry, Prompted) or not isinstance(entry.prompt, Point | Box):
        raise ValueError(f"{data} is no point and no box")
    return PlacedPrompt(entry.segment, entry.prompt)


def removeCase(*nodes: Any) -> None:
    """Take the nodes of a case out of the scene, with what was made for them."""
    scene = slicer.mrmlScene
    for node in nodes:
        if node is None or node.GetScene() is None:
            continue
        for number in reversed(range(node.GetNumberOfDisplayNodes())):
            scene.RemoveNode(node.GetNthDisplayNode(number))
        if node.GetStorageNode() is not None:
            scene.RemoveNode(node.GetStorageNode())
        scene.RemoveNode(node)


def _fromEngine(case: WorkCase) -> Any:
    video = case.kind == "video"
    volume = read_video(case.image) if video else read_volume(case.image, case.series or None)
    kind = "vtkMRMLVectorVolumeNode" if volume.is_colour else "vtkMRMLScalarVolumeNode"
    node = slicer.mrmlScene.AddNewNodeByClass(kind, case.name)
    fillNode(node, volume)
    if video:
        noteVideo(node, volume.metadata)
    return node
