"""What Slicer's classes offer to Python, as it was read off a running Slicer; and the check of what the panel uses."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "slicer-api"
# Code under test; the host's own code may use all that PySide6 has.
CHECKED_MODULES = ("BioSAM2Slicer", "BioSAM2SlicerLib", "BioSAM2SlicerEffect")
# Virtual functions that PySide6 looks for by itself while panel code connects a signal or fills a table.
_LOOKED_UP_BY_QT = frozenset(
    {
        *("connectNotify", "disconnectNotify"),
        *("initViewItemOption", "rowsInserted", "rowsAboutToBeRemoved", "dataChanged", "selectionChanged"),
        *("currentChanged", "updateGeometries", "visualRegionForSelection", "verticalOffset", "horizontalOffset"),
        *("isIndexHidden", "setSelection", "selectionCommand", "sizeHintForRow", "sizeHintForColumn"),
        *(
            "selectedIndexes",
            "scrollContentsBy",
            "viewportSizeHint",
            "setVisible",
            "viewportEvent",
            "horizontalScrollbarAction",
        ),
        *("verticalScrollbarAction", "horizontalScrollbarValueChanged", "verticalScrollbarValueChanged"),
        *("updateEditorGeometries", "updateEditorData", "visualRect", "itemDelegateForIndex"),
    }
)


@cache
def listing(name: str) -> dict[str, Any]:
    """One listing, ``qt`` for example; empty where the folder is absent."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@cache
def members(class_name: str) -> frozenset[str] | None:
    """Names that Python sees on a Qt, CTK or Slicer widget class; None if the listings do not know it."""
    for name in ("qt", "ctk", "slicer_widgets", "application"):
        entry = listing(name).get(class_name)
        if entry is not None:
            return frozenset(entry["members"]) | frozenset(entry.get("properties", {}))
    return None


@cache
def writable(class_name: str) -> frozenset[str] | None:
    """Properties of a class that Python may assign to; None if the listings do not tell."""
    for name in ("qt", "ctk", "slicer_widgets", "application"):
        entry = listing(name).get(class_name)
        if entry is not None and "properties" in entry:
            return frozenset(prop for prop, kind in entry["properties"].items() if "read only" not in kind)
    return None


def asked_by_the_panel(depth: int) -> bool:
    """Whether the frame that many levels above the caller belongs to code under test."""
    module = sys._getframe(depth + 1).f_globals.get("__name__", "")
    return module.partition(".")[0] in CHECKED_MODULES


class Checked:
    """Base of what the panel is given: a name that Slicer's class lacks is not found, though ours may have it."""

    slicer_name: str

    def __getattribute__(self, name: str) -> Any:
        if asked_by_the_panel(1) and not name.startswith("__") and name not in _LOOKED_UP_BY_QT:
            _check(type(self), name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if asked_by_the_panel(1):
            _check(type(self), name)
            _check_assigned(type(self), name)
        super().__setattr__(name, value)


def _check(kind: type, name: str) -> None:
    """Raise unless Slicer's class has the name, or a Python class of the panel derived from it brings it."""
    for base in kind.__mro__:
        if "slicer_name" in vars(base):
            names = members(vars(base)["slicer_name"])
            if names is not None and name not in names:
                raise AttributeError(f"{vars(base)['slicer_name']} has no {name!r} in Slicer")
            return
        if base.__module__.partition(".")[0] in CHECKED_MODULES:
            # Attributes of its own: a Python subclass in Slicer may have them too.
            return


def _check_assigned(kind: type, name: str) -> None:
    """Raise unless PythonQt lets the name be assigned to: a property, and none that a static method hides."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in CHECKED_MODULES:
            return
        if "slicer_name" in vars(base):
            names = writable(vars(base)["slicer_name"])
            hidden = any(isinstance(vars(under).get(name), staticmethod) for under in base.__mro__)
            if names is not None and (name not in names or hidden):
                raise AttributeError(f"{vars(base)['slicer_name']}.{name} cannot be assigned to in Slicer")
            return
