"""Sequences of Slicer as videos: the frames that a sequence browser plays are the slices of one volume.

A sequence browser shows one frame at a time in a *proxy* node. A session needs all frames on one grid, so they are put
into a volume of their own, frame n on slice k = n, which lies where the first frame lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import slicer
from biosam2.errors import InputError
from biosam2.io.times import metadata_of_index
from biosam2.volume import Volume
from numpy.typing import NDArray
from slicer.i18n import tr as _

from .VolumeGeometry import VIDEO_ATTRIBUTE, VolumeGeometry, fillNode, volumeOf

_BROWSER_ROLE = "BioSAM2Slicer.sequenceBrowser"
_SEQUENCE_ROLE = "BioSAM2Slicer.sequence"
_SAME_PLACE = 1e-3  # mm


def noteVideo(volumeNode: Any, metadata: Mapping[str, Any], sliceIndex: int = 0) -> None:
    """Note that the slices k of a volume node are the frames of a video; it is saved with the scene.

    Args:
        volumeNode: the frames.
        metadata: of the video's `biosam2.Volume`, of which the times and the size of pixels are kept.
        sliceIndex: which slice k of each frame of a sequence they are.
    """
    kept = {key: np.asarray(metadata[key]).tolist() for key in ("frame_times", "fps", "calibrated") if key in metadata}
    known = {"slice": sliceIndex, "frames": numberOfFrames(volumeNode), "metadata": kept}
    volumeNode.SetAttribute(VIDEO_ATTRIBUTE, json.dumps(known))


def sequenceOf(volumeNode: Any) -> tuple[Any, Any] | None:
    """The browser and the sequence of which a volume node shows a frame; None where it shows none of several."""
    logic = slicer.modules.sequences.logic()
    browser = logic.GetFirstBrowserNodeForProxyNode(volumeNode) if volumeNode is not None else None
    if browser is None or browser.GetNumberOfItems() < 2:
        return None
    return browser, browser.GetSequenceNode(volumeNode)


def browserOf(videoNode: Any) -> Any:
    """The sequence browser whose frames a volume holds; None for other volumes, and where it is gone."""
    return videoNode.GetNodeReference(_BROWSER_ROLE) if videoNode is not None else None


def frameNodeOf(videoNode: Any) -> Any:
    """The node in which the browser shows one frame of a video at a time; None where it is gone."""
    browser, sequence = browserOf(videoNode), videoNode.GetNodeReference(_SEQUENCE_ROLE)
    return browser.GetProxyNode(sequence) if browser is not None and sequence is not None else None


def firstFrameOf(videoNode: Any) -> Any:
    """The data node of a video's first frame, in the sequence; None where it is gone."""
    sequence = videoNode.GetNodeReference(_SEQUENCE_ROLE)
    return sequence.GetNthDataNode(0) if sequence is not None else None


def numberOfFrames(videoNode: Any) -> int:
    """Of a video."""
    return VolumeGeometry(videoNode).count("k")


def sliceOfFrames(videoNode: Any) -> int:
    """Which slice k of each frame a video holds."""
    return int(json.loads(videoNode.GetAttribute(VIDEO_ATTRIBUTE))["slice"])


def videoOf(volumeNode: Any) -> Volume:
    """The voxels of a volume node, with what is known of a video's frames."""
    known = volumeNode.GetAttribute(VIDEO_ATTRIBUTE)
    return replace(volumeOf(volumeNode), metadata=json.loads(known)["metadata"] if known else {})


