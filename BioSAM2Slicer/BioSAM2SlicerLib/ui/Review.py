"""Looking through what the model drew: which slices need the user's eyes, and which have had them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..scene.ViewPlanes import sliceNodes
from ..scene.VolumeGeometry import OBLIQUE_DEGREES, VolumeGeometry
from ..session.PanelSession import PanelSession
from .ReviewStrip import SliceState


class Review:
    """The slices of a session's segments, and the views that show them.

    Args:
        session: what was said and drawn.
        isElsewhere: whether views show other images in the volume's place; then they show none of its slices.

    Example:
        >>> review = Review(session, lambda: False)
        >>> index = review.next("Segment_1")
        >>> review.jump(index)
    """

    def __init__(self, session: PanelSession, isElsewhere: Callable[[], bool]) -> None:
        self._session = session
        self._isElsewhere = isElsewhere
        self._corrected: dict[str, set[int]] = {}
        self._passed: dict[str, set[int]] = {}
        # What the extent was found for, as finding it takes a look at every voxel; and the extent.
        self._extentOf: tuple[str, str, int] | None = None
        self._found: tuple[float, float] = (math.inf, -math.inf)

    @property
    def axis(self) -> str:
        """The axis along which the slices lie: the session's, or the red view's before there is one."""
        return self._session.axis or "k"

    def slices(self, segmentId: str) -> list[SliceState]:
        """All slices along the axis, first to last; empty without a volume."""
        session = self._session
        if session.volumeNode is None:
            return []
        # Comparing every slice takes too long while masks come in; then slices are not painted yet.
        if segmentId not in self._corrected or not session.running:
            self._corrected[segmentId] = session.correctedSlices(segmentId)
        corrected = self._corrected[segmentId]
        prompted = set(session.promptedSlices(segmentId))
        locked = session.lockedSlices(segmentId)
        results = session.reviewed(segmentId)
        low, high = self._extent(segmentId)
        doubts = session.doubts(segmentId, (low, high), corrected)

        return [
            SliceState(
                prompted=index in prompted,
                corrected=index in corrected,
                locked=index in locked,
                propagated=index in results,
                beyond=index in results and not low <= index <= high,
                reviewed=index in results and results[index].seen,
                sureness=results[index].sureness if index in results else None,
                changed=results[index].change if index in results else None,
                doubt=doubts.get(index),
            )
            for index in range(VolumeGeometry(session.volumeNode).count(self.axis))
        ]

    def next(self, segmentId: str) -> int | None:
        """The slice most in doubt, another one each time; None if none is left.

        It is the farthest from all that the user has marked, drawn, corrected, locked or looked at; slices far beyond
        the object are in no doubt.
        """
        left = sorted(
            (-state.doubt, index) for index, state in enumerate(self.slices(segmentId)) if state.doubt is not None
        )
        if not left:
            return None
        # Who goes on before having looked is not sent back until all others were shown.
        passed = self._passed.setdefault(segmentId, set())
        if passed.issuperset(index for _doubt, index in left):
            passed.clear()
        index = next(index for _doubt, index in left if index not in passed)
        passed.add(index)
        return index

    def see(self, segmentId: str, index: int) -> bool:
        """The user has looked at a slice; False where there was nothing new to see."""
        return self._session.see(segmentId, index)

    def jump(self, index: int) -> bool:
        """Show a slice in every view that looks along the axis; False if none does."""
        world = self._middle(index)
        views = [node for node in sliceNodes() if self._looksAlong(node)]
        for node in views:
            node.JumpSliceByOffsetting(*world)
        return bool(views)

    def shown(self) -> list[int]:
        """Slices that views show now."""
        volume = self._session.volumeNode
        if volume is None or self._isElsewhere():
            return []
        geometry = VolumeGeometry(volume)
        found = (geometry.sliceOfView(node, self.axis) for node in sliceNodes())
        return list(dict.fromkeys(index for index in found if index is not None))

    # -- inside ---------------------------------------------------------------------------------

    def _extent(self, segmentId: str) -> tuple[float, float]:
        """First and last slice with voxels of the segment; while masks come in, any slice may be one."""
        if self._session.running:
            return (-math.inf, math.inf)
        stamp = (segmentId, self.axis, self._session.voxelStamp(segmentId))
        if stamp != self._extentOf:
            used = self._session.usedSlices(segmentId)
            self._extentOf = stamp
            self._found = (used[0], used[-1]) if used else (math.inf, -math.inf)
        return self._found

    def _middle(self, index: int) -> list[float]:
        geometry = VolumeGeometry(self._session.volumeNode)
        ijk = [(geometry.count(axis) - 1) / 2 for axis in "ijk"]
        ijk["ijk".index(self.axis)] = index
        return geometry.worldFromIjk(ijk).tolist()

    def _looksAlong(self, node: Any) -> bool:
        axis, degrees = VolumeGeometry(self._session.volumeNode).axisOfView(node)
        return axis == self.axis and degrees <= OBLIQUE_DEGREES
