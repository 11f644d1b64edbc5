"""DICOM images with the DICOM segmentations (SEG) that refer to them, wherever they lie below a folder."""

from __future__ import annotations

import os
from pathlib import Path

from pydicom import dcmread

from ..errors import InputError
from ..io.dicom.header import Header, read_header
from ..io.formats import is_dicom
from ..io.guards import quiet, unreadable
from .case import Case, Target
from .layout import DatasetOptions, named_targets


def is_dicom_folder(folder: Path) -> bool:
    """Whether any file below a folder is DICOM."""
    return any(is_dicom(p) for p in folder.rglob("*") if p.is_file())


def read(folder: Path, options: DatasetOptions) -> list[Case]:
    """Each series that a SEG refers to, with the segments of all SEG that do.

    Raises:
        InputError: there is no SEG, one is damaged, or the series that it refers to is not here.
    """
    headers = [read_header(p) for p in sorted(folder.rglob("*")) if p.is_file() and is_dicom(p)]
    series: dict[str, list[Header]] = {}
    for header in headers:
        if header.is_image:
            series.setdefault(header.series_uid, []).append(header)
    found: dict[str, list[Target]] = {}
    for header in headers:
        if not header.is_segmentation:
            continue
        uid, segments = segments_of(header.path)
        if uid not in series:
            raise InputError(
                f"{header.path} refers to the series {uid or '(none)'}, which is not below {folder}; add it"
            )
        found.setdefault(uid, []).extend(named_targets((header.path,), options) or segments)
    if not found:
        raise InputError(f"{folder} holds DICOM files but no DICOM SEG; give the folder that has both")
    return [_case(folder, series[uid], targets, options) for uid, targets in found.items()]


def segments_of(path: Path) -> tuple[str, list[Target]]:
    """UID of the series that a SEG refers to, and its segments."""
    with unreadable(path, "DICOM SEG"), quiet():
        ds = dcmread(path, stop_before_pixels=True)
        referenced = ds.get("ReferencedSeriesSequence")
        uid = str(referenced[0].SeriesInstanceUID) if referenced else ""
        return uid, [Target(str(s.SegmentLabel), (path,), (int(s.SegmentNumber),)) for s in ds.SegmentSequence]


def _case(folder: Path, headers: list[Header], targets: list[Target], options: DatasetOptions) -> Case:
    first = headers[0]
    parent = Path(os.path.commonpath([h.path.parent for h in headers]))
    image = first.path if len(headers) == 1 and first.n_frames > 1 else parent
    place = parent.relative_to(folder).as_posix()
    return Case(
        f"{folder.name if place == '.' else place} {first.series_uid.rpartition('.')[2]}",
        image,
        _distinct(targets),
        options.modality or first.modality,
        options.split,
        series=first.series_uid if image == parent else "",
    )


def _distinct(targets: list[Target]) -> tuple[Target, ...]:
    """Segments of one name, of several SEG, get a number."""
    seen: dict[str, int] = {}
    named = []
    for target in targets:
        seen[target.name] = seen.get(target.name, 0) + 1
        number = seen[target.name]
        name = target.name if number == 1 else f"{target.name} ({number})"
        named.append(Target(name, target.labels, target.values))
    return tuple(named)
