"""Which file is of which kind, by its name; a file whose name says nothing is looked into."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError

VOLUME = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".img", ".hdr", ".img.gz", ".gipl", ".gipl.gz", ".vtk")
PICTURE = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MOVIE = (".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".gif")
DICOM = (".dcm", ".dicom", ".ima")
SEGMENTATION = (".seg.nrrd", ".seg.nhdr")
SEQUENCE = ".seq.nrrd"

READABLE = f"NRRD (.nrrd .nhdr), NIfTI (.nii .nii.gz), MetaImage (.mha .mhd), DICOM, {' '.join(PICTURE)}"


def extension(path: Path) -> str:
    """The extension that names the format, lower case, with the part before .gz or .nrrd where it counts."""
    name = path.name.lower()
    for compound in (*SEGMENTATION, SEQUENCE, ".seg.dcm", ".nii.gz", ".img.gz", ".gipl.gz"):
        if name.endswith(compound):
            return compound
    return path.suffix.lower()


def is_dicom(path: Path) -> bool:
    """Whether the file starts as DICOM files do (PS3.10: "DICM" after 128 bytes).

    Raises:
        InputError: it cannot be opened; in a folder it may be a slice, which must not be left out silently.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
