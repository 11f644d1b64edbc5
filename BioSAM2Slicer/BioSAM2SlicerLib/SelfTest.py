"""What can be checked inside Slicer without a network, a model or the user's data."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import slicer
import vtk

from .PromptNodes import PromptNodes
from .SegmentSlices import SegmentSlices, fitSegmentationToVolume

_SHAPE = (6, 8, 10)


class SelfTest:
    """Checks slices and prompts on a small tilted volume in an empty scene.

    Example:
        >>> for line in SelfTest().run():
        ...     print(line)
    """

    def run(self) -> Iterator[str]:
        """Do all checks; one line on each.

        Raises:
            AssertionError: something is not as it should be.
        """
        volume = self._volume()
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        segmentation.CreateDefaultDisplayNodes()
        assert fitSegmentationToVolume(segmentation, volume)
        segmentation.GetSegmentation().AddEmptySegment("one", "one")
        editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self._slices(SegmentSlices(segmentation, editor, volume), segmentation, volume)
        yield "Slices of segments are written where they belong."
        self._prompts(segmentation, volume)
        yield "Prompts are kept as markups."
        missing = [name for name in ("msgspec", "torch", "sam2") if importlib.util.find_spec(name) is None]
        yield f"The engine is not installed here ({', '.join(missing)})." if missing else "The engine is installed."

    def _volume(self) -> object:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        slicer.util.updateVolumeFromArray(node, np.zeros(_SHAPE, np.int16))
        turn = vtk.vtkTransform()
        turn.RotateWXYZ(20, 1, 2, 3)
        turn.Scale(0.8, 1.1, -2.5)
        node.SetIJKToRASMatrix(turn.GetMatrix())
        return node

    def _slices(self, slices: SegmentSlices, segmentation: object, volume: object) -> None:
        expected = np.zeros(_SHAPE, bool)
        expected[2, 3:6, 1:7] = True
        slices.writeSlice("one", "k", 2, expected[2])
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "one", volume)
        assert np.array_equal(found.astype(bool), expected), "a slice was written in another place"
        changes = slices.writeSlice("one", "k", 2, np.zeros_like(expected[2]))
        assert not slices.usedSlices("one", "k"), "an emptied slice is not empty"
        slices.restore(changes[0])
        assert np.array_equal(slices.readSlice("one", "k", 2), expected[2]), "a slice was not restored"

    def _prompts(self, segmentation: object, volume: object) -> None:
        prompts = PromptNodes(segmentation, volume)
        try:
            point = prompts.addPoint("one", (3.0, 4.0, 2.0))
            box = prompts.addBox("one", (1, 3, 2), (6, 5, 2))
            placed = prompts.prompts()
            assert np.allclose(placed[point].prompt.ijk, (3, 4, 2), atol=1e-3), "a point is in another place"
            assert placed[box].prompt.max_ijk == (6, 5, 2), "a box is in another place"
        finally:
            prompts.removeSegment("one")
            prompts.cleanup()
