"""One stack of undo: prompts, journal and voxels together, and the Segment Editor's edits and undo on the same one."""

from __future__ import annotations

import numpy as np
import pytest
from biosam2 import Point
from BioSAM2SlicerLib.scene.SegmentSlices import SliceChange
from host import event_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from session_desk import paint


class Editor:
    """The Segment Editor's undo: Slicer's own history of states, and effects that save one before they paint."""

    def __init__(self, desk):
        self.desk = desk
        self.history = desk.host.slicer.vtkSegmentationHistory()
        self.history.SetSegmentation(desk.segmentation.GetSegmentation())
        self.history.SetMaximumNumberOfStates(10)

    def paint(self, segment, index, mask):
        self.history.SaveState()
        paint(self.desk, segment, "k", index, mask)

    def undo(self):
        assert self.history.RestorePreviousState()
        event_loop.process_events()
        self.desk.settle()

    def redo(self):
        assert self.history.RestoreNextState()
        event_loop.process_events()
        self.desk.settle()


@pytest.fixture
def editor(desk):
    return Editor(desk)


@pytest.fixture
def blocks():
    left, right = np.zeros((40, 48), bool), np.zeros((40, 48), bool)
    left[3:9, 4:11] = True
    right[25:35, 30:44] = True
    return left, right


def state(desk):
    return (
        {name: desk.voxels(name).tobytes() for name in "ab"},
        desk.logic.prompts.prompts(),
        desk.logic.parameters.session,
        desk.logic.correctedSlices("a"),
    )


def test_a_stroke_of_the_editor_is_a_step(desk, editor, blocks):
    states = [state(desk)]
    editor.paint("a", 3, blocks[0])
    states.append(state(desk))
    desk.point("a", (26, 20, 12))
    desk.settle()
    states.append(state(desk))
    editor.paint("a", 12, blocks[1])
    assert desk.logic.correctedSlices("a") == {12}
    states.append(state(desk))
    for expected in reversed(states[:-1]):
        assert desk.logic.undo()
        desk.settle()
        assert state(desk) == expected
    assert not desk.logic.canUndo
    for expected in states[1:]:
        assert desk.logic.redo()
        desk.settle()
        assert state(desk) == expected


def test_the_editors_undo_and_redo_take_prompts_along(desk, editor, blocks, model_fields):
    """Its states are from before its effects: what the model wrote since goes with them, and so do the prompts."""
    desk.point("a", (26, 20, 12))
    desk.settle()
    before = state(desk)
    editor.paint("a", 12, blocks[0])
    desk.point("b", (10, 10, 5))
    desk.logic.propagate(["a"], first=11, last=14)
    desk.settle()
    after = state(desk)
    editor.undo()
    assert state(desk) == before
    assert not desk.logic.canUndo or [s.stateSaved for s in desk.logic._steps.done] == [False]
    editor.redo()
    assert state(desk) == after
    assert not desk.logic.canRedo
    editor.undo()
    assert state(desk) == before
    # And the worker is where the panel is.
    desk.logic.propagate(["a"], first=11, last=13)
    desk.settle()
    engine = desk.engine(model_fields)
    engine.add_prompt("a", Point((26, 20, 12)))
    list(engine.propagate(["a"], first=11, last=13))
    np.testing.assert_array_equal(desk.voxels("a"), engine.mask("a"))
    assert not desk.problems


def test_two_strokes_are_undone_one_by_one_from_either_side(desk, editor, blocks):
    editor.paint("a", 3, blocks[0])
    one = state(desk)
    editor.paint("b", 3, blocks[1])
    two = state(desk)
    editor.undo()
    assert state(desk) == one
    assert desk.logic.redo()
    assert state(desk) == two
    assert desk.logic.undo()
    assert desk.logic.undo()
    assert not desk.voxels("a").any()
    assert not desk.logic.undo()


def test_erasing_all_that_the_model_drew_is_an_edit_and_no_undo(desk, blocks):
    desk.point("a", (26, 20, 12))
    desk.settle()
    paint(desk, "a", "k", 12, np.zeros((40, 48), bool))
    assert len(desk.logic.prompts.prompts()) == 1
    assert desk.logic.correctedSlices("a") == {12}


def test_an_imported_segment_is_no_edit(desk, blocks):
    """It comes with its voxels; undo does not empty it."""
    other = desk.host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    other.SetReferenceImageGeometryParameterFromVolumeNode(desk.volume)
    other.GetSegmentation().AddEmptySegment("c", "c")
    whole = np.zeros((24, 40, 48), np.uint8)
    whole[5, 10:20, 10:20] = 1
    desk.host.slicer.util.updateSegmentBinaryLabelmapFromArray(whole, other, "c", desk.volume)
    assert desk.segmentation.GetSegmentation().CopySegmentFromSegmentation(other.GetSegmentation(), "c")
    event_loop.process_events()
    paint(desk, "a", "k", 3, blocks[0])
    assert len(desk.logic._steps.done) == 1
    assert desk.logic.undo()
    assert not desk.voxels("a").any()
    np.testing.assert_array_equal(desk.voxels("c"), whole.astype(bool))


def test_as_many_steps_are_kept_as_the_user_wants(desk, blocks):
    desk.logic.setParameters(undoStates=3)
    for index in range(5):
        paint(desk, "a", "k", index, blocks[0])
    assert desk.logic.undoBytes > 0
    assert [desk.logic.undo() for _ in range(4)] == [True, True, True, False]
    assert desk.voxels("a").any(axis=(1, 2)).nonzero()[0].tolist() == [0, 1]
    desk.logic.setParameters(undoStates=1)
    assert not desk.logic.canRedo or len(desk.logic._steps.undone) <= 1


boxes = st.tuples(*[st.integers(0, 5)] * 3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), corner=boxes)
def test_traces_of_changes_cancel_when_the_changes_do(seed, corner):
    random = np.random.default_rng(seed)
    one, two, three = random.random((3, 4, 5, 6)) < 0.5
    extent = tuple(n for c, size in zip(corner, (6, 5, 4), strict=True) for n in (c, c + size - 1))
    forth = SliceChange.of("a", extent, one, two)
    on = SliceChange.of("a", extent, two, three)
    whole = SliceChange.of("a", extent, three, one)
    assert forth.trace ^ on.trace == whole.trace
    assert (forth.trace == 0) == bool((one == two).all())
    np.testing.assert_array_equal(forth.before, one)
    np.testing.assert_array_equal(forth.after, two)
