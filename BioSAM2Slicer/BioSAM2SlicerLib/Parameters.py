"""The panel's settings as a dataclass, and as values of a node so that they are saved with the scene.

Not Slicer's parameterNodeWrapper: its names and forms of values differ from those in scenes that are saved already, it
binds settings to widgets where here a session decides what a change means, and nothing but Slicer itself could test it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

VOLUME_ROLE = "BioSAM2Slicer.volume"
SEGMENTATION_ROLE = "BioSAM2Slicer.segmentation"
NO_BOUND = -1
_PREFIX = "BioSAM2Slicer."
# Of scenes that were saved before there was such a setting: what the panel did then.
_EARLIER = {"untilGone": "false", "policy": "sam2"}


@dataclass(frozen=True)
class Parameters:
    """What the user chose.

    Attributes:
        model: name of a model in the registry, or path of a checkpoint.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        axis: index axis of the session, ``i``, ``j`` or ``k``; empty until the first prompt decides.
        window: ``view`` (what the slice view shows), ``auto``, or the name of a CT preset.
        sessionWindow: (centre, width) that the running session began with; empty before.
        film: whether the volume's third axis is time; then the session goes along it.
        crop: whether the network looks at a crop around a small target.
        policy: which slices the network remembers, see `biosam2.Session`.
        direction: in which a propagation goes: ``both``, ``forward`` or ``backward``.
        first, last: slices that bound a propagation, inclusive; `NO_BOUND` for none.
        untilGone: whether a propagation ends where the object does.
        undoStates: how many steps can be undone.
        journal: what was said and done in the session, as JSON; empty before the first prompt.
        corrected: slices that the user changed and that are no prompts yet, as JSON.
    """

    model: str = "nano"
    device: str = "auto"
    axis: str = ""
    window: str = "view"
    sessionWindow: tuple[float, ...] = ()
    film: bool = False
    crop: bool = True
    policy: str = "path"
    direction: str = "both"
    first: int = NO_BOUND
    last: int = NO_BOUND
    untilGone: bool = True
    undoStates: int = 20
    journal: str = ""
    corrected: str = ""


def readParameters(node: Any) -> Parameters:
    """The settings that a node carries; where it carries none, or what cannot be read, the default."""
    found: dict[str, Any] = {}
    defaults = Parameters()
    used = bool(node.GetParameter(_PREFIX + "model"))
    for field in fields(Parameters):
        text = node.GetParameter(_PREFIX + field.name) or (_EARLIER.get(field.name) if used else None)
        if not text:
            continue
        default = getattr(defaults, field.name)
        try:
            value = text if isinstance(default, str) else json.loads(text)
        except ValueError:
            continue
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple(value)
        if type(value) is type(default):
            found[field.name] = value
    return replace(defaults, **found)


def writeParameters(node: Any, parameters: Parameters) -> None:
    """Put the settings into a node, with one event for all of them and none where nothing changed."""
    wasModifying = node.StartModify()
    for field in fields(Parameters):
        value = getattr(parameters, field.name)
        text = value if isinstance(value, str) else json.dumps(value)
        if node.GetParameter(_PREFIX + field.name) != text:
            node.SetParameter(_PREFIX + field.name, text)
    node.EndModify(wasModifying)
