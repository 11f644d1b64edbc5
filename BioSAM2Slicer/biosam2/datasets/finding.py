"""Making a manifest of what lies in a folder: each layout has a reader, and a way to be recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from . import davis, dicom_seg, nnunet, npz, pairs
from .case import Case, check_cases
from .layout import DatasetOptions, Reader, images_in


def _has_npz(folder: Path) -> bool:
    return any(folder.rglob("*.npz"))


def _has_images(folder: Path) -> bool:
    return bool(images_in(folder))


# In the order in which they are tried.
_LAYOUTS: dict[str, tuple[Callable[[Path], bool], Reader]] = {
    "msd": (nnunet.is_msd, nnunet.read_msd),
    "nnunet": (nnunet.is_nnunet, nnunet.read_nnunet),
    "davis": (davis.is_davis, davis.read),
    "npz": (_has_npz, npz.find),
    "dicom": (dicom_seg.is_dicom_folder, dicom_seg.read),
    "pairs": (_has_images, pairs.read),
}
LAYOUTS = tuple(_LAYOUTS)


def find_cases(folder: Path, layout: str | None = None, options: DatasetOptions | None = None) -> list[Case]:
    """The labelled images of a folder.

    Args:
        folder: of a dataset.
        layout: one of `LAYOUTS`; None to recognise it.
        options: what is not to be taken from the files.

    Raises:
        InputError: the layout is not recognised, or its reader refuses the folder.
    """
    folder = folder.absolute()
    chosen = layout or next((name for name, (recognise, _) in _LAYOUTS.items() if recognise(folder)), None)
    if chosen not in _LAYOUTS:
        raise InputError(f"{folder} has none of the layouts {', '.join(LAYOUTS)}; write a manifest for it")
    cases = _LAYOUTS[chosen][1](folder, options or DatasetOptions())
    check_cases(cases, folder)
    return cases
