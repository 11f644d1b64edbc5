"""Whose mask stands on a slice of a segment: the user's own, the network's, or the one that the segment started from.

Needs no torch: a client without an engine follows the same rules. Masks are kept packed, see `masks`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .frames import Frames
from .masks import unpack
from .placement import reduce_prompts
from .prompts import Mask, Prompt


def own_slices(prompts: Iterable[Prompt], locked: Collection[int]) -> set[int]:
    """Slices that may be the user's own: drawn at some time, or locked."""
    return {p.slice_index for p in prompts if isinstance(p, Mask)} | set(locked)


def own_mask(
    prompts: Sequence[Prompt], locked: Mapping[int, NDArray[np.uint8]], slice_index: int, frames: Frames
) -> NDArray[np.bool_] | None:
    """The user's own pixels on a slice that is theirs: locked, or prompted by a mask that nothing refined.

    Returns:
        bool (rows, columns), or None where the slice is not the user's.
    """
    if slice_index in locked:
        return unpack(locked[slice_index], (frames.rows, frames.columns))
    prompt = reduce_prompts(prompts, slice_index, frames)
    return prompt.mask.copy() if prompt is not None and prompt.mask is not None else None


def whole_mask(
    prompts: Sequence[Prompt],
    locked: Mapping[int, NDArray[np.uint8]],
    results: Iterable[tuple[int, NDArray[np.uint8]]],
    start: NDArray[np.uint8] | None,
    frames: Frames,
) -> NDArray[np.bool_]:
    """A segment: results where there are any, else what it started from, and the user's own pixels above both.

    Args:
        prompts: the segment's.
        locked: packed masks of the slices that the user locked.
        results: slices and the network's packed masks on them.
        start: the packed mask that the segment started from, all slices, or None.
        frames: the slices.

    Returns:
        bool (K, J, I).
    """
    stack = np.zeros((frames.count, frames.rows, frames.columns), dtype=bool)
    if start is not None:
        stack[:] = frames.unstack(unpack(start, frames.volume.shape))
    for s, packed in results:
        stack[s] = unpack(packed, (frames.rows, frames.columns))
    for s in own_slices(prompts, locked):
        own = own_mask(prompts, locked, s, frames)
        if own is not None:
            stack[s] = own
    return np.ascontiguousarray(frames.stack(stack))
