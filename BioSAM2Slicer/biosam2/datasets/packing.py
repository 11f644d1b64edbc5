"""A dataset in one small file, to be taken to another machine: its images as the network sees them, in a ZIP archive.

Voxels become 8 bits between the percentiles that the network would be shown, and slices are reduced to a size. Single
images and frames of videos are JPEG (colours at full resolution), volumes gzipped NRRD, labels PNG or NRRD.

The archive holds ``cases.json``, a manifest as any other, so that whoever unpacks it has an ordinary dataset.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..frames import resolve_window, windowed
from ..io import itk
from ..io.atomic import atomic_folder, atomic_path
from ..io.guards import existing
from ..volume import Volume
from .case import Case, Sample, Target
from .manifest import save_dataset
from .opening import open_case

SUFFIX = ".zip"
_MANIFEST = "cases.json"
_MOST_TARGETS = 255  # of an 8-bit labelmap
_ROOM_FOR_MANIFEST = 0.02  # of the file
# The same cases give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Packed:
    """What a packed dataset holds.

    Attributes:
        cases: that are in it, their files relative to nothing that exists.
        left_out: names of those for which there was no room.
        megabytes: size of the file, MiB.
        error: root mean square difference of the images from what they were at that size, 0 to 1: the mean over cases.
        worst: the largest of a case.
    """

    cases: tuple[Case, ...]
    left_out: tuple[str, ...]
    megabytes: float
    error: float
    worst: float


def pack(
    path: str | Path,
    cases: Sequence[Case],
    *,
    size: int = 384,
    most: float = 40.0,
    quality: int = 90,
    report: Callable[[Case], None] | None = None,
) -> Packed:
    """Write a packed dataset.

    Args:
        path: of the archive, ``.zip``.
        cases: to be packed, the sources (the part of a name before ``/``) by turns until there is no room.
        size: rows and columns that larger slices are reduced to, their aspect kept.
        most: size of the file, MiB.
        quality: of JPEG, 1 to 95.
        report: told of each case once it is packed.

    Raises:
        InputError: the path has another extension, a case cannot be read, or there is no room for a single one.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != SUFFIX:
        raise InputError(f"a packed dataset is a {SUFFIX} file, not {target.name}; give such a name")
    room = most * 2**20 * (1 - _ROOM_FOR_MANIFEST)
    packed: list[Case] = []
    left_out: list[str] = []
    errors: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, case in enumerate(_by_turns(cases)):
            place = folder / f"{number:05d}"
            place.mkdir()
            small, error = _write(place, _reduced(open_case(case), size), quality)
            needed = _bytes(place)
            if needed > room:
                left_out.append(case.name)
                for file in _files(place):
                    file.unlink()
                continue
            room -= needed
            packed.append(small)
            errors.append(error)
            if report is not None:
                report(case)
        if not packed:
            raise InputError(f"{most:g} MiB have no room for a single case; allow more, or reduce the size")
        order = {case.name: number for number, case in enumerate(cases)}
        packed.sort(key=lambda case: order[case.name])
        save_dataset(folder / _MANIFEST, packed)
        with atomic_path(target) as partial, zipfile.ZipFile(partial, "w") as archive:
            for file in _files(folder):
                entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED if file.suffix == ".json" else zipfile.ZIP_STORED
                archive.writestr(entry, file.read_bytes())
    megabytes = target.stat().st_size / 2**20
    return Packed(tuple(packed), tuple(left_out), megabytes, float(np.mean(errors)), float(np.max(errors)))


def unpack(path: str | Path, folder: str | Path) -> Path:
    """Write a packed dataset's files to a folder, whole or not at all; returns its manifest.

    Args:
        path: of the archive.
        folder: made if it is not there; where it holds the manifest already it is left as it is.

    Raises:
        InputError: it is no packed dataset, or it is damaged.
        OutputError: the folder cannot be written.
    """
    source, target = existing(path), Path(folder)
    manifest = target / _MANIFEST
    if manifest.is_file():
        return manifest
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(source) as archive:
            if _MANIFEST not in archive.namelist():
                raise InputError(f"{source} holds no {_MANIFEST}; give a file that 'biosam2 data pack' wrote")
            with atomic_folder(target) as partial:
                archive.extractall(partial)
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{source} is damaged ({error}); copy it again") from error
    return manifest


