"""Segments in 3D while slices are written: Slicer would make the surface anew for each of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
import slicer

# The surface is made at most this often.
_INTERVAL_MS = 1000
# What it may cost while masks arrive; beyond that it waits until they have.
_SMOOTH_S = 0.05
# Voxels of labelmaps whose surface, never made before, is assumed to cost no more.
_SMALL = 2_000_000


class SurfaceThrottle:
    """Takes the closed surface away before a slice is written, and makes it again once for many slices.

    Args:
        busy: whether masks are arriving.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._segmentation: Any = None
        self._owed = False
        self._cost: float | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._onTime)

    @property
    def owed(self) -> bool:
        """Whether the surface is to be made again."""
        return self._owed

    def open(self, segmentationNode: Any) -> None:
        """Watch over this segmentation."""
        self.close()
        self._segmentation = segmentationNode
        self._cost = None

    def close(self) -> None:
        """Give the segmentation back as it was."""
        if self._owed and self._segmentation.GetScene() is not None:
            self._make()
        self._timer.stop()
        self._owed = False
        self._segmentation = None

    def beforeWrite(self) -> None:
        """A slice is about to be written."""
        name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        if self._segmentation.GetSegmentation().ContainsRepresentation(name):
            self._segmentation.RemoveClosedSurfaceRepresentation()
            self._owed = True
            self._timer.start()

    # -- inside ---------------------------------------------------------------------------------

    def _onTime(self) -> None:
        if self._owed and not (self._busy() and self._expected() > _SMOOTH_S):
            self._make()

    def _make(self) -> None:
        self._timer.stop()
        self._owed = False
        begin = time.perf_counter()
        self._segmentation.CreateClosedSurfaceRepresentation()
        self._cost = time.perf_counter() - begin

    def _expected(self) -> float:
        """Seconds that making the surface will take, as far as one can tell."""
        if self._cost is not None:
            return self._cost
        segmentation = self._segmentation.GetSegmentation()
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        images = [
            segmentation.GetNthSegment(n).GetRepresentation(name) for n in range(segmentation.GetNumberOfSegments())
        ]
        voxels = sum(image.GetNumberOfPoints() for image in images if image is not None)
        return 0.0 if voxels < _SMALL else 2 * _SMOOTH_S
