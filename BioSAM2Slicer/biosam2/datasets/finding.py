"""Making a manifest of what lies in a folder: each layout has a reader, and a way to be recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from . import davis, dicom_seg, nnunet, npz, pairs
from .case import Case, check_cases
from .layout import DatasetOptions, Reader, images_in
from .patterns import Paths, paths_below
from .published import PUBLISHED
from .splits import read_splits, with_splits

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".001")
_UNFINISHED = (".part", ".crdownload", ".aria2", ".tmp", ".download", ".filepart")


def _has_npz(folder: Path) -> bool:
    return any(folder.rglob("*.npz"))


def _has_images(folder: Path) -> bool:
    return bool(images_in(folder))


# In the order in which they are tried, after those of `published`.
_GENERAL: dict[str, tuple[Callable[[Path], bool], Reader]] = {
    "msd": (nnunet.is_msd, nnunet.read_msd),
    "nnunet": (nnunet.is_nnunet, nnunet.read_nnunet),
    "davis": (davis.is_davis, davis.read),
    "npz": (_has_npz, npz.find),
    "dicom": (dicom_seg.is_dicom_folder, dicom_seg.read),
    "pairs": (_has_images, pairs.read),
}
LAYOUTS = (*PUBLISHED, *_GENERAL)


def find_cases(folder: Path, layout: str | None = None, options: DatasetOptions | None = None) -> list[Case]:
    """The labelled images of a folder.

    Args:
        folder: of a dataset.
        layout: one of `LAYOUTS`; None to recognise it.
        options: what is not to be taken from the files.

    Raises:
        InputError: the layout is not recognised, its reader refuses the folder, or the split files are of another
            dataset; the message says what the folder is.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give the folder of a dataset")
    options = options or DatasetOptions()
    paths = paths_below(folder)
    published = _recognised(paths)
    if layout is None:
        if len(published) > 1:
            names = ", ".join(PUBLISHED[name].title for name in published)
            raise InputError(f"{folder} holds several datasets ({names}); give the folder of one, or say --layout")
        layout = published[0] if published else _general(folder)
    elif layout in PUBLISHED and layout not in published:
        said, advice = _what_it_is(folder)
        if published:
            said, advice = f"it holds {PUBLISHED[published[0]].title}", "give the folder that does"
        raise InputError(f"{folder} does not hold {PUBLISHED[layout].title}: {said}; {advice}")
    if layout not in LAYOUTS:
        said, advice = _what_it_is(folder)
        raise InputError(f"{folder} has none of the known layouts: {said}; {advice}")
    cases = PUBLISHED[layout].read(folder, options) if layout in PUBLISHED else _GENERAL[layout][1](folder, options)
    if not cases:
        said, advice = _what_it_is(folder)
        raise InputError(f"{folder} holds no labelled image: {said}; {advice}")
    check_cases(cases, folder)
    if options.split_files:
        cases = with_splits(cases, read_splits(options.split_files, options.fold), folder)
    return cases


def recognise(folder: Path) -> str | None:
    """The layout of a folder, one of `LAYOUTS`, or None."""
    return next(iter(_recognised(paths_below(folder))), None) or _general(folder)


def _general(folder: Path) -> str | None:
    return next((name for name, (fits, _) in _GENERAL.items() if fits(folder)), None)


def _recognised(paths: Paths) -> list[str]:
    return [name for name, dataset in PUBLISHED.items() if dataset.recognise(paths)]


def _what_it_is(folder: Path) -> tuple[str, str]:
    """Why a folder may hold nothing that is known, and what to do."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        return "it is empty", "give the folder of a dataset"
    unfinished = [path.name for path in files if path.suffix.lower() in _UNFINISHED]
    if unfinished:
        return f"a download in it is not finished ({unfinished[0]})", "finish it and unpack it"
    images = images_in(folder)
    archives = [path.name for path in files if path.suffix.lower() in _ARCHIVES and path not in images]
    if archives:
        return f"it holds archives that are not unpacked ({archives[0]})", "unpack them"
    if images:
        said = f"it holds {len(images)} images ({images[0].relative_to(folder)} …) and no labels that belong to them"
        return said, "give the folder above, or write a manifest for it"
    said = f"it holds {len(files)} files and no image among them ({files[0].relative_to(folder)} …)"
    return said, "give the folder of a dataset"
