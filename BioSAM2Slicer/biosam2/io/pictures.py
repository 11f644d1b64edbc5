"""Pictures by Pillow: PNG, JPEG, TIFF, BMP; 8 or 16 bit grey, colour, palette, with or without alpha."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence

from ..errors import InputError
from ..volume import Volume
from .guards import quiet, require_memory, unreadable


def read(path: Path) -> Volume:
    """Read a picture as a volume of one slice, or a TIFF of several pages as one slice a page.

    A photograph is turned upright by its EXIF orientation, as every viewer shows it. Alpha is dropped, palettes
    become colours, and colour of 16 bits becomes 8. Spacing is 1: a picture's dots per inch are the printer's.

    Raises:
        InputError: the file is damaged, too large, or its pages differ in size.
    """
    pages = _pages(path)
    return Volume(_stack(path, pages, [str(path)] * len(pages)), metadata={"source": str(path), "calibrated": False})


def read_frames(folder: Path, files: Iterable[Path]) -> Volume:
    """Read pictures of one size as frames, in the natural order of their names (frame2 before frame10).

    Raises:
        InputError: a file is damaged or holds several pages, frames differ in size, or they do not fit in memory.
    """
    ordered = sorted(files, key=lambda file: natural(file.name))
    frames: list[NDArray[Any]] = []
    for file in ordered:
        pages = _pages(file)
        if len(pages) != 1:
            raise InputError(f"{file} holds {len(pages)} pages; a frame is one picture")
        if not frames:
            require_memory(folder, 2.0 * pages[0].nbytes * len(ordered))
        frames += pages
    return Volume(
        _stack(folder, frames, [file.name for file in ordered]), metadata={"source": str(folder), "calibrated": False}
    )


def natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that takes digits as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def _pages(path: Path) -> list[NDArray[Any]]:
    with unreadable(path), quiet(), Image.open(path) as picture:
        n_pages = getattr(picture, "n_frames", 1)
        require_memory(path, 4.0 * picture.width * picture.height * 4 * n_pages)
        return [_array(page) for page in ImageSequence.Iterator(picture)]


def _array(picture: Image.Image) -> NDArray[Any]:
    """(J, I) or (J, I, 3)."""
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("1", "L", "I", "F") or upright.mode.startswith("I;16"):
        array = np.array(upright)
    elif upright.mode in ("LA", "La"):
        array = np.array(upright)[..., 0]
    else:
        array = np.array(upright.convert("RGB"))
    return array.astype(np.uint8) if array.dtype == bool else array


def _stack(path: Path, frames: list[NDArray[Any]], names: list[str]) -> NDArray[Any]:
    for frame, name in zip(frames, names, strict=True):
        if frame.shape != frames[0].shape:
            raise InputError(
                f"the frames of {path} differ: {names[0]} is {_size(frames[0])}, {name} is {_size(frame)}; "
                "all must have the same size and the same number of colours"
            )
    return np.stack(frames)


def _size(frame: NDArray[Any]) -> str:
    return f"{frame.shape[1]}×{frame.shape[0]}{' in colour' if frame.ndim == 3 else ''}"
