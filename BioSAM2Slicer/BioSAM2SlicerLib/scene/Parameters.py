"""The panel's settings as a dataclass, and as values of a node so that they are saved with the scene.

Not Slicer's parameterNodeWrapper: its names and forms of values differ from those in scenes that are saved already, it
binds settings to widgets where here a session decides what a change means, and nothing but Slicer itself could test it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

VOLUME_ROLE = "BioSAM2Slicer.volume"
SEGMENTATION_ROLE = "BioSAM2Slicer.segmentation"
NO_BOUND = -1
_PREFIX = "BioSAM2Slicer."
# Of scenes that were saved before there was such a setting: what the panel did then.
_EARLIER = {"untilGone": "false", "policy": "sam2"}
# In which earlier scenes hold a session.
_SESSION_EARLIER = ("axis", "sessionWindow", "journal")
# Of the settings, those that belong to a session; where they are kept with a segmentation that is not open now.
_OF_SESSION = ("policy", "film", "first", "last", "session", "corrected")
_ATTRIBUTE = "BioSAM2Slicer.session"


@dataclass(frozen=True)
class Parameters:
    """What the user chose.

    Attributes:
        model: name of a model in the registry, or path of a checkpoint.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        window: ``view`` (what the slice view shows), ``auto``, or the name of a CT preset.
        film: whether the volume's third axis is time; then a session runs along it.
        crop: whether the network runs on a crop around a small target.
        policy: the memory policy, see `biosam2.Session`.
        direction: in which a propagation goes: ``both``, ``forward`` or ``backward``.
        first, last: slices that bound a propagation, inclusive; `NO_BOUND` for none.
        untilGone: whether a propagation ends where the object does.
        undoStates: how many steps can be undone.
        session: settings and entries of the session, as JSON, see `SceneState`; empty before the first prompt.
        corrected: slices that the user changed and that are no prompts yet, as JSON.
    """

    model: str = "nano"
    device: str = "auto"
    window: str = "view"
    film: bool = False
    crop: bool = True
    policy: str = "path"
    direction: str = "both"
    first: int = NO_BOUND
    last: int = NO_BOUND
    untilGone: bool = True
    undoStates: int = 20
    session: str = ""
    corrected: str = ""


def readParameters(node: Any) -> Parameters:
    """The settings that a node carries; where it carries none, or what cannot be read, the default."""
    texts = {field.name: node.GetParameter(_PREFIX + field.name) for field in fields(Parameters)}
    if node.GetParameter(_PREFIX + "model"):
        texts = {name: text or _EARLIER.get(name) for name, text in texts.items()}
    parameters = _parsed(texts)
    if parameters.session or not node.GetParameter(_PREFIX + "journal"):
        return parameters
    return fromEarlier(parameters, {name: node.GetParameter(_PREFIX + name) for name in _SESSION_EARLIER})


def writeParameters(node: Any, parameters: Parameters) -> None:
    """Put the settings into a node, with one event for all of them and none where nothing changed."""
    wasModifying = node.StartModify()
    for field in fields(Parameters):
        value = getattr(parameters, field.name)
        text = value if isinstance(value, str) else json.dumps(value)
        if node.GetParameter(_PREFIX + field.name) != text:
            node.SetParameter(_PREFIX + field.name, text)
    for name in _SESSION_EARLIER:
        if node.GetParameter(_PREFIX + name):
            node.UnsetParameter(_PREFIX + name)
    node.EndModify(wasModifying)


def keptText(node: Any) -> str:
    """The session that a node holds, as `keepWith` writes it to a segmentation; empty where there is none."""
    parameters = readParameters(node)
    return json.dumps({name: getattr(parameters, name) for name in _OF_SESSION}) if parameters.session else ""


def keepText(segmentationNode: Any, text: str) -> None:
    """Give a segmentation the session that `keptText` told, so that `takeFrom` finds it."""
    if text:
        segmentationNode.SetAttribute(_ATTRIBUTE, text)


def keepWith(node: Any, segmentationNode: Any) -> None:
    """Move the session that a node holds to the segmentation that it is about, so that one can come back to it."""
    parameters = readParameters(node)
    if segmentationNode.GetScene() is not None:
        keepText(segmentationNode, keptText(node))
    defaults = {field.name: field.default for field in fields(Parameters) if field.name in _OF_SESSION}
    writeParameters(node, replace(parameters, **defaults))  # type: ignore[arg-type]


def takeFrom(node: Any, segmentationNode: Any) -> None:
    """Move a session that `keepWith` kept back into the node; where there is none, leave the node as it is.

    Raises:
        ValueError: it is damaged; it is gone then.
    """
    text = segmentationNode.GetAttribute(_ATTRIBUTE)
    if not text:
        return
    segmentationNode.RemoveAttribute(_ATTRIBUTE)
    parameters = readParameters(node)
    try:
        kept = json.loads(text)
        if "journal" in kept:
            kept.setdefault("policy", _EARLIER["policy"])
            parameters = fromEarlier(parameters, kept)
        writeParameters(node, replace(parameters, **{name: kept[name] for name in _OF_SESSION if name in kept}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the session that was kept with the segmentation is damaged: {error}") from error


def fromEarlier(parameters: Parameters, values: Mapping[str, Any]) -> Parameters:
    """The settings with the session of an earlier scene, which holds it in several values.

    Args:
        parameters: the settings.
        values: ``axis``, ``sessionWindow`` and ``journal``, and ``policy`` where it differs from the settings'.
    """
    journal = str(values["journal"])
    try:
        window = values["sessionWindow"]
        record = {
            "axis": values["axis"],
            "window": list(json.loads(window) if isinstance(window, str) else window),
            "crop": "auto" if parameters.crop else None,
            "policy": values.get("policy") or parameters.policy,
            "precision": "float32",
            "journal": [],
            "notes": [],
        }
        for remark in json.loads(journal):
            record["journal"].append(remark.pop("entry"))
            record["notes"].append({"markup": remark.pop("id"), **remark})
    except (ValueError, TypeError, KeyError, AttributeError):
        # Left as it is, so that whoever reads it says that it is damaged.
        return replace(parameters, session=journal)
    return replace(parameters, session=json.dumps(record))


def _parsed(texts: Mapping[str, str | None]) -> Parameters:
    found: dict[str, Any] = {}
    defaults = Parameters()
    for name, text in texts.items():
        if not text:
            continue
        default = getattr(defaults, name)
        try:
            value = text if isinstance(default, str) else json.loads(text)
        except ValueError:
            continue
        if type(value) is type(default):
            found[name] = value
    return replace(defaults, **found)
