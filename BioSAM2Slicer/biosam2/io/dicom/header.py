"""What one DICOM file says about its images, taken out once and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from ...errors import InputError
from ..formats import is_dicom
from ..guards import quiet, unreadable
from ..times import rate_of

_SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


@dataclass(frozen=True, eq=False)
class FramePlace:
    """Where one frame lies.

    Attributes:
        position: LPS of the centre of its first pixel, mm.
        along_i: unit vector along which the column index grows.
        along_j: unit vector along which the row index grows.
        spacing: distance between pixel centres along i and j, mm.
    """

    position: NDArray[np.float64]
    along_i: NDArray[np.float64]
    along_j: NDArray[np.float64]
    spacing: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Header:
    """One DICOM file without its pixels.

    Attributes:
        path: the file.
        kind: name of its SOP class.
        is_image: whether it holds an image that can be segmented.
        is_segmentation: whether it is a DICOM SEG.
        series_uid: SeriesInstanceUID.
        modality: CT, MR, US …
        description: SeriesDescription.
        rows: number of pixels along j.
        columns: number of pixels along i.
        samples: numbers per pixel as stored, 1 or 3.
        bits: size of a stored number.
        n_frames: number of frames.
        places: where each frame lies; empty where the file does not say it.
        pixel_spacing: along i and j in mm, (1, 1) where the file does not say it.
        calibrated: whether the file says how large a pixel is in the patient.
        thickness: distance to the next slice that the file announces, mm, 1 if none.
        fps: frames a second, None if not a cine.
        times: seconds of each frame from the first, where the file says them one by one; empty where it does not.
    """

    path: Path
    kind: str
    is_image: bool
    is_segmentation: bool
    series_uid: str
    modality: str
    description: str
    rows: int
    columns: int
    samples: int
    bits: int
    n_frames: int
    places: tuple[FramePlace, ...]
    pixel_spacing: tuple[float, float]
    calibrated: bool
    thickness: float
    fps: float | None
    times: tuple[float, ...]

    @property
    def n_bytes(self) -> int:
        """Size of the decoded pixels as stored."""
        return self.rows * self.columns * self.samples * self.n_frames * max(self.bits // 8, 1)


def read_header(path: Path) -> Header:
    """Read one file up to its pixels.

    Raises:
        InputError: it is damaged or no DICOM file.
    """
    if not is_dicom(path):
        raise InputError(f"{path} is not a DICOM file, whatever its name says (it lacks the mark DICM)")
    with unreadable(path, "DICOM"), quiet():
        return _header(path, dcmread(path, stop_before_pixels=True))


def _header(path: Path, ds: Dataset) -> Header:
    rows, columns = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
    sop_class = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
    n_frames = int(ds.get("NumberOfFrames") or 1)
    if n_frames < 1:
        raise ValueError(f"it announces {n_frames} frames")
    is_image = rows > 0 and columns > 0 and sop_class not in _SEGMENTATION
    places = frame_places(ds, n_frames) if is_image else ()
    times = _frame_times(ds, n_frames)
    thickness = float(ds.get("SpacingBetweenSlices") or ds.get("SliceThickness") or 1.0)
    return Header(
        path=path,
        kind=_text(getattr(sop_class, "name", "no SOP class")),
        is_image=is_image,
        is_segmentation=sop_class in _SEGMENTATION,
        series_uid=_text(ds.get("SeriesInstanceUID") or ""),
        modality=_text(ds.get("Modality") or ""),
        description=_text(ds.get("SeriesDescription") or ""),
        rows=rows,
        columns=columns,
        samples=int(ds.get("SamplesPerPixel") or 1),
        bits=int(ds.get("BitsAllocated") or 8),
        n_frames=n_frames,
        places=places,
        pixel_spacing=_pixel_spacing(ds),
        calibrated=bool(places or ds.get("PixelSpacing")) or _ultrasound_spacing(ds) is not None,
        thickness=abs(thickness) or 1.0,
        fps=_frame_rate(ds) or (rate_of(np.array(times)) if times else None),
        times=times,
    )


def _text(value: object) -> str:
    """One printable line: it will stand in messages."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def frame_places(ds: Dataset, n_frames: int) -> tuple[FramePlace, ...]:
    """Of each frame: from the functional groups of enhanced objects, a dose grid's offsets, or the file itself."""
    shared = _first(ds, "SharedFunctionalGroupsSequence")
    per_frame = ds.get("PerFrameFunctionalGroupsSequence") or []
    if per_frame:
        if len(per_frame) != n_frames:
            raise ValueError(f"it announces {n_frames} frames and describes {len(per_frame)}")
        places = [_place(*(_group(name, frame, shared) for name in _GROUPS)) for frame in per_frame]
        return tuple(p for p in places if p is not None) if all(p is not None for p in places) else ()
    place = _place(ds, ds, ds)
    if place is None:
        return ()
    offsets = ds.get("GridFrameOffsetVector")
    if offsets is not None and len(offsets) == n_frames:
        normal = np.cross(place.along_i, place.along_j)
        return tuple(
            FramePlace(place.position + float(o) * normal, place.along_i, place.along_j, place.spacing) for o in offsets
        )
    return (place,) if n_frames == 1 else ()


