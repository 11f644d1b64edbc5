"""The area of each segment on each frame of a video, as a table."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .atomic import atomic_path
from .segmented import Segmented
from .times import frame_times

COLUMNS = ("frame", "seconds", "segment", "pixels", "mm2")


@dataclass(frozen=True, eq=False)
class Areas:
    """The area of each segment on each frame of a video.

    Attributes:
        times: seconds of each frame from the first, (K,); None where the source does not say when they were taken.
        pixels: of each segment on each frame, int (K,), by the segment's name; where segments overlap, a pixel counts
            for each of them.
        pixel_mm2: the area of a pixel in square millimetres; None where the source does not say how large it is.
    """

    times: NDArray[np.float64] | None
    pixels: dict[str, NDArray[np.int_]]
    pixel_mm2: float | None


def areas_of(session: Segmented) -> Areas:
    """Measure the segments of a video, whose frames are the slices k."""
    volume = session.volume
    return Areas(
        frame_times(volume),
        {name: np.count_nonzero(session.mask(name), axis=(1, 2)) for name in session.segments},
        float(np.prod(volume.spacing[:2])) if volume.metadata.get("calibrated", True) else None,
    )


def write_areas(path: Path, session: Segmented) -> None:
    """Write a row for each frame and segment, in order of the frames; atomic.

    ``seconds`` are from the first frame, empty where the source does not say when its frames were taken; ``mm2`` is
    the area in square millimetres, empty where it does not say how large a pixel is. Where segments overlap, a pixel
    counts for each of them.

    Args:
        path: .csv.
        session: segments and frames (slices k).

    Raises:
        InputError: there is no segment.
        OutputError: the file cannot be written.
    """
    if not session.segments:
        raise InputError(f"nothing to write to {path}: there is no segment yet")
    areas = areas_of(session)
    times, pixel = areas.times, areas.pixel_mm2
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for frame in range(session.volume.shape[0]):
        seconds = "" if times is None else f"{times[frame]:.4f}"
        for name, count in areas.pixels.items():
            pixels = int(count[frame])
            writer.writerow((frame, seconds, name, pixels, "" if pixel is None else f"{pixels * pixel:.6g}"))
    with atomic_path(path) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8", newline="")
