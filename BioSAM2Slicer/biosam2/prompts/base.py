"""What all kinds of prompts have in common, and what they are reduced to."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError

if TYPE_CHECKING:
    from typing import Self

    from ..frames import Frames

IJK: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class SlicePrompt:
    """All that one segment was told about one slice, reduced to one call of the network.

    Attributes:
        slice_index: the slice.
        box: (row0, column0, row1, column1) inclusive voxel bounds, or None.
        points: (row, column, positive) in the order in which they were given; may be fractional.
        mask: the user's own pixels, bool (rows, columns); then there is neither box nor point.
        start: a mask drawn on this slice before the points, whose logits the points refine.
    """

    slice_index: int
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    mask: NDArray[np.bool_] | None = None
    start: NDArray[np.bool_] | None = None

    @property
    def drawn(self) -> NDArray[np.bool_] | None:
        """The mask drawn on the slice, refined by what came after it or not."""
        return self.start if self.mask is None else self.mask


@dataclass(frozen=True)
class Markup:
    """How a kind of prompt is placed in 3D Slicer and saved by it.

    Attributes:
        type: what a markups file (.mrk.json) calls it.
        node: class of the node in Slicer's scene.
        name: what follows the segment's name in that of the node, as in ``lesion box``; empty for points.
        signed: whether there are positive and negative ones, told apart by a ``+`` or ``−`` at the name's end.
        places: how many control points make one prompt, None for any number.
    """

    type: str
    node: str
    name: str = ""
    signed: bool = False
    places: int | None = None


@dataclass(frozen=True)
class Drawing:
    """A prompt as a picture shows it, on slices `first` to `last`.

    Attributes:
        first, last: slices, may be fractional.
        style: a mark at the one place, a line through the places, one around them, or a word at their upper right.
        places: (row, column), may be fractional.
        positive: whether what it marks belongs to the segment.
        word: what is written.
    """

    first: float
    last: float
    style: Literal["mark", "line", "outline", "word"]
    places: tuple[tuple[float, float], ...]
    positive: bool = True
    word: str = ""


class PromptKind(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """A kind of prompt.

    Attributes:
        markup: how it is placed in 3D Slicer, None for a kind that is not a markup.
        help: what the command line says of its option.
        aliases: other names of that option.
        draws: whether it draws the slice's mask, which is then the user's own; others are for the network to answer.
    """

    markup: ClassVar[Markup | None] = None
    help: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[bool] = False

    @abstractmethod
    def slice_of(self, frames: Frames) -> int:
        """The slice that the prompt is for, along the axis of `frames`."""

    @abstractmethod
    def check(self, frames: Frames) -> None:
        """Refuse a prompt that does not fit the volume or the axis.

        Raises:
            PromptError: it lies outside the volume, belongs to another axis, or has the wrong shape.
        """

    @abstractmethod
    def add_to(self, told: SlicePrompt, frames: Frames) -> SlicePrompt:
        """What the network is told about the slice with this prompt after what was told before.

        Args:
            told: what was told about the slice before.
            frames: the volume's slices along the session's axis.
        """

    @abstractmethod
    def drawing(self, frames: Frames) -> Drawing:
        """The prompt as a picture shows it."""

    @classmethod
    def from_places(
        cls, places: Sequence[IJK], frames: Frames, positive: bool = True, *, millimetres: bool = False
    ) -> Self:
        """The prompt that a markup's control points, or numbers on the command line, make.

        Args:
            places: voxel indices inside the volume, may be fractional.
            frames: the volume's slices along the session's axis.
            positive: whether what is marked belongs to the segment; of no account where the markup is not signed.
            millimetres: whether they were given in millimetres, so that they seldom hit a voxel's centre.

        Raises:
            PromptError: they make none.
        """
        raise PromptError(f"a {cls.__name__.lower()} is not made of places")

    def span(self, frames: Frames) -> tuple[int, int] | None:
        """First and last slice that the prompt allows a segment; None where it sets no bounds."""
        return None

    def completed(self, shown: Callable[[], NDArray[np.bool_]], beneath: Callable[[], NDArray[np.bool_]]) -> Self:
        """The prompt as it is kept, where it depends on what its slice shows when it is given.

        Args:
            shown: gives the segment's mask on the slice, bool (rows, columns).
            beneath: gives it without the masks drawn there that nothing refined, which `add_to` is told of anyway.

        Raises:
            PromptError: it means nothing for what is shown.
        """
        return self

    def alone(self, frames: Frames) -> SlicePrompt:
        """What the network is told about the slice by this prompt alone."""
        return self.add_to(SlicePrompt(self.slice_of(frames)), frames)


def finite(values: Sequence[float], names: str, what: str) -> tuple[float, ...]:
    """So many finite numbers as there are names.

    Args:
        values: whatever was given.
        names: of the numbers, as in ``i, j, k``.
        what: they are, for the message.

    Raises:
        PromptError: they are something else.
    """
    count = {2: "two", 3: "three"}[len(names.split(", "))]
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise PromptError(f"{what} must be {count} numbers {names}, not {values!r}") from None
    if len(numbers) != len(names.split(", ")) or not np.all(np.isfinite(numbers)):
        raise PromptError(f"{what} must be {count} finite numbers {names}, not {values!r}")
    return numbers


def three(values: Sequence[float], what: str) -> IJK:
    """A voxel index; see `finite`."""
    i, j, k = finite(values, "i, j, k", what)
    return i, j, k


def check_inside(ijk: IJK, what: str, frames: Frames) -> None:
    """Refuse a voxel index outside the volume.

    Raises:
        PromptError: it is.
    """
    k, j, i = frames.volume.shape
    if not all(-0.5 <= v <= n - 0.5 for v, n in zip(ijk, (i, j, k), strict=True)):
        text = ", ".join(f"{v:g}" for v in ijk)
        raise PromptError(
            f"the {what} at i, j, k = {text} lies outside the volume of {i} × {j} × {k} voxels (counted from 0)"
        )


def check_slice(slice_index: int, frames: Frames) -> None:
    """Refuse a slice that is not there.

    Raises:
        PromptError: it is not.
    """
    if not 0 <= slice_index < frames.count:
        raise PromptError(f"there is no slice {slice_index} along {frames.axis}; slices are 0 to {frames.count - 1}")


def nearest_slice(ijk: IJK, frames: Frames) -> int:
    """The slice that a voxel index lies on."""
    return min(max(0, math.floor(frames.from_ijk(ijk)[0] + 0.5)), frames.count - 1)


def nearest_voxel(ijk: IJK, frames: Frames) -> IJK:
    """The voxel that a place lies in; at a face, the one with the higher index."""
    i, j, k = (
        float(min(max(math.floor(v + 0.5), 0), n - 1)) for v, n in zip(ijk, frames.volume.shape[::-1], strict=True)
    )
    return i, j, k
