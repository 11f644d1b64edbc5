"""The panel asks Slicer's scene classes for nothing that Slicer lacks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from host import listings

PANEL = Path(__file__).resolve().parents[2] / "BioSAM2Slicer"
FILES = [
    PANEL / "BioSAM2Slicer.py",
    *sorted((PANEL / "BioSAM2SlicerLib").rglob("*.py")),
    *sorted((PANEL / "BioSAM2SlicerEffect").rglob("*.py")),
]

# From 5.10 on, which is the oldest Slicer that is aimed at; the listings were read off 5.8.
NEWER = {"ModifySegmentByLabelmap", "ModificationModeAdd", "ModificationModeRemove"} | {
    *("SetSegmentEditorNode", "GetSegmentEditorNode"),
}
# VTK's own, and of nodes and logics that the listings leave out (vtkSlicerPlotsLogic).
VTK = {"SetElement", "GetElement", "TransformPoint", "MultiplyPoint", "RotateWXYZ", "Scale", "GetMatrix"} | {
    *("GetTransformToWorld", "GetTransformFromWorld", "GetEventPosition", "SetAbortFlag", "GetCommand"),
    *("AddObserver", "RemoveObserver", "InsertNextValue", "GetPointData", "GetScalars", "GetDimensions", "HasObserver"),
    *("SetOutputWholeExtent", "ShowChartInLayout"),
    *("TransformModifiedEvent", "ImageDataModifiedEvent"),
}


def root(node: ast.expr) -> str:
    """The name that a chain of attributes and calls begins with; what is under ``qt`` the host checks."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.skipif(not listings.FOLDER.is_dir(), reason="needs ../shared/slicer-api")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_name_of_a_scene_class_is_in_slicer(path):
    known = set(NEWER | VTK)
    for name in ("mrml", "application"):
        for entry in listings.listing(name).values():
            known |= set(entry.get("members", []) if isinstance(entry, dict) else entry)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr[0].isupper()
        and root(node) not in ("qt", "ctk", "m", "vtk", "tempfile", "msgspec", "PyTorchUtils", "SampleData")
    }
    assert not sorted({name for name in asked if not name.isupper()} - known - own)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_that_pythonqt_cannot(path):
    text = path.read_text(encoding="utf-8")
    for forbidden in ("qt.Signal", "int(qt.", "import threading", "time.sleep", "exec_("):
        assert forbidden not in text


SPEAKING = {"emit", "remark", "problem", "warn", "notice", "_say", "_refuse", "_fail", "_end", "_onEnded", "_work"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_the_user_reads_can_be_translated(path):
    """A sentence that is said is never bare: it goes through ``_()``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        for argument in call.args if name in SPEAKING else ():
            parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
            literal = [p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)]
            bare += [text for text in literal if any(sign.isalpha() for sign in text) and " " in text.strip()]
    assert not bare
