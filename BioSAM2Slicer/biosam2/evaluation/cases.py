"""Labelled volumes to measure on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..io import read_labelmap, read_volume
from ..volume import Volume


@dataclass(frozen=True, eq=False)
class Case:
    """One target in one volume.

    Attributes:
        name: of the volume.
        target: what is to be segmented.
        volume: the image.
        mask: bool (K, J, I), where the target truly is.
    """

    name: str
    target: str
    volume: Volume
    mask: NDArray[np.bool_]

    @property
    def title(self) -> str:
        """Volume and target in one line."""
        return f"{self.name}: {self.target}"


# The targets of each shared volume, and the labels that they are made of. Structures that come in pairs are two
# targets, as a reader would mark them; the right ones are left out of the card to save time, and serve as a check.
_ATLAS = {
    "caudate, left": (71,),
    "putamen, left": (73,),
    "thalamus, left": (77,),
    "cerebellum": tuple(range(91, 117)),
}
_ATLAS_RIGHT = {"caudate, right": (72,), "putamen, right": (74,), "thalamus, right": (78,)}
_SHARED: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "mr-brain-tumour": (".nrrd", {"tumour": (1,)}),
    "ct-lung-nodule": (".nrrd", {"nodule": (1,)}),
    "mr-breast-lesion": (".nrrd", {"lesion": (1,)}),
    "mr-prostate-phantom": (".nrrd", {f"label {n}": (n,) for n in (1, 7, 8, 9)}),
    "mr-brain-atlas": (".nii.gz", _ATLAS),
}


def shared_cases(folder: Path, right: bool = False) -> Iterator[Case]:
    """The five labelled volumes of the project's shared data, target by target.

    Args:
        folder: that holds a folder for each volume, with an image and a label file.
        right: give the atlas's right-hand structures instead of all others.

    Raises:
        InputError: the folder does not hold them.
    """
    chosen = {"mr-brain-atlas": (".nii.gz", _ATLAS_RIGHT)} if right else _SHARED
    for name, (extension, targets) in chosen.items():
        if not (folder / name).is_dir():
            raise InputError(f"{folder} holds no folder {name}; give the folder of the shared cases")
        volume = read_volume(folder / name / f"image{extension}")
        labels = read_labelmap(folder / name / f"label{extension}", like=volume).array
        for target, values in targets.items():
            yield Case(name, target, volume, np.isin(labels, values))
