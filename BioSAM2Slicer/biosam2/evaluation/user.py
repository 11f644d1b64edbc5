"""A simulated user: marks a target on one slice, looks at the result, and corrects where it is most wrong.

Everything here is deterministic, also strokes and where a `Marking` draws: the same target on the same slice gives the
same prompt.
Prompts with a hand's randomness, for training, are made by `biosam2.training.simulation`, whose geometry this module
shares.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..frames import Frames
from ..prompts import Box, Lasso, Line, Mask, Point, Prompt, Scribble
from ..session import Session
from ..training.simulation import depth_inside, simulate_box
from .strokes import simulate_lasso, simulate_ruler, simulate_scribble
from .ways import Kind

_CLICKS: dict[Kind, int] = {"click1": 1, "click3": 3}


@dataclass(frozen=True)
class Marking:
    """How a target is marked, where protocols differ.

    Attributes:
        click: where: ``deepest``, the pixel deepest inside the largest piece; ``random``, any pixel of the target;
            ``centroid``, the pixel of the largest piece that is nearest to its centre of mass.
        box_spread: standard deviation by which a box's width and height are off, about its centre, as a part of each;
            0 for a tight box.
        seed: of what is drawn.
    """

    click: Literal["deepest", "random", "centroid"] = "deepest"
    box_spread: float = 0.0
    seed: int = 0


DEFAULT_MARKING = Marking()


@dataclass
class User:
    """Somebody who knows one target and tells a session about it.

    Args:
        session: on the volume that the target lies in.
        segment: name that the target gets.
        target: bool (K, J, I), not empty.
        slice_index: where the target is marked first; by default on its middle slice.
        prompts: everything said so far, in order.
        marking: how the first prompt is made.
        corrects: with what: clicks, or the strokes with which the user started.
    """

    session: Session
    segment: str
    target: NDArray[np.bool_]
    slice_index: int = -1
    prompts: list[Prompt] = field(default_factory=list)
    marking: Marking = DEFAULT_MARKING
    corrects: Literal["click", "scribble", "lasso"] = "click"

    def __post_init__(self) -> None:
        self.slices = self.session.frames.unstack(self.target)
        if self.slice_index < 0:
            self.slice_index = middle_slice(self.slices)

    def start(self, kind: Kind) -> None:
        """Mark the target on the first slice.

        ``click1`` is a click in the middle of its largest piece there; ``click3`` adds two corrections of what
        `Session.predict` shows; ``box`` is tight; ``mask`` is the target itself on that slice. `marking` may say
        another click and a looser box. ``scribble`` runs through the largest piece, and corrections are then
        scribbles too; so with ``lasso``, which goes around it. ``line`` is its longest diameter.
        """
        here = self.slices[self.slice_index]
        rng = self._rng(self.slice_index, here)
        if kind == "mask":
            self._say(Mask(self.slice_index, here))
        elif kind == "box":
            x0, y0, x1, y1 = scaled_box(rng, here, self.marking.box_spread)
            self._say(Box(self._ijk(self.slice_index, y0, x0), self._ijk(self.slice_index, y1, x1)))
        elif kind == "line":
            ruler = simulate_ruler(rng, largest_piece(here), self.session.frames.pixel_size)
            self._say(Line(self.slice_index, ruler))
        elif kind == "scribble" or kind == "lasso":
            self.corrects = kind
            self._stroke(self.slice_index, largest_piece(here), positive=True)
        else:
            self._click(self.slice_index, *_place(rng, here, self.marking.click), positive=True)
            for _ in range(_CLICKS[kind] - 1):
                shown = self.session.predict(self.segment, self.slice_index)
                found = correction(shown, here)
                if found is None:
                    break
                self._click(self.slice_index, *found)

    def reach(self, beyond: int | None) -> tuple[int, int]:
        """The first and the last slice of a propagation that goes some way beyond the target's ends.

        Args:
            beyond: how many slices, each way; None for the whole volume.
        """
        last = len(self.slices) - 1
        if beyond is None:
            return 0, last
        present = np.flatnonzero(self.slices.any(axis=(1, 2)))
        return max(0, int(present[0]) - beyond), min(last, int(present[-1]) + beyond)

    def correct(self) -> bool:
        """Correct the slice that is most wrong after a propagation; False where nothing is wrong."""
        shown = self.session.frames.unstack(self.session.mask(self.segment))
        worst = int((shown ^ self.slices).sum(axis=(1, 2)).argmax())
        return self.correct_on(worst, shown[worst])

    def correct_on(self, slice_index: int, shown: NDArray[np.bool_]) -> bool:
        """Correct the largest piece of what is wrong on a slice, (rows, columns) of which are shown; False: nothing.

        Args:
            slice_index: counted along the session's axis, from 0.
            shown: bool (rows, columns), the present result.
        """
        found = wrong_piece(shown, self.slices[slice_index])
        if found is None:
            return False
        if self.corrects == "click":
            self._click(slice_index, *middle(found[0]), positive=found[1])
        else:
            self._stroke(slice_index, *found)
        return True

    def _stroke(self, slice_index: int, piece: NDArray[np.bool_], positive: bool) -> None:
        """A scribble through one piece, or a lasso around it."""
        rng = self._rng(slice_index, piece)
        if self.corrects == "scribble":
            self._say(Scribble(slice_index, simulate_scribble(rng, piece), positive))  # type: ignore[arg-type]
        else:
            self._say(Lasso(slice_index, simulate_lasso(rng, piece), positive))  # type: ignore[arg-type]

    def _rng(self, slice_index: int, mask: NDArray[np.bool_]) -> np.random.Generator:
        """Randomness that depends on what is marked and where."""
        words = f"{self.segment} {slice_index} {mask.shape} {int(mask.sum())} {self.marking.seed}"
        return np.random.default_rng(zlib.crc32(words.encode()))

    def _click(self, slice_index: int, row: int, column: int, positive: bool) -> None:
        self._say(Point(self._ijk(slice_index, row, column), positive))

    def _say(self, prompt: Prompt) -> None:
        self.session.add_prompt(self.segment, prompt)
        self.prompts.append(prompt)

    def _ijk(self, slice_index: int, row: float, column: float) -> tuple[float, float, float]:
        return to_ijk(self.session.frames, slice_index, row, column)


def scaled_box(rng: np.random.Generator, mask: NDArray[np.bool_], spread: float) -> tuple[float, float, float, float]:
    """The bounding box of a mask, wider and higher by normal deviations, as BioSAM-2's validation makes it.

    Args:
        rng: source of randomness.
        mask: bool (rows, columns), not empty.
        spread: standard deviation of either, as a part of it.

    Returns:
        x0, y0, x1, y1 in pixels, within the mask's frame.
    """
    x0, y0, x1, y1 = (float(v) for v in simulate_box(rng, mask, jitter=0.0))
    wider, higher = (1 + spread * rng.standard_normal(2)).clip(0.1)
    half_x, half_y = (x1 - x0) / 2 * wider, (y1 - y0) / 2 * higher
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    right, bottom = mask.shape[1] - 1, mask.shape[0] - 1
    return max(0.0, x - half_x), max(0.0, y - half_y), min(right, x + half_x), min(bottom, y + half_y)


def _place(rng: np.random.Generator, mask: NDArray[np.bool_], click: str) -> tuple[int, int]:
    """Row and column of a first click."""
    if click == "deepest":
        return middle(mask)
    pixels = np.argwhere(mask if click == "random" else largest_piece(mask))
    if click == "random":
        row, column = pixels[rng.integers(len(pixels))]
    else:
        row, column = pixels[((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


def middle_slice(target: NDArray[np.bool_]) -> int:
    """The middle one of the slices that a target (slices, rows, columns) lies on."""
    present = np.flatnonzero(target.any(axis=(1, 2)))
    return int(present[len(present) // 2])


def middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column of the pixel deepest inside the largest piece of a mask (rows, columns) that is not empty."""
    depth = depth_inside(largest_piece(mask))
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)


