"""DICOM SEG by highdicom: the segments as an object of the patient's study."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset, dcmread

from ...errors import DependencyError, InputError, OutputError
from ..atomic import atomic_path
from ..colours import segment_colour
from ..guards import existing, quiet, unreadable

if TYPE_CHECKING:
    from ..segmentation import Segmented

_SERIES_NUMBER = 300  # out of the way of a scanner's own
_INSTEAD = "write .seg.nrrd or .nii.gz instead"


def write(path: Path, session: Segmented, *, overwrite: bool = True) -> None:
    """Write every segment, overlapping ones too, as a binary DICOM SEG that refers to the images; atomic.

    Raises:
        InputError: the image did not come from DICOM, its files are gone, or it has no place in the patient.
        OutputError: a segment's name cannot stand in DICOM, or the file cannot be written.
        DependencyError: highdicom is not installed.
    """
    try:
        import highdicom
        from highdicom.content import AlgorithmIdentificationSequence
        from pydicom.sr.codedict import codes
    except ImportError:
        raise DependencyError("DICOM SEG is written by highdicom: pip install 'biosam2[dicom]'") from None

    images = _images(path, session)
    order = _frame_order(session, images)
    masks = np.stack([session.mask(name)[order] for name in session.segments], axis=-1)
    if not masks.any():
        raise InputError(f"nothing to write to {path}: every segment is empty")
    version = importlib.metadata.version("biosam2")
    algorithm = AlgorithmIdentificationSequence("BioSAM-2", codes.DCM.ArtificialIntelligence, version)
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=_label(path, name),
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=highdicom.UID(),
            tracking_id=_label(path, name),
            display_color=highdicom.color.CIELabColor.from_rgb(*(round(255 * c) for c in segment_colour(number - 1))),
        )
        for number, name in enumerate(session.segments, start=1)
    ]
    try:
        with quiet():
            segmentation = highdicom.seg.Segmentation(
                source_images=images,
                pixel_array=masks,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                series_instance_uid=highdicom.UID(),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="BioSAM2Slicer",
                manufacturer_model_name="biosam2",
                software_versions=version,
                device_serial_number="0",
                series_description="BioSAM-2 segmentation",
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"cannot write {path}: DICOM SEG needs more than these images say ({str(error).splitlines()[0][:200]}); "
            f"{_INSTEAD}"
        ) from error
    if not all(name.isascii() for name in session.segments):
        segmentation.SpecificCharacterSet = "ISO_IR 192"  # UTF-8; the images' own may not have the letters
    with atomic_path(path, overwrite=overwrite) as temporary:
        segmentation.save_as(temporary)


def _images(path: Path, session: Segmented) -> list[Dataset]:
    """The image's own files, without pixels, in slice order."""
    files = session.volume.metadata.get("dicom_files")
    if not files:
        raise InputError(f"cannot write {path}: DICOM SEG needs an image that was read from DICOM; {_INSTEAD}")
    images: list[Dataset] = []
    for file in map(existing, files):
        with unreadable(file, "DICOM"), quiet():
            images.append(dcmread(file, stop_before_pixels=True))
    if images[0].get("FrameOfReferenceUID") is None:
        raise InputError(f"cannot write {path}: the images have no frame of reference in the patient; {_INSTEAD}")
    return images


def _frame_order(session: Segmented, images: list[Dataset]) -> list[int]:
    """For each frame of the source in its file's order, the slice k that it became."""
    frames = session.volume.metadata.get("dicom_frames")
    if len(images) > 1 or not frames:
        return list(range(session.volume.shape[0]))
    return [int(k) for k in np.argsort(frames)]


def _label(path: Path, name: str) -> str:
    """The segment's name as a DICOM long string."""
    if len(name) > 64 or "\\" in name or not name.isprintable():
        raise OutputError(
            f"cannot write {path}: the segment name {name[:70]!r} cannot stand in DICOM "
            "(at most 64 characters, no backslash); rename it"
        )
    return name
