"""The table of a worklist: a row for each case, with its state and where its segmentation lies.

A CSV that a person can edit in a spreadsheet: columns in any order, with commas or semicolons between them; columns
of the person's own are kept.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from ..errors import InputError
from ..io.formats import MOVIE, PICTURE, SEGMENTATION, extension
from ..io.guards import existing
from .case import Case, CaseKind, Target
from .paths import name_of, relative, under

State = Literal["new", "in work", "to be looked at", "approved"]
STATES: tuple[State, ...] = get_args(State)

RESULTS = "-results"
"""What the name of the folder of a list's segmentations ends in."""

_MARK = "state"
"""The column that tells a worklist from a manifest."""


@dataclass(frozen=True)
class WorkCase:
    """A case of a worklist.

    Attributes:
        name: unique in its list.
        image: whatever `read_volume` takes (for a video `read_video`).
        segmentation: where its segments are saved, a .seg.nrrd; it need not be there yet.
        state: one of `STATES`.
        seconds: that somebody worked on it.
        interactions: prompts and corrections that were given.
        changed: when its state changed last, UTC as in 2026-05-17T09:30:00Z; may be empty.
        by: who changed it; may be empty.
        modality: CT, MR, US …; may be empty.
        kind: 2D, 3D or video.
        series: SeriesInstanceUID, where `image` is a folder of several DICOM series.
        channel: which one of an image with several; None where there is one.
        others: cells of columns that are the person's own.
    """

    name: str
    image: Path
    segmentation: Path
    state: State = "new"
    seconds: float = 0.0
    interactions: int = 0
    changed: str = ""
    by: str = ""
    modality: str = ""
    kind: CaseKind = "3D"
    series: str = ""
    channel: int | None = None
    others: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkTable:
    """A worklist as its file holds it.

    Attributes:
        cases: in the list's order.
        columns: in the file's order.
        delimiter: between cells.
        marked: whether the file begins with the mark by which spreadsheets know UTF-8.
    """

    cases: tuple[WorkCase, ...]
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    marked: bool = False


class _Row(msgspec.Struct):
    """The cells that a row may have, as the file has them."""

    image: str
    name: str = ""
    state: str = "new"
    seconds: float = 0.0
    interactions: int = 0
    changed: str = ""
    by: str = ""
    modality: str = ""
    kind: CaseKind | None = None
    series: str = ""
    channel: int | None = None
    segmentation: str = ""


_COLUMNS = (
    "name", "image", "state", "seconds", "interactions", "changed", "by", "modality", "kind", "series", "channel",
    "segmentation",
)  # fmt: skip


def is_worklist(path: Path) -> bool:
    """Whether a file is a worklist, by its columns; False for one that is no table at all."""
    if path.suffix.lower() != ".csv":
        return False
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            first = stream.readline(10_000)
    except (OSError, UnicodeDecodeError):
        return False
    names = {name.strip().strip('"').lower() for name in first.split(_delimiter(first))}
    return {"image", _MARK} <= names and "label" not in names


def read_table(path: str | os.PathLike[str], root: Path | None = None) -> WorkTable:
    """Read a worklist; no image is opened.

    Args:
        path: the list.
        root: what its relative paths start from; by default its own folder.

    Raises:
        InputError: it is damaged, no worklist, names a case twice, or has a state or number that cannot be.
    """
    source = existing(path)
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 text: save it from the spreadsheet as CSV UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from error
    lines = len(text.splitlines())
    marked = source.read_bytes().startswith(b"\xef\xbb\xbf")
    delimiter = _delimiter(text.partition("\n")[0])
    root = (root or source.parent).absolute()
    cases: dict[str, WorkCase] = {}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        known = {name.lower(): n for n, name in enumerate(header) if name.lower() in _COLUMNS}
        if not {"image", _MARK} <= set(known):
            raise InputError(
                f"{source} is no worklist: it lacks the columns image and state; see biosam2 worklist make"
            )
        if repeated := sorted({name for name in header if name and header.count(name) > 1}):
            raise InputError(f"{source} has the column {repeated[0]} twice; remove one")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{source}, line {reader.line_num}"
            if len(cells) > len(header):
                raise InputError(f"{where} has {len(cells)} cells for {len(header)} columns; put texts in quotes")
            if len(cells) < len(header) and reader.line_num == lines and not text.endswith("\n"):
                raise InputError(f"{where} is cut off; complete its {len(header)} cells, or make the list again")
            case = _case({header[n]: cell.strip() for n, cell in enumerate(cells)}, set(known), root, source, where)
            if case.name in cases:
                raise InputError(f"{where}: two cases are called {case.name}; give each its own name")
            cases[case.name] = case
    except (csv.Error, msgspec.ValidationError) as error:
        raise InputError(f"{source}, line {reader.line_num}: {error}; correct it, or make the list again") from error
    _check(cases.values(), source)
    return WorkTable(tuple(cases.values()), tuple(header), delimiter, marked)


