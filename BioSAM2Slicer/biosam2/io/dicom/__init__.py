"""DICOM by pydicom: a series of slices, a single file, multi-frame CT and MR, ultrasound cine.

`header` takes what is needed out of a file, `series` says which files belong together, `geometry` puts frames
where they lie, `pixels` decodes them, `seg` writes DICOM SEG.
"""

from .reading import read_file, read_folder

__all__ = ["read_file", "read_folder"]
