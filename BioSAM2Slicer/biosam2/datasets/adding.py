"""Taking finished work into a dataset: a segmentation saved by 3D Slicer, or what `biosam2 segment` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.formats import DICOM, PICTURE, SEGMENTATION, extension
from ..io.guards import existing
from .case import Case, CaseKind, Target, check_cases
from .checking import CaseFinding, check_case
from .layout import DatasetOptions, named_targets, stem
from .manifest import load_dataset, save_dataset

_KINDS: dict[str, CaseKind] = {"segment": "3D", "image": "2D", "video": "video"}


def add_case(manifest: Path, case: Case) -> CaseFinding:
    """Put a case at the end of a manifest, which is made if there is none; what it holds is checked first.

    Args:
        manifest: .csv or .json.
        case: with paths that exist.

    Returns:
        What the case holds.

    Raises:
        InputError: its label does not fit its image, marks nothing at all, or the manifest has a case of that name.
        OutputError: the manifest cannot be written.
    """
    cases = load_dataset(manifest) if manifest.exists() else []
    check_cases([*cases, case], manifest)
    finding = check_case(case)
    if finding.problem:
        raise InputError(finding.problem)
    if not any(finding.voxels.values()):
        raise InputError(f"case {case.name}: nothing is marked in {case.targets[0].labels[0]}; add it once it is drawn")
    save_dataset(manifest, [*cases, case])
    return finding


def case_of_files(image: Path, label: Path, name: str, options: DatasetOptions, kind: CaseKind | None = None) -> Case:
    """The case of an image and a label file; a .seg.nrrd and a DICOM SEG name their targets themselves.

    Args:
        image: whatever `read_volume` takes; a video where `kind` says so.
        label: a labelmap, a picture, a .seg.nrrd or a DICOM SEG.
        name: of the case; the image's where it is empty.
        options: what is not to be taken from the files.
        kind: None for 2D for pictures and 3D for the rest.

    Raises:
        InputError: a file is not there or cannot be read.
    """
    existing(image)
    label = existing(label).absolute()
    if kind is None:
        kind = "2D" if extension(image) in PICTURE else "3D"
    return Case(
        name or stem(image), image.absolute(), named_targets((label,), options) or _targets(label), options.modality,
        options.split, kind,
    )  # fmt: skip


def case_of_record(path: Path, record: Mapping[str, Any], name: str, options: DatasetOptions) -> Case:
    """The case of a run that `biosam2 segment --record` (or image, or video) wrote down.

    Args:
        path: of the record, for messages; files are looked for from here, then beside it.
        record: its content, checked.
        name: of the case; empty for the image's.
        options: what is not to be taken from the files.

    Raises:
        InputError: the record's files are not there any more, or it names no segments.
    """
    from ..session.entries import Cleared, Prompted, Started, from_json

    if not record.get("outputs"):
        raise InputError(f"the record {path} names no output; add the image and the label by their files")
    outputs = [Path(output["path"]) for output in record["outputs"]]
    if not record["input"]["path"]:
        raise InputError(f"the record {path} does not say which file the image is; add image and label by their files")
    image, label = (_from(path, named) for named in (Path(record["input"]["path"]), outputs[0]))
    entries = [from_json(entry) for entry in record["session"]["journal"]]
    segments = dict.fromkeys(entry.segment for entry in entries if isinstance(entry, Prompted | Started | Cleared))
    numbers = dict(enumerate(segments, start=1))
    tables = [output for output in outputs if output.suffix == ".ctbl"]
    if tables:  # 3D Slicer's labels are in the order of its segments, which need not be that of the journal
        known = {segment.replace(" ", "_"): segment for segment in segments}
        table = _colour_table(_from(path, tables[0]))
        numbers = {number: known.get(segment, segment) for number, segment in table.items()}
    targets = tuple(Target(segment, (label,), (number,)) for number, segment in numbers.items())
    if extension(label) == ".png" and len(targets) == 1:
        targets = (Target(targets[0].name, (label,)),)  # white on black
    if extension(label) in (*SEGMENTATION, *DICOM, ".seg.dcm"):
        targets = _targets(label)
    return Case(
        name or stem(image),
        image,
        named_targets((label,), options) or targets,
        options.modality,
        options.split,
        _KINDS[record["pipeline"]],
        series=record["input"]["series_uid"] or "",
    )


def _targets(label: Path) -> tuple[Target, ...]:
    if extension(label) in (*DICOM, ".seg.dcm"):
        from .dicom_seg import segments_of

        return tuple(segments_of(label)[1])
    if extension(label) in PICTURE or label.is_dir():
        return (Target("target", (label,)),)
    from .pairs import targets_in

    return targets_in(label)


def _colour_table(path: Path) -> dict[int, str]:
    """Names by label value: 3D Slicer writes value, name (``_`` for a space), red, green, blue, opacity."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    try:
        return {int(row[0]): row[1] for row in rows if row and int(row[0]) != 0}
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is not a colour table of 3D Slicer; add the label by its own file") from error


def _from(record: Path, path: Path) -> Path:
    """A file that a record names as it was typed: from here, or else beside the record."""
    for found in (path, record.parent / path, record.parent / path.name):
        if found.exists():
            return found.absolute()
    raise InputError(f"the record {record} names {path}, which is not here; give the image and the label themselves")
