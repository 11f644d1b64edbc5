"""Finds which voxels of a segmentation other parts of Slicer have changed: effects, their undo, scripts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from numpy.typing import NDArray

from ..Signal import Signal
from .SegmentSlices import Extent, SegmentSlices, SliceChange, bounds


class EditWatch:
    """Compares the segmentation with how it was, whenever it is modified.

    Keeps one copy of each layer (a layer holds all segments that do not overlap), and compares by layers, so that many
    segments cost no more than one. Several modifications in one turn of the event loop are one edit.

    Signals:
        edited(list[SliceChange]): what others changed.
    """

    def __init__(self) -> None:
        self.edited = Signal()
        self._slices: SegmentSlices | None = None
        self._segmentation: Any = None
        self._tags: list[int] = []
        self._own = 0
        self._dirty = False
        self._layers: list[NDArray[Any]] = []
        # (layer, label) of each segment that is not empty.
        self._places: dict[str, tuple[int, int]] = {}
        # Segments that came with voxels since the layers were copied: imported, not edited.
        self._imported: set[str] = set()

    def open(self, segmentationNode: Any, slices: SegmentSlices) -> None:
        """Watch this segmentation from now on."""
        self.close()
        self._slices = slices
        self._segmentation = segmentationNode.GetSegmentation()
        kinds = slicer.vtkSegmentation
        self._tags = [
            self._segmentation.AddObserver(kinds.SourceRepresentationModified, self._onModified),
            # All that the Segment Editor's undo says; renaming a segment says it too, and changes no voxel.
            self._segmentation.AddObserver(kinds.SegmentModified, self._onModified),
            self._segmentation.AddObserver(kinds.SegmentAdded, self._onAdded),
        ]
        self._takeAll()

    def close(self) -> None:
        """Watch nothing."""
        if self._segmentation is not None:
            for tag in self._tags:
                self._segmentation.RemoveObserver(tag)
        self._segmentation = self._slices = None
        self._dirty = False
        self._layers, self._places, self._imported = [], {}, set()

    @contextmanager
    def own(self, changes: list[SliceChange]) -> Any:
        """What happens inside is no edit; `changes` says afterwards where it was."""
        self.look()
        self._own += 1
        try:
            yield
        finally:
            self._own -= 1
            self._take(changes)

    def look(self) -> None:
        """Say now what others have changed."""
        if not self._dirty or self._slices is None:
            return
        self._dirty = False
        changes = self._differences()
        if changes:
            self._take(changes)
            self.edited.emit(changes)

    # -- inside ---------------------------------------------------------------------------------

    def _onModified(self, *_event: Any) -> None:
        if self._own or self._dirty:
            return
        self._dirty = True
        # Later, so that an undo of several segments is seen as a whole.
        qt.QTimer.singleShot(0, self.look)

    @vtk.calldata_type(vtk.VTK_STRING)
    def _onAdded(self, _segmentation: Any, _event: Any, name: str) -> None:
        assert self._slices is not None
        if self._slices.layer(name) is not None:
            self._imported.add(name)

    def _placesNow(self) -> dict[str, tuple[int, int]]:
        assert self._slices is not None
        places = {}
        for number in range(self._segmentation.GetNumberOfSegments()):
            name = self._segmentation.GetNthSegmentID(number)
            if self._slices.layer(name) is not None:
                label = self._segmentation.GetSegment(name).GetLabelValue()
                places[name] = (self._segmentation.GetLayerIndex(name), label)
        return places

    def _takeAll(self) -> None:
        """Copy all layers."""
        assert self._slices is not None
        self._places = self._placesNow()
        self._layers = []
        self._imported.clear()
        seen = {layer: name for name, (layer, _label) in self._places.items()}
        for layer in range(max(seen, default=-1) + 1):
            extent, voxels = self._slices.layer(seen[layer]) if layer in seen else (None, np.zeros(0, np.uint8))  # type: ignore[misc]
            copy = np.zeros(self._slices.shape, voxels.dtype)
            if extent is not None:
                copy[boxOf(extent)] = voxels
            self._layers.append(copy)

    def _take(self, changes: Iterable[SliceChange]) -> None:
        """Copy the boxes in which something changed."""
        if self._slices is None:
            return
        if self._places != self._placesNow():
            self._takeAll()
            return
        for change in changes:
            # A segment that is empty now has no place, and one that was not would have changed it.
            if change.segmentId in self._places:
                layer, label = self._places[change.segmentId]
                copy = self._layers[layer][boxOf(change.extent)]
                copy[copy == label] = 0
        for change in changes:
            if change.segmentId in self._places:
                layer, label = self._places[change.segmentId]
                self._layers[layer][boxOf(change.extent)][self._slices.read(change.segmentId, change.extent)] = label

    def _differences(self) -> list[SliceChange]:
        assert self._slices is not None
        before, now = self._places, self._placesNow()
        moved = [name for name in {**before, **now} if before.get(name) != now.get(name) and name not in self._imported]
        changes = []
        for name in moved:
            box = self._union(
                self._extentBefore(before[name]) if name in before else None,
                self._slices.layer(name)[0] if name in now else None,  # type: ignore[index]
            )
            if box is not None and self._segmentation.GetSegment(name) is not None:
                changes += self._compare(name, box)
        stayed: dict[int, list[str]] = {}
        for name, (layer, _label) in before.items():
            if name not in moved:
                stayed.setdefault(layer, []).append(name)
        for layer, names in stayed.items():
            box = self._differenceOfLayer(layer, names[0])
            if box is not None:
                for name in names:
                    changes += self._compare(name, box)
        return changes

    def _differenceOfLayer(self, layer: int, name: str) -> Extent | None:
        """The box of voxels in which a layer differs from its copy."""
        assert self._slices is not None
        extent, voxels = self._slices.layer(name)  # type: ignore[misc]
        copy = self._layers[layer]
        there = boxOf(extent)
        different = copy[there] != voxels
        inside = bounds(different, extent)[0] if different.any() else None
        # Slicer may have cut the layer down to what it holds.
        outside = copy.any() and np.count_nonzero(copy) != np.count_nonzero(copy[there])
        return self._union(inside, bounds(copy != 0, self._slices.whole)[0] if outside else None)

    def _extentBefore(self, place: tuple[int, int]) -> Extent | None:
        assert self._slices is not None
        mask = self._layers[place[0]] == place[1]
        return bounds(mask, self._slices.whole)[0] if mask.any() else None

    def _compare(self, name: str, box: Extent) -> list[SliceChange]:
        assert self._slices is not None
        after = self._slices.read(name, box)
        layer, label = self._places.get(name, (None, 0))
        before = np.zeros_like(after) if layer is None else self._layers[layer][boxOf(box)] == label
        different = before != after
        if not different.any():
            return []
        extent, inside = bounds(different, box)
        return [SliceChange.of(name, extent, before[inside], after[inside])]

    def _union(self, one: Extent | None, other: Extent | None) -> Extent | None:
        if one is None or other is None:
            return one or other
        low = np.minimum(one[::2], other[::2])
        high = np.maximum(one[1::2], other[1::2])
        return tuple(int(n) for pair in zip(low, high, strict=True) for n in pair)  # type: ignore[return-value]


def boxOf(extent: Extent) -> tuple[slice, slice, slice]:
    """An extent as indices into an array (k, j, i) of the whole volume."""
    return tuple(slice(extent[a], extent[a + 1] + 1) for a in (4, 2, 0))  # type: ignore[return-value]
