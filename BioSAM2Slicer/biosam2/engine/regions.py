"""The crop: the part of a frame that the network runs on, so that a small target has full resolution. Approximate.

Masks come out of SAM 2 at a quarter of its input size; a target that fills little of the frame keeps few pixels.
A crop around the prompts shows it larger, and follows it as it grows from slice to slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..frames import Frames, Region
from ..prompts import SlicePrompt
from .tracker import Tracker

# A target that fills this much of the frame needs no crop.
_LARGE = 0.25
# Side of a crop in units of the target's: room to grow, and context to tell the target from its surroundings.
_CONTEXT = 2.5
# Least side, in voxels: below it there is nothing more to be seen.
_LEAST_VOXELS = 32
# Nearer to the crop's border than this share of its side, the target may be cut off.
_MARGIN = 0.06
# Crops tried around a lone click, in units of the frame's side.
_ZOOMS = (0.5, 0.25, 0.125)


@dataclass(frozen=True)
class Extent:
    """A bounding box on a frame: inclusive first and last rows and columns, may be fractional."""

    row0: float
    column0: float
    row1: float
    column1: float

    def union(self, other: Extent) -> Extent:
        """The box around both."""
        return Extent(
            min(self.row0, other.row0),
            min(self.column0, other.column0),
            max(self.row1, other.row1),
            max(self.column1, other.column1),
        )


def extent_of(mask: NDArray[np.bool_]) -> Extent | None:
    """Bounding box of a mask, None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return Extent(float(rows[0]), float(columns[0]), float(rows[-1]), float(columns[-1]))


def region_around(extent: Extent, frames: Frames) -> Region:
    """A crop with room around a target, square in millimetres where the frame allows it.

    The whole frame where the target fills a quarter of it or more.
    """
    target = (extent.row1 - extent.row0 + 1) * (extent.column1 - extent.column0 + 1)
    if target >= _LARGE * frames.rows * frames.columns:
        return frames.whole
    mm = frames.pixel_size
    side = _CONTEXT * max((extent.row1 - extent.row0 + 1) * mm[0], (extent.column1 - extent.column0 + 1) * mm[1])
    return _square(extent, side, frames)


def follow(region: Region, mask: NDArray[np.bool_], frames: Frames) -> Region:
    """The crop for the next slice: the same while the target keeps clear of its border, else a new one around it."""
    extent = extent_of(mask)
    if extent is None or not _touches(extent, region, frames):
        return region
    grown = region_around(extent, frames)
    # A target that reached the border may go on beyond it: the new crop must show more than the old one.
    return _union(grown, region) if _touches(extent, grown, frames) else grown


def prompt_extent(prompt: SlicePrompt) -> Extent | None:
    """Bounding box of everything that a prompt marks as the target, None for negative clicks alone."""
    drawn = prompt.mask if prompt.mask is not None else prompt.start
    extents = [extent_of(drawn)] if drawn is not None else []
    if prompt.box is not None:
        extents.append(Extent(*prompt.box))
    extents += [Extent(row, column, row, column) for row, column, positive in prompt.points if positive]
    known = [extent for extent in extents if extent is not None]
    if not known:
        return None
    result = known[0]
    for extent in known[1:]:
        result = result.union(extent)
    return result


def choose_region(tracker: Tracker, prompt: SlicePrompt, earlier: Region | None) -> Region:
    """The crop for a prompted slice.

    Args:
        tracker: runs the network on candidate crops where clicks alone do not tell the target's size.
        prompt: what the user said about the slice.
        earlier: the crop of the result that the prompt corrects, if there is one; it is kept, grown to show
            every click.
    """
    frames = tracker.frames
    extent = prompt_extent(prompt)
    if earlier is not None:
        marked = [Extent(row, column, row, column) for row, column, _ in prompt.points]
        if extent is not None:
            marked.append(extent)
        for each in marked:
            if _touches(each, earlier, frames, margin=0.0):
                earlier = _union(earlier, _square(each, 0.0, frames))
        return earlier
    if extent is None:
        return frames.whole
    if prompt.box is not None or prompt.mask is not None or prompt.start is not None:
        return region_around(extent, frames)
    return _zoomed(tracker, prompt, extent)


def _zoomed(tracker: Tracker, prompt: SlicePrompt, clicks: Extent) -> Region:
    """The crop around what the network takes the clicks to mean, at the zoom where it is surest of a whole object."""
    frames = tracker.frames
    mm = frames.pixel_size
    longest = max(frames.rows * mm[0], frames.columns * mm[1])
    candidates = [frames.whole]
    for zoom in _ZOOMS:
        region = _square(clicks, zoom * longest, frames)
        if region not in candidates:
            candidates.append(region)
    best, best_score = frames.whole, -1.0
    for region in candidates:
        result = tracker.prompt(prompt, region)
        extent = extent_of(result.unpacked(frames.rows, frames.columns))
        if extent is not None and not _touches(extent, region, frames) and result.score > best_score:
            best, best_score = region_around(extent.union(clicks), frames), result.score
    return best


def _square(extent: Extent, side: float, frames: Frames) -> Region:
    """A square of `side` mm centred on an extent, at least a few voxels wide, moved and cut to fit the frame."""
    mm = frames.pixel_size
    side = max(side, _LEAST_VOXELS * max(mm))
    row, rows = _interval((extent.row0 + extent.row1) / 2, side / mm[0], frames.rows)
    column, columns = _interval((extent.column0 + extent.column1) / 2, side / mm[1], frames.columns)
    return Region(row, column, rows, columns)


def _interval(centre: float, length: float, limit: int) -> tuple[int, int]:
    n = min(limit, max(1, round(length)))
    start = round(centre - (n - 1) / 2)
    return min(max(0, start), limit - n), n


def _touches(extent: Extent, region: Region, frames: Frames, margin: float = _MARGIN) -> bool:
    """Whether an extent comes near a border of the region that is not the frame's own."""
    row_margin, column_margin = margin * region.rows, margin * region.columns
    return (
        (region.row > 0 and extent.row0 < region.row + row_margin)
        or (region.column > 0 and extent.column0 < region.column + column_margin)
        or (region.row + region.rows < frames.rows and extent.row1 > region.row + region.rows - 1 - row_margin)
        or (
            region.column + region.columns < frames.columns
            and extent.column1 > region.column + region.columns - 1 - column_margin
        )
    )


def _union(a: Region, b: Region) -> Region:
    row, column = min(a.row, b.row), min(a.column, b.column)
    return Region(
        row,
        column,
        max(a.row + a.rows, b.row + b.rows) - row,
        max(a.column + a.columns, b.column + b.columns) - column,
    )