def openVideo(frameNode: Any, sliceIndex: int = 0) -> Any:
    """Put the frames of a sequence into a volume node of their own; one that is there already is taken.

    Args:
        frameNode: a scalar or vector volume in which a browser shows a frame.
        sliceIndex: which slice k of each frame.

    Returns:
        The volume node: frames along k, in the browser's order, under the frame's transform.

    Raises:
        InputError: it is no frame of a sequence, or frames are missing, differ in size, or lie at several places.
    """
    found = sequenceOf(frameNode)
    if found is None:
        raise InputError(_("this volume is no frame of a sequence"))
    browser, sequence = found
    metadata = metadata_of_index(indexValues(browser), browser.GetMasterSequenceNode().GetIndexUnit())
    there = _opened(
        browser, sequence, {"slice": sliceIndex, "frames": browser.GetNumberOfItems(), "metadata": metadata}
    )
    if there is not None:
        return there
    frames = _frames(browser, sequence)
    spacing, origin, direction = VolumeGeometry(frames[0]).lps()
    array = np.stack([_pixels(frame, sliceIndex) for frame in frames])
    video = Volume(array, spacing, origin, np.array(direction))
    lies = video.lps_from_ijk(np.array([[0.0, 0.0, sliceIndex]]))[0]
    kind = "vtkMRMLVectorVolumeNode" if video.is_colour else "vtkMRMLScalarVolumeNode"
    node = slicer.mrmlScene.AddNewNodeByClass(kind, _("{sequence} video").format(sequence=sequence.GetName()))
    fillNode(node, replace(video, origin=tuple(lies.tolist())))
    noteVideo(node, metadata, sliceIndex)
    node.SetNodeReferenceID(_BROWSER_ROLE, browser.GetID())
    node.SetNodeReferenceID(_SEQUENCE_ROLE, sequence.GetID())
    node.SetAndObserveTransformNodeID(frameNode.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    shown, display = frameNode.GetDisplayNode(), node.GetDisplayNode()
    if shown is not None and shown.IsA("vtkMRMLScalarVolumeDisplayNode") and shown.GetWindow() > 0:
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
    return node


def _opened(browser: Any, sequence: Any, known: dict[str, Any]) -> Any:
    """The volume that was made of these frames before; None if there is none."""
    nodes = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    same = [n for n in nodes if browserOf(n) is browser and n.GetNodeReference(_SEQUENCE_ROLE) is sequence]
    return next((node for node in same if json.loads(node.GetAttribute(VIDEO_ATTRIBUTE)) == known), None)


def indexValues(browser: Any) -> list[str]:
    """The index value of each item of a browser."""
    master = browser.GetMasterSequenceNode()
    return [master.GetNthIndexValue(n) for n in range(browser.GetNumberOfItems())]


def _frames(browser: Any, sequence: Any) -> list[Any]:
    """The data node of each item, checked.

    Raises:
        InputError: one is missing or of another size, or lies elsewhere.
    """
    frames = [sequence.GetDataNodeAtValue(value, False) for value in indexValues(browser)]
    for number, frame in enumerate(frames):
        if frame is None or frame.GetImageData() is None:
            raise InputError(_("frame {n} of this sequence has no image").format(n=number))
        first, image = frames[0].GetImageData(), frame.GetImageData()
        if (image.GetDimensions(), image.GetNumberOfScalarComponents()) != (
            first.GetDimensions(),
            first.GetNumberOfScalarComponents(),
        ):
            raise InputError(_("frame {n} of this sequence has another size than the first").format(n=number))
        if not np.allclose(VolumeGeometry(frame).ijkToLocal, VolumeGeometry(frames[0]).ijkToLocal, atol=_SAME_PLACE):
            raise InputError(_("frame {n} of this sequence lies elsewhere than the first").format(n=number))
    return frames


def _pixels(frame: Any, sliceIndex: int) -> NDArray[Any]:
    """A slice k of a frame, (J, I) or (J, I, 3): of four components the last is no colour."""
    array = slicer.util.arrayFromVolume(frame)
    if not 0 <= sliceIndex < len(array):
        raise InputError(_("the frames have no slice {k}").format(k=sliceIndex))
    pixels = array[sliceIndex]
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[-1] not in (3, 4):
        raise InputError(_("the frames have {n} components; grey ones and RGB can be used").format(n=pixels.shape[-1]))
    return pixels[..., :3]
