"""Pictures of a result: a montage of slices with the outlines of the masks and the prompts drawn on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .frames import Frames, Region, windowed
from .io import Segmented, atomic_path
from .io.colours import segment_colour
from .prompts import Drawing, Prompt

_TILE = 320  # longest side of a tile, in pixels of the picture
_GAP = 4
_TEXT = 15
_FILL = 0.18
_POSITIVE, _NEGATIVE = (60, 220, 90), (240, 70, 60)
_BACKGROUND = (24, 24, 24)


def write_montage(
    path: str | os.PathLike[str],
    session: Segmented,
    frames: Frames,
    prompts: Sequence[tuple[str, Prompt]] = (),
    *,
    anatomical: bool = True,
    tiles: int = 12,
) -> None:
    """Write `montage` as a PNG; atomic.

    Raises:
        OutputError: the file cannot be written.
    """
    picture = montage(session, frames, prompts, anatomical=anatomical, tiles=tiles)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def montage(
    session: Segmented,
    frames: Frames,
    prompts: Sequence[tuple[str, Prompt]] = (),
    *,
    anatomical: bool = True,
    tiles: int = 12,
) -> Image.Image:
    """Slices through the segments: first one whole, then a closer look where the target is small.

    Args:
        session: segments and their masks.
        frames: the axis and the window to show.
        prompts: (segment, prompt), drawn on their slices: a ring with a plus or a minus, a rectangle, "mask".
        anatomical: turn slices as radiologists hang them (patient's right on the left, front and head up) and mark
            the sides; otherwise show rows and columns as they are.
        tiles: how many pictures at most.
    """
    masks = {name: frames.unstack(session.mask(name)) for name in session.segments}
    marks = [_Mark(prompt.drawing(frames), _colour(session.segments.index(name))) for name, prompt in prompts]
    zoom = _zoom(frames, masks, marks)
    slices = _choose(masks, marks, frames.count, tiles if zoom == frames.whole else max(tiles - 1, 1))
    view = _View.of(frames, anatomical)
    pictures = [_tile(frames, view, masks, marks, s, zoom) for s in slices]
    if zoom != frames.whole:
        prompted = [s for s in slices if any(m.shows_on(s) for m in marks)] or slices
        shown = prompted[len(prompted) // 2]
        pictures.insert(0, _tile(frames, view, masks, [], shown, frames.whole, outline=zoom))
    return _assemble(pictures, _legend(session, frames, anatomical))


@dataclass(frozen=True)
class _Mark:
    """A prompt as it is drawn, and its segment's colour."""

    drawing: Drawing
    colour: tuple[int, int, int]

    @property
    def corners(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest (row, column)."""
        rows, columns = zip(*self.drawing.places, strict=True)
        return (min(rows), min(columns)), (max(rows), max(columns))

    def shows_on(self, slice_index: int) -> bool:
        """Whether it is on a slice."""
        return round(self.drawing.first) <= slice_index <= round(self.drawing.last)


@dataclass(frozen=True)
class _View:
    """How a slice is turned for looking at it."""

    transpose: bool
    flip: tuple[bool, bool]  # rows, columns, after transposing
    letters: tuple[str, str]  # what lies to the left and at the top

    @classmethod
    def of(cls, frames: Frames, anatomical: bool) -> _View:
        if not anatomical:
            return cls(False, (False, False), ("", ""))
        rows, columns = ("ijk".index(a) for a in {"k": "ji", "j": "ki", "i": "kj"}[frames.axis])
        down, right = frames.volume.direction[:, rows], frames.volume.direction[:, columns]
        # The head belongs at the top, or else the front.
        transpose = bool(_rank(right) > _rank(down))
        if transpose:
            down, right = right, down
        flip = (_letter(down) in "SA", _letter(right) in "RA")
        top, left = down if flip[0] else -down, right if flip[1] else -right
        return cls(transpose, flip, (_letter(left), _letter(top)))

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """Rows and columns of (rows, columns, ...) as they are shown."""
        if self.transpose:
            array = array.swapaxes(0, 1)
        return np.ascontiguousarray(array[:: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1])

    def place(self, row: float, column: float) -> tuple[float, float]:
        """Where a place (0 to 1 down and across) is shown: (x, y), 0 to 1."""
        if self.transpose:
            row, column = column, row
        return 1 - column if self.flip[1] else column, 1 - row if self.flip[0] else row

    def size(self, rows: float, columns: float) -> tuple[int, int]:
        """Width and height in pixels of a tile that shows so many mm down and across."""
        width, height = (rows, columns) if self.transpose else (columns, rows)
        scale = _TILE / max(width, height)
        return max(round(width * scale), 1), max(round(height * scale), 1)


def _tile(
    frames: Frames,
    view: _View,
    masks: dict[str, NDArray[np.bool_]],
    marks: Sequence[_Mark],
    slice_index: int,
    region: Region,
    outline: Region | None = None,
) -> Image.Image:
    """One slice's region, masks and marks on it."""
    per_row, per_column = frames.pixel_size
    size = view.size(region.rows * per_row, region.columns * per_column)
    pixels = view.turn(_grey(frames, frames.pixels(slice_index)[region.slices]))
    shown = np.asarray(Image.fromarray(pixels).convert("RGB").resize(size, Image.Resampling.BICUBIC)).astype(float)
    for number, mask in enumerate(masks.values()):
        cut = view.turn(mask[slice_index][region.slices])
        if cut.any():
            smooth = np.asarray(Image.fromarray(cut.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR))
            inside = smooth > 127
            shown[inside] += _FILL * (np.array(_colour(number)) - shown[inside])
            shown[_edge(inside)] = _colour(number)
    tile = Image.fromarray(shown.round().astype(np.uint8))
    draw = ImageDraw.Draw(tile)

    def where(row: float, column: float) -> tuple[float, float]:
        x, y = view.place((row - region.row + 0.5) / region.rows, (column - region.column + 0.5) / region.columns)
        return x * size[0], y * size[1]

    for mark in marks:
        if mark.shows_on(slice_index):
            _draw_mark(draw, mark, where)
    if outline is not None:
        corners = (
            where(outline.row - 0.5, outline.column - 0.5),
            where(outline.row + outline.rows - 0.5, outline.column + outline.columns - 0.5),
        )
        draw.rectangle(_upright(*corners), outline=(235, 235, 235))
    _write(draw, (4, 2), f"{frames.axis} {slice_index}")
    left, top = view.letters
    _write(draw, (4, size[1] / 2 - _TEXT / 2), left)
    _write(draw, (size[0] / 2 - _TEXT / 3, 2), top)
    return tile


def _draw_mark(draw: ImageDraw.ImageDraw, mark: _Mark, where: Callable[[float, float], tuple[float, float]]) -> None:
    drawing, (low, high) = mark.drawing, mark.corners
    fill = _POSITIVE if drawing.positive else _NEGATIVE
    if drawing.style == "word":
        _write(draw, where(low[0], high[1]), drawing.word, mark.colour)
    elif drawing.style == "mark":
        x, y = where(*low)
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline=(0, 0, 0), width=3)
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline=fill, width=2)
        draw.line((x - 3, y, x + 3, y), fill=fill)
        if drawing.positive:
            draw.line((x, y - 3, x, y + 3), fill=fill)
    else:
        closed = drawing.places[:1] if drawing.style == "outline" else ()
        way = [where(*place) for place in (*drawing.places, *closed)]
        draw.line(way, fill=(255, 255, 255) if drawing.positive else fill, width=1)


