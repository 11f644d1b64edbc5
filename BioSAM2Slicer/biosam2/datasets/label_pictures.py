"""Labels drawn as pictures: one mask, or a folder with one for each frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..io.formats import PICTURE, extension
from ..io.guards import existing, quiet, require_memory, unreadable
from ..io.pictures import natural
from .case import COLOUR

# By how much the colours of a grey JPEG may differ.
_GREY_ENOUGH = 32


def read(path: Path, colours: bool = False) -> NDArray[Any]:
    """The labels, whole numbers (K, J, I): a palette's indices, or grey values; of colours that are grey, one.

    JPEG blurs values, so that it can mark one thing only: it is read as 0 or 255, whichever is nearer.

    Args:
        path: a picture, or a folder of pictures in natural order of their names.
        colours: the labels are colours, as `case.colour` numbers them.

    Raises:
        InputError: a file is damaged or in real colours, pictures differ in size, or the folder holds none.
    """
    source = existing(path)
    if not source.is_dir():
        return _one(source, colours)[None]
    files = pictures_in(source)
    if not files:
        raise InputError(f"the folder {path} holds no pictures; give the folder of the masks")
    frames = [_one(file, colours) for file in files]
    for frame, file in zip(frames, files, strict=True):
        if frame.shape != frames[0].shape:
            sizes = [f"{shape[1]}×{shape[0]}" for shape in (frame.shape, frames[0].shape)]
            raise InputError(f"{file} is {sizes[0]} and {files[0].name} {sizes[1]}; all masks must have one size")
    return np.stack(frames)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder in natural order of their names."""
    found = (p for p in folder.iterdir() if extension(p) in PICTURE and not p.name.startswith("."))
    return sorted(found, key=lambda p: natural(p.name))


def check_frames(name: str, frames: Path, masks: Path) -> None:
    """Refuse a video without masks, or with frames that have none of their name.

    Args:
        name: of the case, for the message.
        frames: folder of the frames.
        masks: folder of the masks.

    Raises:
        InputError: there are none, or frames and masks differ.
    """
    if not masks.is_dir():
        raise InputError(f"case {name}: there are no masks in {masks}; add them or remove the video")
    images, labels = ({p.stem for p in pictures_in(place)} for place in (frames, masks))
    if images != labels:
        odd = sorted(images ^ labels)
        raise InputError(
            f"case {name}: frames and masks differ, {len(odd)} have no partner ({', '.join(odd[:3])}); "
            "each frame needs a mask of its name"
        )


def _one(path: Path, colours: bool) -> NDArray[Any]:
    with unreadable(path, "a mask"), quiet(), Image.open(path) as picture:
        require_memory(path, 8.0 * picture.width * picture.height)
        plain = picture.mode in ("1", "L", "P", "I") or picture.mode.startswith("I;16")
        plain = (plain or picture.format == "GIF") and not colours
        # A GIF's palette may have any order: it is its grey values that count.
        array = np.array(
            picture.convert("L") if picture.format == "GIF" else picture if plain else picture.convert("RGB")
        )
        lossy = picture.format == "JPEG"
    if colours:
        if lossy:
            raise InputError(f"{path} is a JPEG, which blurs the colours that mark the targets; give it as PNG")
        red, green, blue = np.moveaxis(array.astype(np.int32), 2, 0)
        return COLOUR + (red << 16) + (green << 8) + blue
    if not plain:
        if np.any(np.ptp(array, axis=2) > (_GREY_ENOUGH if lossy else 0)):
            raise InputError(
                f"{path} is in colour; a mask is grey or has a palette: convert it, or name its colours as targets"
            )
        array = array[..., 0]
    if lossy:
        # Half of what a value can be, not of the file's greatest: what is hardly there must not become a target.
        return np.where(array > 127, 255, 0).astype(np.uint8)
    return array.astype(np.uint8) if array.dtype == bool else array
