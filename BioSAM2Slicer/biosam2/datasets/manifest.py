"""The manifest: a dataset in one file, CSV with a row for each target or JSON with an entry for each case."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import InputError, OutputError
from ..io.atomic import atomic_path
from ..io.guards import existing
from .case import COLOUR, Case, CaseKind, Target, check_cases, read_value, value_text
from .paths import name_of, relative, under
from .work_table import is_worklist, labelled_cases, read_table

FORMAT = "biosam2-dataset-1"
MANIFEST = (".csv", ".json")
_BETWEEN = "|"
"""Between the files in a cell of the CSV."""


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """A row of the CSV: one target of one case."""

    image: str
    label: str
    target: str = "target"
    name: str = ""
    values: str = ""
    modality: str = ""
    split: str = ""
    kind: CaseKind = "3D"
    series: str = ""
    channel: int | None = None
    dataset: str = ""
    piece: Annotated[int, msgspec.Meta(ge=1)] | None = None


_COLUMNS = (
    *("name", "image", "label", "target", "values", "modality", "split", "kind", "series", "channel", "dataset"),
    "piece",
)


class _Target(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    label: str | list[str]
    values: list[int | str] = []
    piece: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    image: str
    targets: list[_Target]
    name: str = ""
    modality: str = ""
    split: str = ""
    kind: CaseKind = "3D"
    series: str = ""
    channel: int | None = None
    dataset: str = ""


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    cases: list[_Entry]


def load_dataset(path: str | os.PathLike[str], split: str | None = None, root: Path | None = None) -> list[Case]:
    """The cases of a dataset; no image is opened yet.

    Args:
        path: a manifest (.csv or .json), a worklist (its cases that have a segmentation; the states are the splits),
            or a folder in one of the layouts that `find_cases` knows.
        split: only the cases of this split; None for all.
        root: what the manifest's relative paths start from; by default its own folder.

    Raises:
        InputError: it is damaged, of an unknown layout, holds no cases (of that split), or names a case twice.
    """
    source = existing(path)
    if source.is_dir():
        from .finding import find_cases

        cases = find_cases(source)
    elif source.suffix.lower() in MANIFEST:
        folder = (root or source.parent).absolute()
        if is_worklist(source):
            cases = labelled_cases(read_table(source, folder))
        else:
            cases = (_read_csv if source.suffix.lower() == ".csv" else _read_json)(source, folder)
    else:
        raise InputError(f"{source} is no dataset; give a manifest (.csv or .json) or a folder")
    check_cases(cases, source)
    if split is None:
        return cases
    chosen = [case for case in cases if case.split == split]
    if not chosen:
        splits = ", ".join(sorted({repr(case.split) for case in cases}))
        raise InputError(f"{source} has no case of the split {split!r}; its splits are {splits}")
    return chosen


def save_dataset(path: str | os.PathLike[str], cases: Sequence[Case]) -> None:
    """Write a manifest; atomic. Files below its folder, or beside it, are named relative to it.

    Args:
        path: .csv or .json; an earlier file is replaced.
        cases: at least one; names are unique.

    Raises:
        InputError: the cases cannot be a dataset: none, or a name twice.
        OutputError: the extension is none of .csv and .json, or the file cannot be written.
    """
    target = Path(path)
    check_manifest_path(target)
    check_cases(cases, target)
    folder = target.absolute().parent
    text = _csv(cases, folder) if target.suffix.lower() == ".csv" else _json(cases, folder)
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def check_manifest_path(path: Path) -> None:
    """Refuse a place where no manifest can be written, before any image is opened.

    Raises:
        OutputError: the extension is none of .csv and .json, or there is no such folder.
    """
    if path.suffix.lower() not in MANIFEST:
        raise OutputError(f"cannot write {path}: a manifest ends in .csv or .json")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}; create it first")


def _read_csv(source: Path, root: Path) -> list[Case]:
    cases: dict[str, Case] = {}
    try:
        # "utf-8-sig": spreadsheets put a mark before the first column's name.
        with open(source, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restkey="too many cells")
            for row in reader:
                given = {key: value.strip() if isinstance(value, str) else value for key, value in row.items()}
                _merge(cases, _case(given, root), f"{source}, line {reader.line_num}")
    except (csv.Error, UnicodeDecodeError, msgspec.ValidationError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}, line {reader.line_num}: {error}; columns are {', '.join(_COLUMNS)}") from error
    return list(cases.values())


def _case(given: dict[str, Any], root: Path) -> Case:
    row = msgspec.convert({key: value for key, value in given.items() if value}, _Row, strict=False)
    labels = tuple(under(root, part.strip()) for part in row.label.split(_BETWEEN))
    values = tuple(read_value(value) for value in row.values.replace(_BETWEEN, " ").split())
    return Case(
        name=row.name or name_of(row.image),
        image=under(root, row.image),
        targets=(Target(row.target, labels, values, row.piece),),
        modality=row.modality,
        split=row.split,
        kind=row.kind,
        series=row.series,
        channel=row.channel,
        dataset=row.dataset,
    )


def _merge(cases: dict[str, Case], case: Case, where: str) -> None:
    """Add a row's target to its case."""
    known = cases.setdefault(case.name, case)
    if known is case:
        return
    if replace(known, targets=()) != replace(case, targets=()):
        raise InputError(f"{where}: {case.name} is another image, modality, split or kind further up; rename one")
    cases[case.name] = replace(known, targets=(*known.targets, *case.targets))


