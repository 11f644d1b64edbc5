"""Making a worklist of what lies in a folder, labelled or not, or of a dataset's manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..datasets import pairs
from ..datasets.case import Case, CaseKind
from ..datasets.finding import find_cases, recognise
from ..datasets.layout import images_in, stem
from ..datasets.manifest import MANIFEST, load_dataset
from ..datasets.work_table import RESULTS, WorkCase, WorkTable, is_worklist, kind_of, result_paths, table_text
from ..errors import InputError, OutputError
from ..io.atomic import atomic_path
from ..io.dicom.header import Header, read_header
from ..io.formats import MOVIE, PICTURE, extension, is_dicom
from ..io.guards import existing
from ..io.pictures import natural
from .template import Template, colour_text, make_template, template_path, write_template
from .worklist import Worklist

_ANY = (None, "dicom", "pairs")
"""Layouts whose images without labels are cases too; of the others the labelled ones are."""


def find_work(
    path: str | os.PathLike[str], kind: CaseKind | None = None, modality: str = ""
) -> tuple[list[Case], list[str]]:
    """The images of a folder or a manifest, as cases without targets, and the names of the targets that were there.

    A folder of a dataset whose layout is known (nnU-Net, DAVIS …) is read as such. Of any other each volume, picture,
    video and DICOM series below it is a case; masks and segmentations are left out.

    Args:
        path: a folder, or a manifest (.csv, .json).
        kind: of all cases instead of what their files say; ``video`` makes each folder of pictures one case.
        modality: of all cases, instead of what the files say.

    Raises:
        InputError: there is no image, or the dataset is damaged.
    """
    source = existing(path)
    if source.is_dir():
        layout = recognise(source.absolute())
        cases = _found(source.absolute(), kind) if layout in _ANY else find_cases(source, layout)
        if not cases:
            raise InputError(f"{source} holds no image; give the folder that has them")
    elif source.suffix.lower() in MANIFEST and not is_worklist(source):
        cases = load_dataset(source)
    else:
        raise InputError(f"{source} is neither a folder nor a manifest (.csv or .json); give one of them")
    targets = list(dict.fromkeys(target.name for case in cases for target in case.targets))
    return [
        Case(c.name, c.image, (), modality or c.modality, "", kind or c.kind, c.series, c.channel) for c in cases
    ], targets


def make_worklist(
    path: str | os.PathLike[str], cases: Sequence[Case], template: Template | None = None
) -> tuple[Worklist, list[WorkCase]]:
    """Write a worklist, or add to one that is there the cases whose image it does not have.

    Args:
        path: .csv; its template lies beside it.
        cases: as `find_work` gives them.
        template: what each case begins with; None leaves what is there.

    Returns:
        The list, and the cases that it did not have.

    Raises:
        InputError: a file of that name is no worklist, or has another image under a name, or two cases have one name.
        OutputError: the extension is not .csv, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".csv":
        raise OutputError(f"cannot write {target}: a worklist ends in .csv")
    begun = target.exists()
    if begun and not is_worklist(target):
        raise InputError(f"{target} is there and is no worklist; choose another name")
    if begun:
        worklist = Worklist(target)
        with worklist.locked():
            added = worklist.add(_work(target, cases, [case.segmentation for case in worklist.cases]))
    else:
        added = _work(target, cases)
        text = table_text(WorkTable(tuple(added)), target)
        with atomic_path(target, overwrite=False) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
        worklist = Worklist(target)
    if template is not None:
        write_template(template_path(worklist.path), template)
    return worklist, added


def template_of(
    names: Sequence[str], window: tuple[float, float] | str | None = None, earlier: Template | None = None
) -> Template:
    """A template with these segments, after those of an earlier one.

    Args:
        names: ``NAME``, or ``NAME=#RRGGBB`` with a colour; of a segment that is there already, its new colour.
        window: see `Template`; None for the earlier one's.
        earlier: what else stays as it is.

    Raises:
        InputError: a name is given twice, or a colour cannot be.
    """
    parts = [name.partition("=") for name in names]
    given = [(name.strip(), colour.strip(), "") for name, _, colour in parts]
    if earlier is None:
        return make_template(given, window)
    make_template(given)
    segments = {s.name: (s.name, colour_text(s.colour), s.terminology) for s in earlier.segments}
    for name, colour, terminology in given:
        _, kept, known = segments.get(name, (name, "", terminology))
        segments[name] = (name, colour or kept, known)
    return make_template(list(segments.values()), earlier.window if window is None else window)


