"""One labelled image of a dataset, as its files name it and as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..volume import Volume

CaseKind = Literal["2D", "3D", "video"]
CASE_KINDS: tuple[CaseKind, ...] = get_args(CaseKind)


COLOUR = 1 << 24
"""Label values from here on are colours of a picture: this number and 0xRRGGBB."""


def colour(text: str) -> int:
    """The label value of a colour that is written ``#RRGGBB``.

    Raises:
        ValueError: it is not written so.
    """
    if len(text) != 7 or text[0] != "#":
        raise ValueError(f"{text!r} is no colour; write #RRGGBB")
    return COLOUR + int(text[1:], 16)


def value_text(value: int) -> str:
    """A label value as it is written: a number, or a colour ``#RRGGBB``."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


def read_value(text: str) -> int:
    """The label value that `value_text` wrote.

    Raises:
        ValueError: it is neither a whole number nor a colour.
    """
    return colour(text) if text.startswith("#") else int(text)


@dataclass(frozen=True)
class Target:
    """Something that is labelled in an image.

    Attributes:
        name: what it is.
        labels: the files that mark it; a voxel belongs to it where any of them does.
        values: label values that it is made of (of a .seg.nrrd or a DICOM SEG: segment numbers, the first is 1; of
            a picture in colours: what `colour` gives); none for every value but 0.
        piece: which connected piece of that, 1 for the largest; None for all of it.
    """

    name: str
    labels: tuple[Path, ...]
    values: tuple[int, ...] = ()
    piece: int | None = None


@dataclass(frozen=True)
class Case:
    """One image with its targets.

    Attributes:
        name: unique in its dataset.
        image: whatever `read_volume` takes (for a video `read_video`), or an NPZ file that holds image and labels.
        targets: at least one.
        modality: CT, MR, US, or what the dataset calls it; may be empty.
        split: train, val, test, or what the dataset calls it; may be empty.
        kind: 2D, 3D or video.
        series: SeriesInstanceUID, where `image` is a folder of several DICOM series.
        channel: which one of an image with several, as the fourth dimension of NIfTI; None where there is one.
        dataset: that it comes from, as protocols name it (``amos22``); may be empty.
    """

    name: str
    image: Path
    targets: tuple[Target, ...]
    modality: str = ""
    split: str = ""
    kind: CaseKind = "3D"
    series: str = ""
    channel: int | None = None
    dataset: str = ""


@dataclass(frozen=True, eq=False)
class Sample:
    """A case that has been read, by `open_case`.

    Attributes:
        case: where it comes from.
        volume: the image; K = 1 for 2D, K = frames for video.
        masks: bool (K, J, I) of each target by name, in the case's order; one may be empty, and they may overlap.
    """

    case: Case
    volume: Volume
    masks: dict[str, NDArray[np.bool_]]

    @property
    def labels(self) -> NDArray[Any]:
        """uint8 or uint16 (K, J, I): 1 + the position of the target in `case.targets`, the later one on overlap."""
        from ..io.segmented import labelmap_of

        return labelmap_of(self.volume.shape, self.masks, self.masks.__getitem__)


def check_cases(cases: Sequence[Case], source: Path) -> None:
    """Refuse a list of cases that cannot be a dataset.

    Args:
        cases: all of it.
        source: where it comes from, for the message.

    Raises:
        InputError: it is empty, a name is given twice or is empty, or a case lacks targets or names one twice.
    """
    if not cases:
        raise InputError(f"{source} holds no cases; give a manifest with rows or a folder with labelled images")
    names: set[str] = set()
    for case in cases:
        if not case.name.strip() or not case.name.isprintable():
            raise InputError(f"{source}: a case of {case.image} has no proper name ({case.name!r}); give it one")
        for path in (case.image, *(label for target in case.targets for label in target.labels)):
            if not str(path).isprintable():
                raise InputError(f"{source}: case {case.name} names a file that cannot be ({str(path)!r}); correct it")
        if case.name in names:
            raise InputError(f"{source}: two cases are called {case.name}; give each its own name")
        names.add(case.name)
        targets = [target.name for target in case.targets]
        if not targets or len(set(targets)) < len(targets):
            raise InputError(f"{source}: case {case.name} must name its targets once each, not {targets}")