def table_text(table: WorkTable, path: Path) -> str:
    """The table as the content of a file; paths are relative to it.

    Raises:
        InputError: `read_table` would refuse it: two cases have one name or segmentation, or a name or path cannot be.
    """
    _check(table.cases, path)
    folder = path.absolute().parent
    present = {name.lower() for name in table.columns}
    columns = (*table.columns, *(name for name in _COLUMNS if name not in present))
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=table.delimiter, lineterminator="\n")
    writer.writerow(columns)
    for case in table.cases:
        cells = {
            "name": case.name,
            "image": relative(case.image, folder),
            "state": case.state,
            "seconds": f"{round(case.seconds, 1):.10g}" if case.seconds else "",
            "interactions": case.interactions or "",
            "changed": case.changed,
            "by": case.by,
            "modality": case.modality,
            "kind": case.kind,
            "series": case.series,
            "channel": "" if case.channel is None else case.channel,
            "segmentation": relative(case.segmentation, folder),
        }
        writer.writerow([cells[c.lower()] if c.lower() in cells else case.others.get(c, "") for c in columns])
    return ("\ufeff" if table.marked else "") + stream.getvalue()


def result_paths(source: Path, names: Sequence[str], taken: Iterable[Path] = ()) -> list[Path]:
    """Where the segmentations of new cases go: into a folder beside the list, under names that any disk takes.

    Args:
        source: the list.
        names: of the cases.
        taken: paths that others have.
    """
    folder = source.absolute().parent / f"{source.stem}{RESULTS}"
    used = {str(path).casefold() for path in taken}
    found = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name).strip("._")[:100] or "case"
        path, number = folder / f"{plain}.seg.nrrd", 1
        while str(path).casefold() in used:
            number += 1
            path = folder / f"{plain}_{number}.seg.nrrd"
        used.add(str(path).casefold())
        found.append(path)
    return found


def labelled_cases(table: WorkTable) -> list[Case]:
    """The cases that have a segmentation, as cases of a dataset whose splits are the states.

    Raises:
        InputError: an approved case has no segmentation, or one cannot be read.
    """
    from ..io.seg_nrrd import segment_names

    cases = []
    for work in table.cases:
        if not work.segmentation.is_file():
            if work.state == "approved":
                raise InputError(
                    f"case {work.name} is approved, and its segmentation {work.segmentation} is not there; "
                    "put it back, or change the state"
                )
            continue
        targets = tuple(
            Target(name, (work.segmentation,), (number,))
            for number, name in enumerate(segment_names(work.segmentation), start=1)
        )
        cases.append(
            Case(work.name, work.image, targets, work.modality, work.state, work.kind, work.series, work.channel)
        )
    return cases


def kind_of(image: Path) -> CaseKind:
    """2D for a picture, video for a video file, 3D for what else there is."""
    ending = extension(image)
    return "2D" if ending in PICTURE else "video" if ending in MOVIE else "3D"


def _case(cells: dict[str, str], known: set[str], root: Path, source: Path, where: str) -> WorkCase:
    given: dict[str, Any] = {name.lower(): cell for name, cell in cells.items() if name.lower() in known and cell}
    if "seconds" in given:
        given["seconds"] = given["seconds"].replace(",", ".")  # as some languages write it
    if "image" not in given:
        raise InputError(f"{where} names no image; give one, or remove the row")
    row = msgspec.convert(given, _Row, strict=False)
    state = " ".join(row.state.lower().replace("_", " ").split())
    if state not in STATES:
        raise InputError(f"{where}: the state {row.state!r} is none of {', '.join(STATES)}")
    if not 0 <= row.seconds < float("inf") or row.interactions < 0:
        raise InputError(f"{where}: seconds and interactions cannot be negative or without end")
    name = row.name or name_of(row.image)
    return WorkCase(
        name=name,
        image=under(root, row.image),
        segmentation=under(root, row.segmentation) if row.segmentation else result_paths(source, [name])[0],
        state=state,
        seconds=row.seconds,
        interactions=row.interactions,
        changed=row.changed,
        by=row.by,
        modality=row.modality,
        kind=row.kind or kind_of(Path(row.image)),
        series=row.series,
        channel=row.channel,
        others={name: cell for name, cell in cells.items() if name.lower() not in known},
    )


def _check(cases: Iterable[WorkCase], source: Path) -> None:
    """Refuse cases that cannot be worked on.

    Raises:
        InputError: a name or a path cannot be, a segmentation is no .seg.nrrd, or two cases share one or have one name.
    """
    taken: dict[str, str] = {}
    names: set[str] = set()
    for case in cases:
        if case.name.strip() in names:
            raise InputError(f"{source}: two cases are called {case.name}; give each its own name")
        names.add(case.name.strip())
        for text in (case.name, str(case.image), str(case.segmentation)):
            if not text.strip() or not text.isprintable():
                raise InputError(f"{source}: {text!r} of the case {case.name!r} cannot be; correct it")
        if extension(case.segmentation) not in SEGMENTATION:
            raise InputError(f"{source}: the segmentation of case {case.name} must end in .seg.nrrd")
        other = taken.setdefault(str(case.segmentation).casefold(), case.name)
        if other != case.name:
            raise InputError(f"{source}: {other} and {case.name} have one segmentation; give each its own")


def _delimiter(header: str) -> str:
    """What stands between the columns: spreadsheets of some languages write semicolons."""
    return ";" if header.count(";") > header.count(",") else ","
