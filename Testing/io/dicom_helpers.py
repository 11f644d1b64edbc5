"""DICOM files to test with: pydicom's own, and series and multi-frame objects made on a given grid."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom.data
from biosam2.volume import Volume
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

SHIPPED = Path(pydicom.data.__file__).parent / "test_files"
"""The test files that come inside the pydicom package."""


def write_series(folder: Path, volume: Volume, *, shuffle: int | None = None, **changes: object) -> list[Path]:
    """Write int16 voxels as a CT series, one file a slice, named in an order that says nothing if shuffled."""
    folder.mkdir(exist_ok=True, parents=True)
    template = dcmread(SHIPPED / "CT_small.dcm")
    template.SeriesInstanceUID = generate_uid()
    template.FrameOfReferenceUID = generate_uid()
    del template[0xFFFC, 0xFFFC]  # padding at the end, which would hide that a file is cut
    del template.SpacingBetweenSlices
    template.RescaleSlope, template.RescaleIntercept = 1, -1000
    names = np.arange(len(volume.array))
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(names)
    files = []
    for k, (name, pixels) in enumerate(zip(names, volume.array, strict=True)):
        ds = copy.deepcopy(template)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = int(name)
        _put(ds, ds, ds, volume, k)
        ds.Rows, ds.Columns = pixels.shape
        ds.PixelData = (pixels.astype(np.int32) + 1000).astype(np.int16).tobytes()
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        files.append(folder / f"IM{name:04}")
        ds.save_as(files[-1])
    return files


def write_enhanced(path: Path, volume: Volume, order: Sequence[int] | None = None, **per_frame: NDArray) -> Path:
    """Write uint16 voxels as an enhanced MR, frames in the given order of slices, with a slope and intercept each."""
    order = range(len(volume.array)) if order is None else order
    ds = dcmread(SHIPPED / "MR_small.dcm")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.NumberOfFrames = len(order)
    ds.Rows, ds.Columns = volume.array.shape[1:]
    ds.PixelRepresentation = 0
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelData = volume.array[list(order)].astype("<u2").tobytes()
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    for frame, k in enumerate(order):
        group, place = Dataset(), Dataset()
        _put(place, shared.PlaneOrientationSequence[0], shared.PixelMeasuresSequence[0], volume, k)
        group.PlanePositionSequence = [place]
        if per_frame:
            values = Dataset()
            values.RescaleSlope = _decimal(per_frame["slope"][frame])
            values.RescaleIntercept = _decimal(per_frame["intercept"][frame])
            values.RescaleType = "US"
            group.PixelValueTransformationSequence = [values]
        frames.append(group)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.save_as(path)
    return path


def _put(position: Dataset, orientation: Dataset, measures: Dataset, volume: Volume, k: int) -> None:
    """Say where slice k lies."""
    position.ImagePositionPatient = [_decimal(v) for v in volume.lps_from_ijk((0, 0, k))]
    orientation.ImageOrientationPatient = [_decimal(v) for v in volume.direction[:, :2].T.ravel()]
    measures.PixelSpacing = [_decimal(volume.spacing[1]), _decimal(volume.spacing[0])]
    measures.SliceThickness = _decimal(volume.spacing[2])


def _decimal(value: float) -> str:
    """A decimal string has 16 characters at most."""
    return f"{value:.9g}"[:16]
