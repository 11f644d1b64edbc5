"""What Slicer's DICOM database knows of a volume that was loaded from it."""

from __future__ import annotations

from typing import Any

import slicer

_MODALITY = "0008,0060"


def instancesOf(volumeNode: Any) -> list[str]:
    """SOP instance UIDs that a volume was loaded from; empty where it did not come from DICOM."""
    return (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()


def modalityOf(volumeNode: Any) -> str:
    """DICOM code of the modality, such as ``CT``; empty where it is unknown."""
    database, instances = getattr(slicer, "dicomDatabase", None), instancesOf(volumeNode)
    return str(database.instanceValue(instances[0], _MODALITY) or "") if database is not None and instances else ""


def fileOfInstance(instance: str) -> str:
    """Path of an instance's file; empty where the database does not have it."""
    database = getattr(slicer, "dicomDatabase", None)
    return database.fileForInstance(instance) if database is not None else ""
