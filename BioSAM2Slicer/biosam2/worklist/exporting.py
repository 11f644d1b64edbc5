"""The segmentations of a worklist in another format, with who approved them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import record as records
from ..datasets.layout import stem
from ..datasets.opening import open_case
from ..datasets.work_table import State, WorkCase, labelled_cases, read_table
from ..errors import InputError, OutputError
from ..io.atomic import atomic_path
from ..io.formats import extension
from ..io.review import Review
from ..io.segmentation import LABELMAP, WRITABLE, write_segmentation
from ..io.segmented import labelmap_of
from ..io.terminology import Terminology
from ..volume import Volume
from .template import Template
from .worklist import CaseFiles, Worklist

_DICOM = (".dcm", ".seg.dcm")


@dataclass(frozen=True, eq=False)
class _Segments:
    """Segments that were read, as the writers want them."""

    volume: Volume
    masks: dict[str, NDArray[np.bool_]]

    @property
    def segments(self) -> Sequence[str]:
        """Names."""
        return tuple(self.masks)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """One's mask, bool (K, J, I)."""
        return self.masks[name]

    def labelmap(self) -> NDArray[Any]:
        """Labels (K, J, I); the later one on overlap."""
        return labelmap_of(self.volume.shape, self.segments, self.mask)


def export(worklist: Worklist, folder: Path, ending: str, state: State = "approved") -> Iterator[Path]:
    """Write the segmentations of the cases of a state, each with its record, and name them one by one.

    A .seg.nrrd is the list's own file. A DICOM SEG says how many slices of each segment were looked at, who approved it
    and when; so does the record, under ``review``. Files have the names of the list's own and lie in `folder`, which is
    made; those that are there already are left alone.

    Args:
        worklist: the list.
        folder: where to.
        ending: the format: .dcm (needs an image from DICOM), .seg.nrrd, .nrrd, .nii.gz …
        state: of the cases.

    Yields:
        The files as they are written.

    Raises:
        InputError: no case of that state has a segmentation, or a file cannot be read.
        OutputError: the format is not known, a file is there already, or it cannot be written.
        DependencyError: DICOM SEG is asked for, and highdicom is not installed.
    """
    if extension(Path("x" + ending)) not in (*LABELMAP, ".seg.nrrd", *_DICOM):
        raise OutputError(f"cannot write a segmentation as {ending}; known are {WRITABLE}")
    table = read_table(worklist.path)
    works = {case.name: case for case in table.cases}
    cases = [case for case in labelled_cases(table) if case.split == state]
    if not cases:
        raise InputError(f"{worklist.path} has no case with a segmentation that is {state}")
    template = worklist.template
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        work = works[case.name]
        sample = open_case(case)
        path = folder / f"{stem(work.segmentation)}{ending}"
        record = _record(work)
        review = review_of(work, record)
        found = _Segments(sample.volume, sample.masks)
        if extension(path) in _DICOM:
            from ..io.dicom import seg

            seg.write(path, found, looks=_looks(template, found.segments), review=review, overwrite=False)
        elif extension(path) == extension(work.segmentation):
            # Its colours, terminologies and tags with it.
            with atomic_path(path, overwrite=False) as temporary:
                shutil.copyfile(work.segmentation, temporary)
        else:
            write_segmentation(path, found, overwrite=False)
        yield path
        if record is not None:
            outputs = [{"path": path.name, "sha256": records.hash_input(path)}]
            beside = folder / f"{stem(work.segmentation)}.json"
            records.write(beside, records.with_review({**record, "outputs": outputs}, review))
            yield beside


def review_of(case: WorkCase, record: dict[str, Any] | None) -> Review:
    """What a person looked at, as the record of a case says, and whether the list has it as approved.

    Args:
        case: of a list.
        record: its content; None if it has none.
    """
    known = None if record is None else records.review_of(record)
    approved = case.state == "approved"
    return Review(
        approved,
        case.by if approved else "",
        case.changed if approved else "",
        known.axis if known else "k",
        known.looked_at if known else {},
    )


def _record(case: WorkCase) -> dict[str, Any] | None:
    path = CaseFiles.of(case.segmentation).record
    return records.read(path) if path.is_file() else None


def _looks(template: Template, names: Sequence[str]) -> dict[str, Any]:
    """Colours and terminologies that the template gives to segments."""
    from ..io.dicom.seg import Look

    return {s.name: Look(s.colour, Terminology.parse(s.terminology)) for s in template.segments if s.name in names}