def correction(shown: NDArray[np.bool_], target: NDArray[np.bool_]) -> tuple[int, int, bool] | None:
    """The next click on a slice: row, column, positive; in the middle of the largest piece of what is wrong.

    None where nothing is wrong.

    Args:
        shown: bool (rows, columns), the present result.
        target: bool (rows, columns), the truth.
    """
    found = wrong_piece(shown, target)
    return None if found is None else (*middle(found[0]), found[1])


def wrong_piece(shown: NDArray[np.bool_], target: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], bool] | None:
    """The largest piece of what is wrong on a slice, and whether it is missed (True) or too much; None: nothing is.

    Args:
        shown: bool (rows, columns), the present result.
        target: bool (rows, columns), the truth.
    """
    missed, excess = target & ~shown, shown & ~target
    if not missed.any() and not excess.any():
        return None
    found = [largest_piece(wrong) for wrong in (missed, excess)]
    positive = bool(found[0].sum() >= found[1].sum())
    return found[0] if positive else found[1], positive


def largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask, neighbours across edges; empty where the mask is."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())


def to_ijk(frames: Frames, slice_index: int, row: float, column: float) -> tuple[float, float, float]:
    """Voxel index of a place on a slice; the inverse of `Frames.from_ijk`.

    Args:
        frames: slices of the volume along an axis.
        slice_index: counted along that axis, from 0.
        row: of the slice; may lie between voxels.
        column: of the slice; may lie between voxels.

    Returns:
        (i, j, k), whole numbers at voxels' centres.
    """
    s, r, c = float(slice_index), float(row), float(column)
    return {"k": (c, r, s), "j": (c, s, r), "i": (s, c, r)}[frames.axis]
