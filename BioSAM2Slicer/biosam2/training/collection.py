"""A collection of labelled images from many sources, as a dataset: which may be trained on, and which only judge.

A collection is a folder with a table ``cases.csv``: ``image`` and ``label`` (paths in the folder), ``modality``,
``target_names`` (JSON, label value → name; ``"*"`` means that every value is an instance of its own), ``dimension``
(2D, 3D or video), ``source``, ``subject`` and ``licence``.

    python -m biosam2.training.collection FOLDER -o cases.json
"""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path

import click
import numpy as np

from ..datasets import Case, Target
from ..datasets.manifest import save_dataset
from ..errors import InputError
from ..io import read_labelmap, read_video
from ..io.guards import existing

_TABLE = "cases.csv"
_PERMISSIVE = ("CC0", "CC-BY-2", "CC-BY-3", "CC-BY-4", "MIT", "BSD", "Apache", "public domain")
_HELD_OUT = 7  # one subject in this many judges


def collection_cases(folder: str | Path) -> list[Case]:
    """The cases of a collection, called ``source/name``, with a split each.

    Cases under a licence that lets weights be published are ``train``, but for one subject in seven, chosen by its
    name, which is ``val`` with all of its images. All others, share-alike licences among them, are ``unseen``: sources
    of which nothing is trained on.

    Raises:
        InputError: the folder or its table is not there, or the table lacks a column.
    """
    root = existing(folder)
    table = root / _TABLE
    if not table.is_file():
        raise InputError(f"{root} has no {_TABLE}; give the folder of a collection")
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        return [_case(row, root) for row in rows]
    except KeyError as error:
        raise InputError(f"{table} has no column {error}") from error


def source_of(case: Case) -> str:
    """The source that a case of a collection comes from."""
    return case.name.partition("/")[0]


def _case(row: dict[str, str], root: Path) -> Case:
    label = root / row["label"]
    name = row["image"].removesuffix(".gz").rpartition(".")[0] or row["image"]
    return Case(
        name=name if name.startswith(row["source"]) else f"{row['source']}/{name}",
        image=root / row["image"],
        targets=_targets(json.loads(row["target_names"]), label),
        modality=row["modality"],
        split=_split(row["licence"], row["subject"]),
        kind=row["dimension"],  # type: ignore[arg-type]  # 2D, 3D or video, which the manifest checks
    )


def _targets(names: dict[str, str], label: Path) -> tuple[Target, ...]:
    if "*" not in names:
        return tuple(Target(name, (label,), (int(value),)) for value, name in names.items())
    labels = (read_video if label.is_dir() else read_labelmap)(label).array
    return tuple(Target(f"{names['*']} {value}", (label,), (int(value),)) for value in np.unique(labels) if value)


def _split(licence: str, subject: str) -> str:
    if "-SA" in licence or "-NC" in licence or not licence.startswith(_PERMISSIVE):
        return "unseen"
    return "val" if zlib.crc32(subject.encode()) % _HELD_OUT == 0 else "train"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The manifest (.csv or .json).")
def main(folder: Path, out: Path) -> None:
    """Write the manifest of a collection."""
    cases = collection_cases(folder)
    save_dataset(out, cases)
    counts = {split: sum(case.split == split for case in cases) for split in ("train", "val", "unseen")}
    click.echo(f"wrote {out}: " + ", ".join(f"{number} {split}" for split, number in counts.items()))


if __name__ == "__main__":
    main()