def _read_json(source: Path, root: Path) -> list[Case]:
    try:
        document = msgspec.json.decode(source.read_bytes(), type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{source} is not a dataset's manifest: {error}") from error
    if document.format != FORMAT:
        raise InputError(f"{source} has the format {document.format!r}; this version of biosam2 reads {FORMAT}")
    return [
        Case(
            name=entry.name or name_of(entry.image),
            image=under(root, entry.image),
            targets=tuple(
                Target(
                    target.name,
                    tuple(under(root, p) for p in ([target.label] if isinstance(target.label, str) else target.label)),
                    _values(target.values, source),
                    target.piece,
                )
                for target in entry.targets
            ),
            modality=entry.modality,
            split=entry.split,
            kind=entry.kind,
            series=entry.series,
            channel=entry.channel,
            dataset=entry.dataset,
        )
        for entry in document.cases
    ]


def _values(values: Sequence[int | str], source: Path) -> tuple[int, ...]:
    try:
        return tuple(read_value(value) if isinstance(value, str) else value for value in values)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error


def _csv(cases: Sequence[Case], folder: Path) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for case in cases:
        for target in case.targets:
            labels = [relative(path, folder) for path in target.labels]
            if any(_BETWEEN in label for label in labels):
                raise OutputError(f"a CSV cannot hold the path {labels[0]} with a {_BETWEEN!r}; write a .json manifest")
            writer.writerow(
                (
                    case.name,
                    relative(case.image, folder),
                    _BETWEEN.join(labels),
                    target.name,
                    " ".join(map(value_text, target.values)),
                    case.modality,
                    case.split,
                    case.kind,
                    case.series,
                    "" if case.channel is None else case.channel,
                    case.dataset,
                    "" if target.piece is None else target.piece,
                )
            )
    return stream.getvalue()


def _json(cases: Sequence[Case], folder: Path) -> str:
    entries = [
        _Entry(
            name=case.name,
            image=relative(case.image, folder),
            targets=[
                _Target(
                    target.name,
                    [relative(path, folder) for path in target.labels],
                    [value_text(value) if value >= COLOUR else value for value in target.values],
                    target.piece,
                )
                for target in case.targets
            ],
            modality=case.modality,
            split=case.split,
            kind=case.kind,
            series=case.series,
            channel=case.channel,
            dataset=case.dataset,
        )
        for case in cases
    ]
    return json.dumps(msgspec.to_builtins(_Document(FORMAT, entries)), indent=1, ensure_ascii=False) + "\n"
