"""Which slice a prompt is for, by the session's rules, for those who have no session at hand."""

from __future__ import annotations

import math

from ..frames import Frames
from ..prompts import Box, Mask, Prompt


def slice_of(prompt: Prompt, frames: Frames) -> int:
    """The slice that a prompt is for; of a box over several slices, the middle one."""
    if isinstance(prompt, Mask):
        return prompt.slice_index
    if isinstance(prompt, Box):
        return (_nearest(prompt.min_ijk, frames) + _nearest(prompt.max_ijk, frames)) // 2
    return _nearest(prompt.ijk, frames)


def _nearest(ijk: tuple[float, float, float], frames: Frames) -> int:
    return min(max(0, math.floor(frames.from_ijk(ijk)[0] + 0.5)), frames.count - 1)
