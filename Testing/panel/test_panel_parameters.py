"""Settings live in the scene."""

from __future__ import annotations

from BioSAM2SlicerLib.scene.Parameters import Parameters, readParameters, writeParameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

anything = st.builds(
    Parameters,
    model=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1),
    device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    window=st.sampled_from(["view", "auto", "lung"]),
    crop=st.booleans(),
    undoStates=st.integers(1, 100),
    session=st.just('{"axis": "k", "journal": [{"op": "clear", "segment": "a ü"}]}'),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parameters=anything)
def test_settings_come_back_from_a_node(host, parameters):
    node = host.slicer.vtkMRMLScriptedModuleNode()
    writeParameters(node, parameters)
    assert readParameters(node) == parameters


def test_an_empty_or_damaged_node_gives_defaults(host):
    node = host.slicer.vtkMRMLScriptedModuleNode()
    assert readParameters(node) == Parameters()
    node.SetParameter("BioSAM2Slicer.crop", "{")
    node.SetParameter("BioSAM2Slicer.undoStates", '"many"')
    assert readParameters(node) == Parameters()


def test_settings_are_saved_with_the_scene(host, tmp_path):
    node = host.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "panel")
    chosen = Parameters(model="tiny ä", first=3, crop=False, session='["<&\\"\'"]')
    writeParameters(node, chosen)
    path = tmp_path / "scene.mrml"
    assert host.scene.Commit(str(path))
    host.close_scene()
    host.scene.SetURL(str(path))
    assert host.scene.Connect()
    assert readParameters(host.scene.GetFirstNodeByName("panel")) == chosen


def test_a_session_of_before_there_was_a_choice_keeps_its_memory_policy(host):
    node = host.slicer.vtkMRMLScriptedModuleNode()
    assert readParameters(node).policy == "path"
    node.SetParameter("BioSAM2Slicer.model", "nano")
    assert readParameters(node).policy == "sam2"


def test_writing_what_is_there_says_nothing(host):
    node = host.slicer.vtkMRMLScriptedModuleNode()
    writeParameters(node, Parameters(device="cpu"))
    events = []
    node.AddObserver("ModifiedEvent", lambda *_: events.append(1))
    writeParameters(node, Parameters(device="cpu"))
    assert not events
    writeParameters(node, Parameters(device="cuda", crop=False))
    assert len(events) == 1
