"""Datasets as they are distributed: which files are images, and which files mark their targets, by their names.

A `Distribution` is data: regular expressions of images, templates of labels, and the names of the targets. `published`
lists those that are known.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import InputError
from .case import Case, CaseKind, Target
from .layout import DatasetOptions, named_targets, read_json
from .splits import canonical_split, read_splits, with_splits

Groups = Mapping[str, str]
Paths = list[tuple[str, str]]
# Targets that only the files tell: folder, label files of one image, groups of its name.
FindTargets = Callable[[tuple[Path, ...], Groups, DatasetOptions], tuple[Target, ...]]

_DEPTH = 3
"""How many folders a dataset may lie below the one that was given."""


@dataclass(frozen=True)
class Marks:
    """What marks one target.

    Attributes:
        label: template of the label's path; ``{group}`` is what the image's pattern found, ``*`` stands for several.
        values: label values, none for every value but 0.
    """

    label: str
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """Images of a dataset that are named alike.

    Attributes:
        image: regular expression of an image's path below the dataset's folder, with ``/``; named groups fill the
            templates. A video's image is the folder of its frames.
        targets: what marks each target, by its name; or a template of the label files and a function that finds the
            targets in them.
        modality: DICOM's code or the common word; or a function of the groups.
        kind: of the cases.
        name: template of the case's name, or a function of the dataset's folder and the groups.
        split: template of a word that `canonical_split` knows, or empty.
        labelled: False where labels of this part are not always distributed; images without any are left out.
    """

    image: str
    targets: Mapping[str, Marks] | tuple[str, FindTargets]
    modality: str | Callable[[Groups], str]
    kind: CaseKind = "3D"
    name: str | Callable[[Path, Groups], str] = "{name}"
    split: str = ""
    labelled: bool = True


@dataclass(frozen=True)
class Distribution:
    """A dataset as it is distributed.

    Attributes:
        name: of the layout.
        title: as its publishers call it.
        source: where the layout is described.
        parts: its images.
        files: regular expression of files that only this dataset has, by which an incomplete one is known; empty for
            the patterns of its images.
        listing: file that lists its images and labels (``training``, ``validation``), or empty.
        splits: patterns of split files that are distributed with it.
    """

    name: str
    title: str
    source: str
    parts: tuple[Part, ...]
    files: str = ""
    listing: str = ""
    splits: tuple[str, ...] = ()

    def recognise(self, paths: Paths) -> bool:
        """Whether a folder, of which `paths_below` gave the paths, holds this dataset, if only in part."""
        known = [re.compile(one) for one in (*(part.image for part in self.parts), self.files) if one]
        return any(pattern.fullmatch(inner) for _, inner in paths for pattern in known)

    def read(self, folder: Path, options: DatasetOptions) -> list[Case]:
        """The cases of a folder.

        Args:
            folder: as the dataset's download unpacks it.
            options: which cases are wanted, and how.

        Raises:
            InputError: images or labels are missing, or the folder holds the dataset twice; the message says what.
        """
        paths = paths_below(folder)
        found = [(part, match) for part in self.parts for match in _matches(part, paths)]
        tops = {groups["top"] for _, groups in found}
        if len(tops) > 1:
            named = ", ".join(str(folder / top) for top in sorted(tops)[:3])
            raise InputError(f"{folder} holds {self.title} more than once ({named}); give one of these folders")
        root = folder / (tops.pop() if tops else "")
        self._check_listing(root)
        cases: list[Case] = []
        missing: list[tuple[Part, Groups]] = []
        claimed: set[Path] = set()
        for part, groups in found:
            case = _case(self, part, root, groups, options)
            if case is None:
                missing.append((part, groups))
                continue
            cases.append(case)
            claimed.update(label for target in case.targets for label in target.labels)
        self._refuse_missing(root, [one for one in missing if one[0].labelled], len(found))
        self._refuse_orphans(root, claimed)
        if not cases:
            raise InputError(f"{self.title} in {folder} has no labelled image; complete the download")
        return self._distributed_splits(root, folder, cases, options)

    def _check_listing(self, root: Path) -> None:
        """Refuse a folder that lacks what its own list names."""
        path = root / self.listing
        if not self.listing or not path.is_file():
            return
        listed = read_json(path)
        entries = [one for key in ("training", "validation") for one in listed.get(key) or () if isinstance(one, dict)]
        missing = [one["image"] for one in entries if "image" in one and not (root / one["image"]).is_file()]
        if missing:
            raise InputError(
                f"{self.title} in {root} is incomplete: {path.name} lists {len(entries)} images and {len(missing)} "
                f"are not there ({missing[0].removeprefix('./')} …); complete the download, or remove {path.name} to "
                "use what is there"
            )

    def _refuse_missing(self, root: Path, missing: list[tuple[Part, Groups]], count: int) -> None:
        if not missing:
            return
        part, groups = missing[0]
        label = next(iter(_templates(part))).format_map(groups)
        raise InputError(
            f"{self.title} in {root} is incomplete: {len(missing)} of {count} images have no label "
            f"({groups['image']} needs {label}); complete the download"
        )

    def _refuse_orphans(self, root: Path, claimed: set[Path]) -> None:
        """Refuse labels without an image."""
        shapes = {re.sub(r"\{\w+\}", "*", template) for part in self.parts for template in _templates(part)}
        inside = {path.relative_to(root).as_posix() for path in claimed}
        orphans = [
            inner
            for top, inner in paths_below(root)
            if not top and inner not in inside and any(fnmatchcase(inner, shape) for shape in shapes)
        ]
        if orphans:
            raise InputError(
                f"{self.title} in {root} is incomplete: {len(orphans)} labels have no image ({orphans[0]} …); "
                "complete the download"
            )

    def _distributed_splits(self, root: Path, folder: Path, cases: list[Case], options: DatasetOptions) -> list[Case]:
        files = [path for pattern in self.splits for place in (root, folder) for path in sorted(place.glob(pattern))]
        if not files or options.split_files:
            return cases
        return with_splits(cases, read_splits(dict.fromkeys(files), options.fold), folder, strict=False)


def valued(label: str, names: Iterable[str]) -> dict[str, Marks]:
    """Targets of one label file, with the values 1, 2, 3 … in order.

    Args:
        label: pattern of the file's name.
        names: of the targets.
    """
    return {name: Marks(label, (value,)) for value, name in enumerate(names, start=1)}


def paths_below(folder: Path) -> Paths:
    """(folder above, rest) of every file and folder, split at each of the first levels; in order of their names.

    A dataset's own paths are the rests of one of these folders: it may lie below the folder that was given.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        inner = Path(parent).relative_to(folder).parts
        for name in (*folders, *sorted(files)):
            if not name.startswith("."):
                parts = (*inner, name)
                found += [("/".join(parts[:n]), "/".join(parts[n:])) for n in range(min(_DEPTH + 1, len(parts)))]
    return found


