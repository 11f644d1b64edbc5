"""Sessions of segmentations that are not worked on now: kept with each, so that one can come back to them."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

from .Parameters import Parameters, readParameters, writeParameters

_ATTRIBUTE = "BioSAM2Slicer.session"
# Of the settings, those that belong to a session.
_FIELDS = ("axis", "sessionWindow", "policy", "film", "first", "last", "journal", "corrected")


def putAway(node: Any, segmentationNode: Any) -> None:
    """Move the session that a node holds to the segmentation that it is about."""
    parameters = readParameters(node)
    if parameters.journal and segmentationNode.GetScene() is not None:
        segmentationNode.SetAttribute(_ATTRIBUTE, json.dumps({name: getattr(parameters, name) for name in _FIELDS}))
    defaults = {field.name: field.default for field in fields(Parameters) if field.name in _FIELDS}
    writeParameters(node, replace(parameters, **defaults))  # type: ignore[arg-type]


def takeUp(node: Any, segmentationNode: Any) -> None:
    """Move a session that was put away back into the node; where there is none, leave the node as it is.

    Raises:
        ValueError: it is damaged; it is gone then.
    """
    text = segmentationNode.GetAttribute(_ATTRIBUTE)
    if not text:
        return
    segmentationNode.RemoveAttribute(_ATTRIBUTE)
    try:
        kept = {name: value for name, value in json.loads(text).items() if name in _FIELDS}
        kept["sessionWindow"] = tuple(kept["sessionWindow"])
        kept.setdefault("policy", "sam2")  # as it was before there was a choice
        writeParameters(node, replace(readParameters(node), **kept))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the session that was kept with the segmentation is damaged: {error}") from error