_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def _group(name: str, frame: Dataset, shared: Dataset | None) -> Dataset | None:
    """A functional group of a frame, or else the one that all frames share."""
    return _first(frame, name) or (_first(shared, name) if shared is not None else None)


def _first(ds: Dataset, name: str) -> Dataset | None:
    sequence = ds.get(name)
    return sequence[0] if sequence else None


def _place(position: Dataset | None, orientation: Dataset | None, measures: Dataset | None) -> FramePlace | None:
    where = position.get("ImagePositionPatient") if position is not None else None
    axes = orientation.get("ImageOrientationPatient") if orientation is not None else None
    if not where or not axes:
        return None
    along = np.array([float(v) for v in axes])
    origin = np.array([float(v) for v in where])
    if along.shape != (6,) or origin.shape != (3,) or not np.isfinite([*along, *origin]).all():
        raise ValueError("its ImagePositionPatient or ImageOrientationPatient is damaged")
    along_i, along_j = along[:3], along[3:]
    if not np.allclose(np.linalg.norm([along_i, along_j], axis=1), 1, atol=0.02) or abs(along_i @ along_j) > 0.02:
        raise ValueError("its ImageOrientationPatient does not give two unit vectors at right angles")
    # Decimal strings are rounded: make them orthonormal again.
    along_i = along_i / np.linalg.norm(along_i)
    along_j = along_j - (along_j @ along_i) * along_i
    spacing = _pixel_spacing(measures) if measures is not None else (1.0, 1.0)
    return FramePlace(origin, along_i, along_j / np.linalg.norm(along_j), spacing)


def _pixel_spacing(ds: Dataset) -> tuple[float, float]:
    """Along i and j in mm; DICOM gives the distance between rows (j) first."""
    pair = ds.get("PixelSpacing") or ds.get("ImagerPixelSpacing")
    if pair:
        along_j, along_i = (float(v) for v in pair)
    else:
        along_i, along_j = _ultrasound_spacing(ds) or (1.0, 1.0)
    if not (np.isfinite([along_i, along_j]).all() and along_i > 0 and along_j > 0):
        raise ValueError(f"its pixel spacing {along_i:g}, {along_j:g} is not positive")
    return along_i, along_j


def _ultrasound_spacing(ds: Dataset) -> tuple[float, float] | None:
    """Of the tissue regions of an ultrasound image, if they agree; None otherwise."""
    regions = [
        (abs(float(region.PhysicalDeltaX)) * 10, abs(float(region.PhysicalDeltaY)) * 10)  # cm
        for region in ds.get("SequenceOfUltrasoundRegions") or []
        if region.get("RegionDataType") == 1
        and region.get("PhysicalUnitsXDirection") == 3
        and region.get("PhysicalUnitsYDirection") == 3
    ]
    if regions and np.allclose(regions, regions[0], rtol=1e-3) and min(regions[0]) > 0:
        return regions[0]
    return None


def _frame_rate(ds: Dataset) -> float | None:
    if ds.get("FrameTime"):
        return 1000.0 / float(ds.FrameTime)
    rate = ds.get("CineRate") or ds.get("RecommendedDisplayFrameRate")
    return float(rate) if rate else None


def _frame_times(ds: Dataset, n_frames: int) -> tuple[float, ...]:
    """Of the frame time vector (milliseconds since the frame before); empty where there is none that fits."""
    steps = ds.get("FrameTimeVector")
    if steps is None or n_frames < 2 or len(steps) != n_frames:
        return ()
    times = np.cumsum([float(step) for step in steps]) / 1000
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        return ()
    return tuple(float(time) for time in times - times[0])
