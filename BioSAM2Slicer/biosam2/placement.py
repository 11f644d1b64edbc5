"""Where prompts lie on the slices of a session: which slice each is for, what it may not be, and what a slice is told.

Needs no torch: a client without an engine follows the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import PromptError
from .frames import Frames
from .prompts import Box, Mask, Point, Prompt


@dataclass(frozen=True)
class SlicePrompt:
    """All that one segment was told about one slice, reduced to one call of the network.

    Attributes:
        slice_index: the slice.
        box: (row0, column0, row1, column1) inclusive voxel bounds, or None.
        points: (row, column, positive) in the order in which they were given; may be fractional.
        mask: the user's own pixels, bool (rows, columns); then there is neither box nor point.
        start: a mask drawn on this slice before the points, whose logits the points refine.
    """

    slice_index: int
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    mask: NDArray[np.bool_] | None = None
    start: NDArray[np.bool_] | None = None


def slice_of(prompt: Prompt, frames: Frames) -> int:
    """The slice that a prompt is for; of a box over several slices, the middle one."""
    if isinstance(prompt, Mask):
        return prompt.slice_index
    if isinstance(prompt, Box):
        low, high = box_slices(prompt, frames)
        return (low + high) // 2
    return _nearest(prompt.ijk, frames)


def box_slices(box: Box, frames: Frames) -> tuple[int, int]:
    """First and last slice of a box."""
    return _nearest(box.min_ijk, frames), _nearest(box.max_ijk, frames)


def bounds(prompts: Iterable[Prompt], frames: Frames) -> tuple[int, int]:
    """First and last slice that a segment's prompts allow: boxes over several slices bound, others only widen that."""
    prompts = list(prompts)
    spans = [box_slices(p, frames) for p in prompts if isinstance(p, Box)]
    thick = [(low, high) for low, high in spans if low != high]
    if not thick:
        return 0, frames.count - 1
    slices = [slice_of(p, frames) for p in prompts]
    return min(slices + [low for low, _ in thick]), max(slices + [high for _, high in thick])


def reduce_prompts(prompts: Sequence[Prompt], slice_index: int, frames: Frames) -> SlicePrompt | None:
    """All prompts of a slice as one call: the box first, then the points; a mask replaces what came before it.

    Returns:
        None where no prompt is for the slice.
    """
    here = [p for p in prompts if slice_of(p, frames) == slice_index]
    if not here:
        return None
    drawn: NDArray[np.bool_] | None = None
    box: tuple[float, float, float, float] | None = None
    points: list[tuple[float, float, bool]] = []
    for p in here:
        if isinstance(p, Mask):
            drawn, box, points = p.array2d, None, []
        elif isinstance(p, Box):
            _, row0, column0 = frames.from_ijk(p.min_ijk)
            _, row1, column1 = frames.from_ijk(p.max_ijk)
            box = (row0, column0, row1, column1)
        else:
            _, row, column = frames.from_ijk(p.ijk)
            points.append((row, column, p.positive))
    if box is None and not points:
        return SlicePrompt(slice_index, mask=drawn)
    return SlicePrompt(slice_index, box=box, points=tuple(points), start=drawn)


def check_prompt(prompt: Prompt, frames: Frames) -> None:
    """Refuse what does not fit the volume or the axis.

    Raises:
        PromptError: the prompt lies outside the volume, belongs to another axis, or has the wrong shape.
    """
    if isinstance(prompt, Mask):
        _check_mask(prompt, frames)
    elif isinstance(prompt, Point):
        _check_inside(prompt.ijk, "point", frames)
    elif isinstance(prompt, Box):
        _check_inside(prompt.min_ijk, "box", frames)
        _check_inside(prompt.max_ijk, "box", frames)
        _check_axis(prompt, frames)
    else:
        raise PromptError(f"a prompt is a Point, a Box or a Mask, not {type(prompt).__name__}")


def _check_mask(mask: Mask, frames: Frames) -> None:
    shape, expected = mask.array2d.shape, (frames.rows, frames.columns)
    if shape != expected:
        k, j, i = frames.volume.shape
        fits = [a for a, other in {"k": (j, i), "j": (k, i), "i": (k, j)}.items() if other == shape]
        advice = f'; for a slice along {fits[0]} start a second session with axis="{fits[0]}"' if fits else ""
        raise PromptError(f"a mask on a slice along {frames.axis} has shape {expected}, not {shape}{advice}")
    if not 0 <= mask.slice_index < frames.count:
        raise PromptError(
            f"there is no slice {mask.slice_index} along {frames.axis}; slices are 0 to {frames.count - 1}"
        )


def _check_inside(ijk: tuple[float, float, float], what: str, frames: Frames) -> None:
    k, j, i = frames.volume.shape
    if not all(-0.5 <= v <= n - 0.5 for v, n in zip(ijk, (i, j, k), strict=True)):
        text = ", ".join(f"{v:g}" for v in ijk)
        raise PromptError(
            f"the {what} at i, j, k = {text} lies outside the volume of {i} × {j} × {k} voxels (counted from 0)"
        )


def _check_axis(box: Box, frames: Frames) -> None:
    """A box that is flat along another axis was drawn in another view."""
    low, high = box_slices(box, frames)
    extent = {a: high - low for a, low, high in zip("ijk", box.min_ijk, box.max_ijk, strict=True)}
    flat = [a for a in "ijk" if a != frames.axis and extent[a] == 0]
    if low != high and len(flat) == 1:
        raise PromptError(
            f"the box is flat along {flat[0]}, and this session runs along {frames.axis}; "
            f'start a second session with axis="{flat[0]}" for it'
        )


def _nearest(ijk: tuple[float, float, float], frames: Frames) -> int:
    return min(max(0, math.floor(frames.from_ijk(ijk)[0] + 0.5)), frames.count - 1)
