"""What published evaluations do to an image and to its labels before a model sees them, each by its name.

Sources: [MedSAM] github.com/bowang-lab/MedSAM, utils/README.md and pre_CT_MR.py; [MedSAM2]
github.com/bowang-lab/MedSAM2, medsam2_infer_3D_CT.py; [RadioActive] github.com/MIC-DKFZ/radioactive,
src/radioa/model/SAM.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..frames import windowed
from ..masks import numbered_pieces
from ..volume import Volume

Bools = NDArray[np.bool_]
WindowRule = Literal["engine", "medsam", "percentiles", "full"]
ResizeRule = Literal["engine", "medsam", "medsam2"]

# Centre and width in HU by group of organs [MedSAM, utils/README.md], and the words that tell a group.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "soft tissue": (40.0, 400.0),
    "chest": (-600.0, 1500.0),
    "brain": (40.0, 80.0),
}
_GROUPS = {
    "chest": ("lung", "lungs", "pulmonary", "airway", "airways", "bronchus", "bronchi", "trachea", "pneumonia", "lobe"),
    "brain": (
        "brain",
        "cerebellum",
        "intracranial",
        "haemorrhage",
        "hemorrhage",
        "haematoma",
        "hematoma",
        "ventricles",
    ),
}
_PERCENTILES = (0.5, 99.5)
# DICOM codes of modalities whose intensities MedSAM cuts at percentiles: MR, ultrasound, mammography, OCT.
_CUT = ("MR", "US", "MG", "OPT")


def ct_group(target: str) -> str:
    """The group of organs, a key of `CT_WINDOWS`, that a target belongs to by its name; soft tissue where none does."""
    words = set(target.lower().replace("_", " ").replace(",", " ").split())
    return next((group for group, known in _GROUPS.items() if words & set(known)), "soft tissue")


def window_of(rule: WindowRule, volume: Volume, modality: str, target: str) -> tuple[float, float] | None:
    """The window in which a volume is shown.

    Args:
        rule: ``engine``: None, which leaves it to the engine. ``full``: 8-bit values as they are, others from their
            least to their greatest. ``percentiles`` [RadioActive]: 0.5 to 99.5 of all voxels. ``medsam`` [MedSAM]: of
            CT the window of the target's group; of MR, US, MG and OPT percentiles 0.5 to 99.5 of the voxels above 0;
            of all others ``full``.
        volume: the image. 8-bit CT is taken for windowed already.
        modality: DICOM's code; a longer description counts by its first word.
        target: its name.

    Returns:
        (centre, width) in the voxels' unit, or None.
    """
    code = modality.split()[0].upper() if modality else ""
    voxels = volume.array[np.isfinite(volume.array)] if volume.array.dtype.kind == "f" else volume.array
    if rule == "engine" or voxels.size == 0:
        return None
    if rule == "medsam" and code == "CT" and volume.array.dtype != np.uint8:
        return CT_WINDOWS[ct_group(target)]
    if rule == "medsam" and code in _CUT:
        above = voxels[voxels > 0]
        return _between(*np.percentile(above if above.size else voxels, _PERCENTILES))
    if rule == "percentiles":
        return _between(*np.percentile(voxels, _PERCENTILES))
    return (127.5, 255.0) if volume.array.dtype == np.uint8 else _between(voxels.min(), voxels.max())


def without_small(mask: Bools, least_area: int, least_volume: int) -> Bools:
    """A target without its small pieces, as MedSAM leaves them out: they are hard to find rather than to outline.

    Args:
        mask: bool (K, J, I).
        least_area: pixels of a piece in a slice, neighbours across edges and corners; smaller ones are dropped.
        least_volume: voxels of a piece in the volume, likewise; dropped first. Only of K > 1.

    Returns:
        bool (K, J, I), the same object where nothing was dropped.
    """
    kept = _large(mask, least_volume) if mask.shape[0] > 1 else mask
    slices = list(kept)
    large = [_large(one, least_area) for one in slices]
    return kept if all(a is b for a, b in zip(slices, large, strict=True)) else np.stack(large)


def largest_piece(mask: Bools) -> Bools:
    """The largest connected piece of a result, as MedSAM2's inference keeps it; empty where the mask is."""
    return numbered_pieces(mask) == 1


def labelled_slices(mask: Bools) -> slice:
    """The range of slices, along k, from the first to the last that show a target.

    FLARE22 compares aorta, inferior vena cava and esophagus within them: where these end is a convention. (Its script
    leaves out the last one of them; here it counts.)
    """
    present = np.flatnonzero(mask.any(axis=(1, 2)))
    return slice(int(present[0]), int(present[-1]) + 1)


def resized_volume(volume: Volume, window: tuple[float, float], rule: ResizeRule, size: int) -> Volume:
    """A volume's slices along k as 8-bit pictures of the network's size.

    Args:
        volume: grey (K, J, I) or colour (K, J, I, 3).
        window: in which it is shown.
        rule: ``medsam``: order 3 with antialiasing by scikit-image [MedSAM, pre_CT_MR.py]; ``medsam2``: Pillow's
            bicubic of 8-bit pictures [MedSAM2]. Neither keeps the aspect. (``engine`` resizes by itself, bilinear with
            antialiasing.)
        size: S, of the network's input.

    Returns:
        uint8 (K, S, S) or (K, S, S, 3), its spacing as much larger as the slices are smaller.

    Raises:
        InputError: the rule is the engine's.
    """
    if rule == "engine":
        raise InputError("the engine resizes by itself; use medsam or medsam2")
    shown = np.round(255 * windowed(volume.array, window)).astype(np.uint8)
    rows, columns = volume.shape[1:3]
    i, j, k = volume.spacing
    made = _pillow if rule == "medsam2" else _scikit_image
    array = np.stack([made(one, (size, size)) for one in shown])
    return replace(volume, array=array, spacing=(i * columns / size, j * rows / size, k))


def resized_mask(mask: Bools, size: int) -> Bools:
    """A target on slices of the network's size: the nearest pixel's [MedSAM].

    Args:
        mask: bool (K, J, I).
        size: rows and columns of a slice, S.

    Returns:
        bool (K, S, S).
    """
    places = [((np.arange(size) + 0.5) * old / size).astype(int) for old in mask.shape[1:]]
    return mask[:, places[0][:, None], places[1]]


def restored(mask: Bools, shape: Sequence[int]) -> Bools:
    """A mask of resized slices on the volume's own: linear between pixels, above a half.

    Args:
        mask: bool (K, S, S).
        shape: of the volume, (K, J, I).

    Returns:
        bool (K, J, I).
    """
    from skimage import transform

    def back(one: Bools) -> Bools:
        if not one.any():
            return np.zeros(shape[1:], bool)
        return transform.resize(one.astype(np.float32), shape[1:], order=1, mode="edge", anti_aliasing=False) > 0.5

    return np.stack([back(one) for one in mask])


def _pillow(picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BICUBIC))


def _scikit_image(picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    from skimage import transform

    found = transform.resize(picture, shape, order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    return np.clip(np.round(found), 0, 255).astype(np.uint8)


def _large(mask: Bools, least: int) -> Bools:
    """A mask without pieces of fewer elements."""
    if least <= 1 or not mask.any():
        return mask
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= least
    keep[0] = False
    return mask if keep[1:].all() else keep[labels]


def _between(low: float, high: float) -> tuple[float, float]:
    low, high = float(low), float(high)
    return (low + high) / 2, high - low if high > low else max(abs(low), 1.0)