def _work(target: Path, cases: Sequence[Case], taken: Sequence[Path] = ()) -> list[WorkCase]:
    """Cases of a list, new, whose segmentations lie beside it where no other does."""
    segmentations = result_paths(target, [case.name for case in cases], taken)
    return [
        WorkCase(
            name=case.name,
            image=case.image,
            segmentation=segmentation,
            modality=case.modality,
            kind=case.kind,
            series=case.series,
            channel=case.channel,
        )
        for case, segmentation in zip(cases, segmentations, strict=True)
    ]


def _found(folder: Path, kind: CaseKind | None) -> list[Case]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _is_hidden(p.relative_to(folder))]
    dicom = [p for p in files if is_dicom(p)]
    cases = _series(folder, [read_header(p) for p in dicom])
    listed = set(images_in(folder))
    images = [p for p in files if (p in listed or extension(p) in MOVIE) and p not in set(dicom)]
    images = [p for p in images if not pairs.role(p.relative_to(folder))[1]]
    if kind == "video":
        frames = list(dict.fromkeys(p.parent for p in images if extension(p) in PICTURE))
        images = [*frames, *(p for p in images if extension(p) not in PICTURE)]
    cases += [Case(_name(folder, image), image, (), kind=kind or kind_of(image)) for image in images]
    counts = Counter(case.name for case in cases)
    cases = [replace(case, name=_full_name(folder, case)) if counts[case.name] > 1 else case for case in cases]
    return sorted(cases, key=lambda case: natural(case.name))


def _is_hidden(path: Path) -> bool:
    """Whether a path below a folder is hidden, or of the results of a list."""
    return any(part.startswith(".") for part in path.parts) or any(part.endswith(RESULTS) for part in path.parts[:-1])


def _name(folder: Path, image: Path) -> str:
    """``a/b`` for ``a/b.nii.gz``; the folder's for ``a/image.nrrd``."""
    name = pairs.role(image.relative_to(folder))[0]
    return name or (folder.name if image.is_dir() else stem(image))


def _full_name(folder: Path, case: Case) -> str:
    """Where the image of a case whose name another one has too lies, and its series."""
    place = case.image.relative_to(folder).as_posix()
    return f"{folder.name if place == '.' else place} {case.series}".rstrip()


def _series(folder: Path, headers: Sequence[Header]) -> list[Case]:
    """A case for each DICOM series, and for each file of several frames."""
    series: dict[str, list[Header]] = {}
    for header in headers:
        if header.is_image:
            key = str(header.path) if header.n_frames > 1 else header.series_uid
            series.setdefault(key, []).append(header)
    parents = {key: Path(os.path.commonpath([h.path.parent for h in own])) for key, own in series.items()}
    counts = Counter(parents.values())
    cases = []
    for key, own in series.items():
        first, parent = own[0], parents[key]
        image = first.path if len(own) == 1 else parent
        place = parent.relative_to(folder).as_posix()
        name = folder.name if place == "." else place
        if counts[parent] > 1:
            name += f" {stem(first.path)}" if image == first.path else f" {first.series_uid.rpartition('.')[2]}"
        kind: CaseKind = "video" if first.fps and first.n_frames > 1 else "3D" if len(own) > 1 else _kind_of_one(first)
        uid = first.series_uid if image == parent and counts[parent] > 1 else ""
        cases.append(Case(name, image, (), first.modality, kind=kind, series=uid))
    return cases


def _kind_of_one(header: Header) -> CaseKind:
    """2D for one frame, 3D for several."""
    return "3D" if header.n_frames > 1 else "2D"