def _by_turns(cases: Sequence[Case]) -> Iterable[Case]:
    """One case of each source, then the next of each, so that what has no room is not one source."""
    sources: dict[str, list[Case]] = {}
    for case in cases:
        sources.setdefault(case.name.partition("/")[0], []).append(case)
    return (case for case in chain.from_iterable(zip_longest(*sources.values())) if case is not None)


def _reduced(sample: Sample, size: int) -> Sample:
    """Voxels 0 to 1 as the network is shown them, slices of at most `size` rows and columns, masks likewise."""
    volume = sample.volume
    shown = windowed(volume.array, resolve_window(None, volume))
    slices, rows, columns = volume.shape
    factor = min(1.0, size / max(rows, columns))
    if factor == 1.0:
        return replace(sample, volume=replace(volume, array=shown))
    shape = (max(1, round(rows * factor)), max(1, round(columns * factor)))
    array = np.stack([_resized(shown[k], shape) for k in range(slices)])
    masks = {
        name: np.stack([_resized(mask[k].astype(np.float32), shape) > 0.5 for k in range(slices)])
        for name, mask in sample.masks.items()
    }
    i, j, k = volume.spacing
    spacing = (i * columns / shape[1], j * rows / shape[0], k)
    origin = volume.lps_from_ijk(((columns / shape[1] - 1) / 2, (rows / shape[0] - 1) / 2, 0.0))
    reduced = Volume(array, spacing, tuple(origin.tolist()), volume.direction)
    return Sample(sample.case, reduced, masks)


def _resized(pixels: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Pixels (rows, columns) or (rows, columns, 3) in another size, smoothed before they are sampled."""
    if pixels.ndim == 3:
        return np.stack([_resized(pixels[..., c], shape) for c in range(3)], axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(pixels, np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR))


def _write(folder: Path, sample: Sample, quality: int) -> tuple[Case, float]:
    """Write a case's files; returns the case that names them, and how far its image is from what was given."""
    case, volume = sample.case, sample.volume
    voxels = np.round(volume.array * 255).astype(np.uint8)
    masks = dict(list(sample.masks.items())[:_MOST_TARGETS])
    if case.kind == "3D":
        image = folder / "image.nrrd"
        itk.write(image, replace(volume, array=voxels, metadata={}))
        kept = voxels
    elif case.kind == "2D":
        image = folder / "image.jpg"
        kept = _jpeg(image, voxels[0], quality)[None]
    else:
        image = folder / "image"
        image.mkdir()
        kept = np.stack([_jpeg(image / f"{n:05d}.jpg", frame, quality) for n, frame in enumerate(voxels)])
    targets = []
    for number, (names, labels) in enumerate(_labels(masks, volume.shape)):
        label = _write_labels(folder / f"label-{number}", labels, sample)
        targets += [Target(name, (label,), (value,)) for value, name in enumerate(names, start=1)]
    error = float(np.sqrt(np.mean(np.square(kept.astype(np.float32) / 255 - volume.array))))
    return replace(case, image=image, targets=tuple(targets), series="", channel=None), error


def _jpeg(path: Path, frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Write a frame; returns it as it will be read."""
    Image.fromarray(frame).save(path, quality=quality, subsampling=0, optimize=True)
    with Image.open(path) as written:
        return np.asarray(written)


def _labels(masks: dict[str, Bools], shape: tuple[int, int, int]) -> list[tuple[list[str], NDArray[np.uint8]]]:
    """Targets as labelmaps with values from 1, as few as they overlap in."""
    maps: list[tuple[list[str], NDArray[np.uint8]]] = []
    for name, mask in masks.items():
        free = next((pair for pair in maps if not pair[1][mask].any()), None)
        if free is None:
            free = ([], np.zeros(shape, np.uint8))
            maps.append(free)
        free[0].append(name)
        free[1][mask] = len(free[0])
    return maps


def _write_labels(stem: Path, labels: NDArray[np.uint8], sample: Sample) -> Path:
    if sample.case.kind == "3D":
        path = stem.with_suffix(".nrrd")
        itk.write(path, replace(sample.volume, array=labels, metadata={}))
        return path
    if sample.case.kind == "2D":
        path = stem.with_suffix(".png")
        Image.fromarray(labels[0]).save(path, optimize=True)
        return path
    stem.mkdir()
    for number, frame in enumerate(labels):
        Image.fromarray(frame).save(stem / f"{number:05d}.png", optimize=True)
    return stem


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _bytes(folder: Path) -> float:
    """What a folder's files take in an archive, their entries included."""
    return float(sum(file.stat().st_size + 2 * (len(file.name) + 80) for file in _files(folder)))
