"""What a video session found: one PNG of labels a frame, and a video with the segments drawn in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputError
from ..frames import resolve_window, windowed
from .atomic import atomic_folder
from .colours import segment_colours
from .formats import MOVIE, extension
from .segmented import Segmented


def write_video_masks(folder: str | os.PathLike[str], session: Segmented) -> None:
    """Write one grey PNG a frame, frame00000.png onwards; a pixel's value is its label (0 is background); atomic.

    Args:
        folder: made here; one that exists must be empty.
        session: segments and frames (slices k).

    Raises:
        InputError: there is no segment.
        OutputError: the folder is not empty or cannot be written.
    """
    from PIL import Image

    target = Path(folder).expanduser()
    labels = _labels(target, session)
    digits = max(5, len(str(len(labels))))
    with atomic_folder(target) as temporary:
        for number, frame in enumerate(labels):
            Image.fromarray(frame).save(temporary / f"frame{number:0{digits}}.png")


def write_overlay_video(
    path: str | os.PathLike[str],
    session: Segmented,
    fps: float | None = None,
    window: tuple[float, float] | None = None,
    colours: Sequence[tuple[float, float, float]] | None = None,
) -> None:
    """Write the frames with their segments in colour and outlined, as a video; atomic.

    Args:
        path: .mp4, .avi …
        session: segments and frames (slices k).
        fps: frames a second; None is the source's rate, or 10 where it has none.
        window: (centre, width) of the frames; None for the whole range of 8 bits, and for others robust percentiles.
        colours: of the segments, red, green and blue, 0 to 1; None for those of `biosam2.io.colours`.

    Raises:
        InputError: there is no segment, or `fps` is not positive.
        OutputError: unknown extension, or the file cannot be written.
        DependencyError: PyAV, which writes videos, is not installed.
    """
    from . import movies

    target = Path(path).expanduser()
    if extension(target) not in MOVIE:
        raise OutputError(f"cannot write a video as {target.name}; known are {' '.join(MOVIE)}")
    rate = float(session.volume.metadata.get("fps", 10.0) if fps is None else fps)
    if not 0 < rate <= 1000:
        raise InputError(f"a frame rate lies between 0 and 1000 a second, not {rate:g}")
    if window is None and session.volume.array.dtype == np.uint8:
        window = (127.5, 255.0)
    shown = resolve_window(window, session.volume)
    movies.write(target, _overlays(session, _labels(target, session), shown, colours), rate)


def _labels(target: Path, session: Segmented) -> NDArray[Any]:
    if not session.segments:
        raise InputError(f"nothing to write to {target}: there is no segment yet")
    return session.labelmap()


def _overlays(
    session: Segmented,
    labels: NDArray[Any],
    window: tuple[float, float],
    given: Sequence[tuple[float, float, float]] | None,
) -> Iterator[NDArray[np.uint8]]:
    """Frames (J, I, 3) in a window, with segments at 35 % and their outlines at full colour."""
    colours = np.array([(0, 0, 0), *(given or segment_colours(len(session.segments)))]) * 255
    for frame, label in zip(session.volume.array, labels, strict=True):
        grey = 255 * windowed(frame, window)
        rgb = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)
        weight = np.where(_outline(label), 1.0, np.where(label > 0, 0.35, 0.0))[..., None]
        yield np.rint(rgb * (1 - weight) + colours[label] * weight).astype(np.uint8)


def _outline(label: NDArray[Any]) -> NDArray[np.bool_]:
    """Labelled pixels with a neighbour of another label."""
    padded = np.pad(label, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (inner > 0) & np.logical_or.reduce([n != inner for n in neighbours])
