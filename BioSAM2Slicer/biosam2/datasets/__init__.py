"""Labelled images to learn from and to measure on, whatever they are stored as.

`case` says what a case is, `manifest` keeps a dataset in one file, `opening` reads a case's voxels, `finding` makes a
manifest of what lies in a folder (`published` lists datasets as they are distributed; `nnunet`, `pairs`, `npz`,
`davis`, `dicom_seg` each know a layout that many share), `splits` reads split files, `checking` says what was found and
refuses what does not fit, `adding` takes in finished work.
"""

from .case import CASE_KINDS, Case, CaseKind, Sample, Target
from .manifest import load_dataset, save_dataset
from .opening import open_case

__all__ = ["CASE_KINDS", "Case", "CaseKind", "Sample", "Target", "load_dataset", "open_case", "save_dataset"]
