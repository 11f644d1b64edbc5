"""DICOM SEG: the segments as an object of the patient's study; written by highdicom, read frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from ... import __version__
from ...errors import DependencyError, InputError, OutputError
from ...volume import Volume
from ..atomic import atomic_path
from ..colours import segment_colour
from ..grid import TOLERANCE
from ..guards import existing, quiet, unreadable
from ..review import Review
from ..segmented import Segmented
from ..terminology import Code, Terminology
from .header import FramePlace, frame_places, read_header
from .pixels import check_decoder

_SERIES_NUMBER = 300  # out of the way of a scanner's own
_INSTEAD = "write .seg.nrrd or .nii.gz instead"


@dataclass(frozen=True)
class Look:
    """How a segment is shown and what it is.

    Attributes:
        colour: red, green and blue, 0 to 1.
        terminology: what it is.
    """

    colour: tuple[float, float, float]
    terminology: Terminology = field(default_factory=Terminology)


def write(
    path: Path,
    session: Segmented,
    *,
    looks: Mapping[str, Look] | None = None,
    review: Review | None = None,
    overwrite: bool = True,
) -> None:
    """Write every segment, overlapping ones too, as a binary DICOM SEG that refers to the images; atomic.

    Args:
        path: the file.
        session: the segments, and the image that came from DICOM.
        looks: of segments by name; others are tissue in the colours of `biosam2.io.colours`.
        review: what a person looked at and approved; said in the attributes that the Segmentation IOD has for it, see
            `_add_review`.
        overwrite: whether an earlier file of that name may be replaced.

    Raises:
        InputError: the image did not come from DICOM, its files are gone, or it has no place in the patient.
        OutputError: a segment's name cannot stand in DICOM, or the file cannot be written.
        DependencyError: highdicom is not installed.
    """
    try:
        import highdicom
        from highdicom.content import AlgorithmIdentificationSequence
        from highdicom.sr import CodedConcept
        from pydicom.sr.codedict import codes
    except ImportError:
        raise DependencyError("writing DICOM SEG needs highdicom: pip install 'biosam2[dicom]'") from None

    images = _images(path, session)
    order = _frame_order(session, images)
    masks = np.stack([session.mask(name)[order] for name in session.segments], axis=-1)
    if not masks.any():
        raise InputError(f"nothing to write to {path}: every segment is empty")
    algorithm = AlgorithmIdentificationSequence("BioSAM-2", codes.DCM.ArtificialIntelligence, __version__)

    def coded(code: Code, modifier: Code | None = None) -> CodedConcept:
        concept = CodedConcept(code.value, code.scheme, code.meaning)
        if modifier is not None:
            concept.SegmentedPropertyTypeModifierCodeSequence = [coded(modifier)]
        return concept

    def described(number: int, name: str) -> highdicom.seg.SegmentDescription:
        look = (looks or {}).get(name) or Look(segment_colour(number - 1))
        what = look.terminology
        region = None if what.region is None else coded(what.region)
        if region is not None and what.region_modifier is not None:
            region.AnatomicRegionModifierSequence = [coded(what.region_modifier)]
        return highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=_label(path, name),
            segmented_property_category=coded(what.category),
            segmented_property_type=coded(what.type, what.modifier),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=highdicom.UID(),
            tracking_id=_label(path, name),
            anatomic_regions=None if region is None else [region],
            display_color=highdicom.color.CIELabColor.from_rgb(*(round(255 * c) for c in look.colour)),
        )

    try:
        with quiet():
            segmentation = highdicom.seg.Segmentation(
                source_images=images,
                pixel_array=masks,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[described(n, name) for n, name in enumerate(session.segments, start=1)],
                series_instance_uid=highdicom.UID(),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="BioSAM2Slicer",
                manufacturer_model_name="biosam2",
                software_versions=__version__,
                device_serial_number="0",
                series_description="BioSAM-2 segmentation",
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"cannot write {path}: DICOM SEG needs more than these images say ({str(error).splitlines()[0][:200]}); "
            f"{_INSTEAD}"
        ) from error
    if review is not None:
        _add_review(segmentation, session, review)
    if not all(name.isascii() for name in (*session.segments, review.reviewer if review else "")):
        segmentation.SpecificCharacterSet = "ISO_IR 192"  # UTF-8; the images' own may not have the letters
    with atomic_path(path, overwrite=overwrite) as temporary:
        segmentation.save_as(temporary)


def _add_review(segmentation: Dataset, session: Segmented, review: Review) -> None:
    """Say in a SEG what a person looked at and approved.

    The Segmentation IOD has no Approval Module (DICOM PS3.3, A.51): that is for the objects of radiotherapy. SOP
    Instance Status would claim an authorisation for diagnosis. What it has is used: the description of each segment,
    Frame Comments on frames that were looked at, the content's creator, and an item of the contributing equipment with
    who, when and what.
    """
    axis = {"k": 0, "j": 1, "i": 2}[review.axis]
    others = tuple(n for n in range(3) if n != axis)
    for item in segmentation.SegmentSequence:
        name = str(item.SegmentLabel)
        shown = np.flatnonzero(session.mask(name).any(axis=others)).tolist()
        item.SegmentDescription = review.text(name, shown)
    if review.axis == "k":
        names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in segmentation.SegmentSequence}
        size = (segmentation.Rows, segmentation.Columns)
        frames = segmentation.PerFrameFunctionalGroupsSequence
        for frame, place in zip(frames, frame_places(segmentation, len(frames)), strict=False):
            k = _slice_of(Path(), place, size, session.volume)
            if k in review.looked_at.get(names[_segment_number(segmentation, frame)], ()):
                frame.FrameContentSequence[0].FrameComments = "A person looked at this frame."
    done = Dataset()
    done.Manufacturer = "BioSAM2Slicer"
    done.ManufacturerModelName = "biosam2"
    done.SoftwareVersions = __version__
    done.ContributionDescription = "Approved by a person" if review.approved else "Looked at by a person, not approved"
    if review.when:
        done.ContributionDateTime = f"{''.join(c for c in review.when if c.isdecimal())[:14]}+0000"
    if review.reviewer:
        done.OperatorsName = segmentation.ContentCreatorName = _person(review.reviewer)
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109102", "DCM", "Processing Equipment"
    done.PurposeOfReferenceCodeSequence = [purpose]
    segmentation.ContributingEquipmentSequence = [*segmentation.get("ContributingEquipmentSequence", ()), done]


def _person(name: str) -> str:
    """A name as DICOM takes it, family name first; a name of one word, as of an account, is the family name."""
    words = "".join(c if c.isprintable() and c not in "\\^=" else " " for c in name).split() or ["somebody"]
    return f"{words[-1]}^{' '.join(words[:-1])}"[:64]


def read(path: Path, like: Volume) -> dict[int, tuple[str, NDArray[np.bool_]]]:
    """Read a SEG onto the voxels of the image that it belongs to.

    Args:
        path: a binary SEG, or a fractional one, of which a half and more counts.
        like: the image; frames are put where they lie in the patient, slices without a frame stay empty.

    Returns:
        The label and the mask, bool (K, J, I), of each segment by its number.

    Raises:
        InputError: it is damaged or no SEG, or a frame does not lie on the image's voxels.
        DependencyError: its compression needs a package that is not installed.
    """
    header = read_header(existing(path))
    if not header.is_segmentation:
        raise InputError(f"{path} is not a DICOM segmentation; give the SEG object of the image")
    with unreadable(path, "DICOM SEG"), quiet():
        ds = dcmread(path)
        check_decoder(header, ds)
        pixels = ds.pixel_array.reshape(-1, header.rows, header.columns)
        found = {int(s.SegmentNumber): (str(s.SegmentLabel), np.zeros(like.shape, bool)) for s in ds.SegmentSequence}
        places = frame_places(ds, header.n_frames)
        if ds.get("SegmentationType") == "LABELMAP":
            marks = [{number: frame == number for number in found} for frame in pixels]
        else:
            least = int(ds.get("MaximumFractionalValue", 1)) / 2
            groups = ds.PerFrameFunctionalGroupsSequence
            marks = [{_segment_number(ds, group): frame >= least} for group, frame in zip(groups, pixels, strict=True)]
    if len(places) != len(marks) or any(number not in found for mark in marks for number in mark):
        raise InputError(f"{path} is damaged: not every frame says where it lies and which segment it is of")
    for place, mark in zip(places, marks, strict=True):
        k = _slice_of(path, place, (header.rows, header.columns), like)
        for number, frame in mark.items():
            found[number][1][k] |= frame
    return found


def _segment_number(ds: Dataset, frame: Dataset) -> int:
    groups = (frame, *(ds.get("SharedFunctionalGroupsSequence") or ()))
    group = next(g for g in groups if g.get("SegmentIdentificationSequence"))
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _slice_of(path: Path, place: FramePlace, shape: tuple[int, int], like: Volume) -> int:
    """The slice k of the image that a frame's pixels are those of.

    Raises:
        InputError: there is none.
    """
    rows, columns = shape
    i, j = (place.spacing[0] * (columns - 1)) * place.along_i, (place.spacing[1] * (rows - 1)) * place.along_j
    corners = like.ijk_from_lps(np.stack([place.position, place.position + i, place.position + j]))
    k = round(float(corners[0, 2]))
    expected = np.array([(0, 0, k), (columns - 1, 0, k), (0, rows - 1, k)], float)
    if shape != like.shape[1:] or not 0 <= k < like.shape[0] or np.abs(corners - expected).max() > TOLERANCE:
        where = ", ".join(f"{v:.1f}" for v in place.position)
        raise InputError(
            f"{path} does not lie on the image's voxels: a frame at {where} mm (LPS) is none of its slices; "
            "give the SEG of this series"
        )
    return k


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
