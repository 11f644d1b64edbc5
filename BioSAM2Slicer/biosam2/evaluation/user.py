"""A simulated user: marks a target on one slice, looks at the result, and clicks where it is most wrong.

Everything here is deterministic; prompts with a hand's randomness are made by `biosam2.training.simulation`, whose
geometry this module shares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..frames import Frames
from ..prompts import Box, Mask, Point, Prompt
from ..session import Session
from ..training.simulation import depth_inside, simulate_box

Kind = Literal["click1", "click3", "box", "mask"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_CLICKS: dict[Kind, int] = {"click1": 1, "click3": 3}


@dataclass
class User:
    """Somebody who knows one target and tells a session about it.

    Args:
        session: on the volume that the target lies in.
        segment: name that the target gets.
        target: bool (K, J, I), not empty.
        slice_index: where the target is marked first; by default on its middle slice.
        prompts: everything said so far, in order.
    """

    session: Session
    segment: str
    target: NDArray[np.bool_]
    slice_index: int = -1
    prompts: list[Prompt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slices = self.session.frames.unstack(self.target)
        if self.slice_index < 0:
            self.slice_index = middle_slice(self.slices)

    def start(self, kind: Kind) -> None:
        """Mark the target on the first slice.

        ``click1`` is a click in the middle of its largest piece there; ``click3`` adds two corrections of what
        `Session.predict` shows; ``box`` is tight; ``mask`` is the target itself on that slice.
        """
        here = self.slices[self.slice_index]
        if kind == "mask":
            self._say(Mask(self.slice_index, here))
        elif kind == "box":
            x0, y0, x1, y1 = (float(v) for v in simulate_box(np.random.default_rng(0), here, jitter=0.0))
            self._say(Box(self._ijk(self.slice_index, y0, x0), self._ijk(self.slice_index, y1, x1)))
        else:
            self._click(self.slice_index, *middle(here), positive=True)
            for _ in range(_CLICKS[kind] - 1):
                shown = self.session.predict(self.segment, self.slice_index)
                found = correction(shown, here)
                if found is None:
                    break
                self._click(self.slice_index, *found)

    def correct(self) -> bool:
        """Click on the slice that is most wrong after a propagation; False where nothing is wrong."""
        shown = self.session.frames.unstack(self.session.mask(self.segment))
        worst = int((shown ^ self.slices).sum(axis=(1, 2)).argmax())
        return self.correct_on(worst, shown[worst])

    def correct_on(self, slice_index: int, shown: NDArray[np.bool_]) -> bool:
        """Click on a slice, (rows, columns) of which are shown; False where nothing is wrong."""
        found = correction(shown, self.slices[slice_index])
        if found is None:
            return False
        self._click(slice_index, *found)
        return True

    def _click(self, slice_index: int, row: int, column: int, positive: bool) -> None:
        self._say(Point(self._ijk(slice_index, row, column), positive))

    def _say(self, prompt: Prompt) -> None:
        self.session.add_prompt(self.segment, prompt)
        self.prompts.append(prompt)

    def _ijk(self, slice_index: int, row: float, column: float) -> tuple[float, float, float]:
        return to_ijk(self.session.frames, slice_index, row, column)


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
    """
    missed, excess = target & ~shown, shown & ~target
    if not missed.any() and not excess.any():
        return None
    pieces = [largest_piece(wrong) for wrong in (missed, excess)]
    positive = bool(pieces[0].sum() >= pieces[1].sum())
    return (*middle(pieces[0] if positive else pieces[1]), positive)


def largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask, neighbours across edges; empty where the mask is."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())


def to_ijk(frames: Frames, slice_index: int, row: float, column: float) -> tuple[float, float, float]:
    """Voxel index of a place on a slice; the inverse of `Frames.from_ijk`."""
    s, r, c = float(slice_index), float(row), float(column)
    return {"k": (c, r, s), "j": (c, s, r), "i": (s, c, r)}[frames.axis]
