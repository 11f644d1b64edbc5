"""Which of a folder's DICOM files belong together."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from ...errors import InputError
from .header import Header


def choose(folder: Path, headers: list[Header], series_uid: str | None) -> list[Header]:
    """The files of the series asked for, or of the only one.

    Raises:
        InputError: no image, no such series, or several to choose from (the message lists them).
    """
    images = [h for h in headers if h.is_image]
    if not images:
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(h.kind for h in headers).most_common(3))
        raise InputError(f"the folder {folder} holds no DICOM image ({kinds})")
    series: dict[str, list[Header]] = defaultdict(list)
    for header in images:
        series[header.series_uid].append(header)
    if series_uid is None and len(series) == 1:
        return images
    if series_uid in series:
        return series[series_uid]
    listed = "; ".join(_line(uid, series[uid]) for uid in sorted(series))
    if series_uid is None:
        raise InputError(f"the folder {folder} holds {len(series)} series, choose one by its UID: {listed}")
    raise InputError(f"the folder {folder} holds no series {series_uid}; there are: {listed}")


def _line(uid: str, headers: list[Header]) -> str:
    first = headers[0]
    n = sum(h.n_frames for h in headers)
    return f"{uid} ({first.modality or 'no modality'}, {first.description or 'no description'}, {n} slices)"
