"""Split files: which cases are for training, validation and testing, as datasets and papers distribute it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..io.guards import existing
from .case import Case
from .layout import stem

_WORDS = {"tr": "train", "train": "train", "training": "train", "va": "val", "val": "val", "valid": "val",
          "validation": "val", "tuning": "val", "ts": "test", "test": "test", "testing": "test"}  # fmt: skip


@dataclass(frozen=True)
class SplitEntry:
    """One line of a split file.

    Attributes:
        name: of a case, of its image, or of the folder (the patient) that the image lies in.
        split: train, val or test.
        source: the file that says so.
    """

    name: str
    split: str
    source: Path


def canonical_split(word: str) -> str:
    """train, val or test for the word that a dataset uses (``Tr``, ``training``, ``Test_v2``); empty for any other."""
    words = re.split(r"[^a-z]+", word.lower())
    return next((_WORDS[one] for one in words if one in _WORDS), "")


def read_splits(paths: Iterable[Path], fold: int = 0) -> list[SplitEntry]:
    """The entries of split files.

    Args:
        paths: each a text file with a name a line, whose own name says the split (``BUSI_train.txt``); a JSON object of
            lists (``{"train": […], "val": […]}``); nnU-Net's ``splits_final.json``, a list of such objects; or a table
            (CSV, with ``,`` or ``;``) whose first column is the name and that has a column ``split``.
        fold: which of the objects, where a JSON file lists several.

    Raises:
        InputError: a file is none of these.
    """
    read = {".json": lambda path: _json(path, fold), ".csv": _csv}
    entries = (entry for path in paths for entry in read.get(existing(path).suffix.lower(), _text)(path))
    return [entry for entry in entries if entry.name.strip()]


def with_splits(cases: Sequence[Case], entries: Sequence[SplitEntry], source: Path, strict: bool = True) -> list[Case]:
    """Cases with the splits that split files give them; a case that no file names has none.

    Args:
        cases: of a dataset.
        entries: of its split files.
        source: the dataset, for messages.
        strict: refuse names that no case has; else they are passed over, as of parts that were not downloaded.

    Raises:
        InputError: a file names a case that is not there, or two splits hold one case.
    """
    known: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        for key in _keys(case):
            known.setdefault(key, []).append(number)
    chosen: dict[int, SplitEntry] = {}
    unknown = []
    for entry in entries:
        numbers = next((known[name] for name in _spellings(entry.name) if name in known), None)
        if numbers is None:
            unknown.append(entry)
        for number in numbers or ():
            earlier = chosen.setdefault(number, entry)
            if earlier.split != entry.split:
                raise InputError(
                    f"the case {cases[number].name} is {earlier.split} in {earlier.source.name} and {entry.split} in "
                    f"{entry.source.name}; a case must be in one split only"
                )
    if strict and not entries:
        raise InputError("the split files hold no names; give those of this dataset, with a name a line")
    if strict and unknown:
        files = ", ".join(dict.fromkeys(entry.source.name for entry in unknown))
        raise InputError(
            f"{len(unknown)} of the {len(entries)} names in {files} are no case of {source} ({unknown[0].name} …); "
            "give the split files of this dataset"
        )
    return [replace(case, split=chosen[n].split if n in chosen else "") for n, case in enumerate(cases)]


def _keys(case: Case) -> set[str]:
    image = stem(case.image)
    labels = {stem(path) for target in case.targets for path in target.labels}
    parts = set(re.split(r"/", case.name))
    return {case.name, *parts, image, image.removesuffix("_0000"), case.image.parent.name, *labels}


def _spellings(line: str) -> list[str]:
    """A name as it may be meant: whole, without folders, without the extension; or the first word of the line."""
    spelled = []
    for text in dict.fromkeys((line, line.split()[0])):
        last = text.rpartition("/")[2]
        spelled += [text, stem(Path(text)), last, stem(Path(last))]
    return list(dict.fromkeys(spelled))


def _text(path: Path) -> list[SplitEntry]:
    split = canonical_split(path.stem)
    if not split:
        raise InputError(f"{path} does not say which split it is; its name must hold train, val or test")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as a list of names: {error}") from error
    return [SplitEntry(line.strip(), split, path) for line in lines]


def _json(path: Path, fold: int) -> list[SplitEntry]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}; correct the file") from error
    if isinstance(content, list):
        if not 0 <= fold < len(content):
            raise InputError(f"{path} has no fold {fold}; it has the folds 0 to {len(content) - 1}")
        content = content[fold]
    found = []
    for word, names in content.items() if isinstance(content, dict) else ():
        split = canonical_split(word)
        if split and isinstance(names, list):
            found += [SplitEntry(str(_name(one)), split, path) for one in names]
    if not found:
        raise InputError(f'{path} names no splits; it must read {{"train": ["case", …], "val": […]}}, or list folds')
    return found


def _name(one: object) -> object:
    return one.get("image", "") if isinstance(one, dict) else one


def _csv(path: Path) -> list[SplitEntry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as a table: {error}") from error
    head = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if ";" in head else ",")
    columns = list(reader.fieldnames or ())
    if "split" not in columns:
        raise InputError(f"{path} has no column 'split' among {', '.join(columns) or 'none'}; give a table that has")
    entries = [SplitEntry(row[columns[0]] or "", canonical_split(row["split"] or ""), path) for row in reader]
    return [entry for entry in entries if entry.split]