def _matches(part: Part, paths: Paths) -> list[Groups]:
    """The groups of each image's name, with the folder above as ``top`` and the path as ``image``."""
    pattern = re.compile(part.image)
    return [
        {**match.groupdict(""), "top": top, "image": match[0]}
        for top, inner in paths
        if (match := pattern.fullmatch(inner))
    ]


def _templates(part: Part) -> tuple[str, ...]:
    if isinstance(part.targets, tuple):
        return (part.targets[0],)
    return tuple(dict.fromkeys(marks.label for marks in part.targets.values()))


def _case(dataset: Distribution, part: Part, root: Path, groups: Groups, options: DatasetOptions) -> Case | None:
    """The case of one image, None where a label of it is missing."""
    files = {template: _labels(root, template, groups) for template in _templates(part)}
    if not all(files.values()):
        return None
    every = tuple(path for labels in files.values() for path in labels)
    if options.targets:
        targets = named_targets(every, options)
    elif isinstance(part.targets, tuple):
        targets = part.targets[1](every, groups, options)
    else:
        targets = tuple(Target(name, files[marks.label], marks.values) for name, marks in part.targets.items())
    modality = part.modality if isinstance(part.modality, str) else part.modality(groups)
    return Case(
        part.name.format_map(groups) if isinstance(part.name, str) else part.name(root, groups),
        root / groups["image"],
        targets,
        options.modality or modality,
        canonical_split(part.split.format_map(groups)) or options.split,
        part.kind,
        dataset=dataset.name,
    )


def _labels(root: Path, template: str, groups: Groups) -> tuple[Path, ...]:
    """Files of a template, which are there."""
    if "*" not in template:
        path = root / template.format_map(groups)
        return (path,) if path.exists() else ()
    pattern = template.format_map({name: glob.escape(text) for name, text in groups.items()})
    return tuple(sorted(path for path in root.glob(pattern) if not path.name.startswith(".")))