def _choose(masks: dict[str, NDArray[np.bool_]], marks: Sequence[_Mark], count: int, tiles: int) -> list[int]:
    """Prompted slices, and others evenly over the segments' extent with one slice beyond either end."""
    drawings = [mark.drawing for mark in marks]
    prompted = {min(max(round((d.first + d.last) / 2), 0), count - 1) for d in drawings}
    ends = {min(max(round(end), 0), count - 1) for d in drawings for end in (d.first, d.last)}
    marked = sorted({int(s) for mask in masks.values() for s in np.flatnonzero(mask.any(axis=(1, 2)))} | ends)
    if not marked:
        marked = [count // 2]
    low, high = max(marked[0] - 1, 0), min(marked[-1] + 1, count - 1)
    prompted = set(sorted(prompted)[:tiles])
    n = min(tiles, high - low + 1)
    others = (low + (np.arange(n) + 0.5) * (high - low + 1) / n).astype(int).tolist()
    while others and len(prompted | set(others)) > tiles:
        others.remove(min(others, key=lambda s: min((abs(s - p) for p in prompted), default=0)))
    return sorted(prompted | set(others))


def _zoom(frames: Frames, masks: dict[str, NDArray[np.bool_]], marks: Sequence[_Mark]) -> Region:
    """A square (in mm) around all segments and prompts; the whole frame where that is hardly larger."""
    corners = [corner for mark in marks for corner in mark.corners]
    for mask in masks.values():
        flat = np.any(mask, axis=0)
        if flat.any():
            rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
            corners += [(rows[0], columns[0]), (rows[-1], columns[-1])]
    if not corners:
        return frames.whole
    size = np.array(frames.pixel_size)
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    side = max(2.2 * ((high - low + 1) * size).max(), 24 * size.max())
    shape = np.array([frames.rows, frames.columns])
    extent = np.minimum(np.ceil(side / size), shape).astype(int)
    if (extent * size).max() > 0.7 * (shape * size).max():
        return frames.whole
    start = np.clip(np.rint((low + high + 1 - extent) / 2), 0, shape - extent).astype(int)
    return Region(int(start[0]), int(start[1]), int(extent[0]), int(extent[1]))


def _assemble(pictures: Sequence[Image.Image], legend: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    across = min(len(pictures), 4 if len(pictures) > 6 else 3)
    down = -(-len(pictures) // across)
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    head = _TEXT + 10
    size = (across * (width + _GAP) + _GAP, head + down * (height + _GAP))
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    x = float(_GAP)
    for text, colour in legend:
        _write(draw, (x, 4), text, colour)
        x += draw.textlength(text, font_size=_TEXT) + 14
    for n, picture in enumerate(pictures):
        row, column = divmod(n, across)
        at = (_GAP + column * (width + _GAP) + (width - picture.width) // 2, head + row * (height + _GAP))
        sheet.paste(picture, (at[0], at[1] + (height - picture.height) // 2))
    return sheet


def _legend(session: Segmented, frames: Frames, anatomical: bool) -> list[tuple[str, tuple[int, int, int]]]:
    voxel = float(np.prod(frames.volume.spacing)) / 1000
    lines = []
    for number, name in enumerate(session.segments):
        voxels = int(session.mask(name).sum())
        amount = f"{voxels * voxel:.3g} ml" if anatomical else f"{voxels} pixels"
        lines.append((f"{name} {amount}", _colour(number)))
    centre, width = frames.window
    return [*lines, (f"window {centre:g}, {width:g}", (170, 170, 170))]


def _grey(frames: Frames, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return (windowed(pixels, frames.window) * 255).round().astype(np.uint8)


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outline of a mask, two pixels thick, just inside it; the tile's border is no outline."""
    core = np.pad(inside, 2, mode="edge")
    rows, columns = inside.shape
    eroded = inside.copy()
    for down, across in ((0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)):
        eroded &= core[down : down + rows, across : across + columns]
    return inside & ~eroded


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: tuple[int, int, int] = (255, 255, 255)
) -> None:
    draw.text(at, text, fill=colour, font_size=_TEXT, stroke_width=1, stroke_fill=(0, 0, 0))


def _upright(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float, float, float]:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = (round(255 * c) for c in segment_colour(number))
    return red, green, blue


def _rank(direction: NDArray[np.float64]) -> int:
    """2 for a direction along the body, 1 for front to back, 0 for side to side."""
    return int(np.abs(direction).argmax())


def _letter(direction: NDArray[np.float64]) -> str:
    """The side of the patient that an LPS direction points to: L R P A S I."""
    axis = int(np.abs(direction).argmax())
    return ("LR", "PA", "SI")[axis][0 if direction[axis] > 0 else 1]
