"""Colours for segments: distinct, in a fixed order, so that a file, an overlay and a montage agree."""

from __future__ import annotations

import colorsys

# Hues far apart first; none is grey, as the images are.
_FIRST = (
    (0.90, 0.30, 0.24),
    (0.20, 0.60, 0.96),
    (0.30, 0.80, 0.35),
    (0.97, 0.77, 0.10),
    (0.62, 0.35, 0.80),
    (0.10, 0.78, 0.75),
    (0.95, 0.50, 0.10),
    (0.95, 0.45, 0.70),
    (0.60, 0.75, 0.15),
    (0.55, 0.40, 0.25),
)
_GOLDEN = 0.618033988749895


def segment_colour(index: int) -> tuple[float, float, float]:
    """Red, green and blue (0 to 1) of the segment at `index` in order of creation."""
    if index < len(_FIRST):
        return _FIRST[index]
    return colorsys.hsv_to_rgb(index * _GOLDEN % 1.0, 0.75 if index % 2 else 0.55, 0.9)


def segment_colours(count: int) -> list[tuple[float, float, float]]:
    """Those of the first segments, see `segment_colour`."""
    return [segment_colour(index) for index in range(count)]
