"""Folders of nnU-Net (raw) and of the Medical Segmentation Decathlon: a ``dataset.json`` beside images and labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.formats import PICTURE, extension
from .case import Case, CaseKind, Target
from .layout import DatasetOptions, named_targets, read_json, stem

_SPLITS = (("train", "imagesTr", "labelsTr"), ("test", "imagesTs", "labelsTs"))


def is_nnunet(folder: Path) -> bool:
    """Whether a folder is nnU-Net's, of either version; its images carry their channel's number."""
    return (folder / "dataset.json").is_file() and not is_msd(folder)


def is_msd(folder: Path) -> bool:
    """Whether a folder is the Decathlon's: its ``dataset.json`` lists images that lie under just these names.

    nnU-Net's first version has the same list, but its files' names carry a channel.
    """
    description = folder / "dataset.json"
    if not description.is_file():
        return False
    listed = read_json(description).get("training")
    if not isinstance(listed, list) or not listed:
        return False
    images = [_pair(entry, description)[0] for entry in listed]
    # One of them may be missing; nnU-Net's are all missing, and others are there in their place.
    return any((folder / image).is_file() for image in images) or not any((folder / "imagesTr").glob("*_0000.*"))


def read_nnunet(folder: Path, options: DatasetOptions) -> list[Case]:
    """The cases with labels, one channel of each.

    Raises:
        InputError: ``dataset.json`` is damaged, or a label has no image of that channel.
    """
    description = folder / "dataset.json"
    facts = read_json(description)
    ending = str(facts.get("file_ending", ".nii.gz"))
    modality = options.modality or _channel_name(facts, options.channel)
    values = _values(facts, description)
    cases = []
    for split, name, image, label in _nnunet_pairs(folder, facts, ending, options.channel):
        if not image.is_file():
            raise InputError(f"case {name}: there is no image {image} for the label {label.name}; complete the dataset")
        targets = _targets(label, values, options)
        cases.append(Case(name, image, targets, modality, split, _kind(image), dataset=_name(facts)))
    return cases


def read_msd(folder: Path, options: DatasetOptions) -> list[Case]:
    """The cases with labels; of images of four dimensions, one channel.

    Raises:
        InputError: ``dataset.json`` is damaged, or lists files that are not there.
    """
    description = folder / "dataset.json"
    facts = read_json(description)
    listed = [part for entry in facts["training"] for part in _pair(entry, description)]
    missing = [part for part in listed if not (folder / part).is_file()]
    if missing:
        raise InputError(
            f"the Decathlon's {facts.get('name', folder.name)} in {folder} is incomplete: dataset.json lists "
            f"{len(listed)} files and {len(missing)} are not there ({missing[0].removeprefix('./')} …); complete the "
            "download"
        )
    channels = facts.get("modality")
    several = isinstance(channels, dict) and len(channels) > 1
    modality = options.modality or _channel_name(facts, options.channel)
    values = _values(facts, description)
    cases = []
    for entry in facts["training"]:
        image, label = (folder / part for part in _pair(entry, description))
        cases.append(
            Case(
                stem(image),
                image,
                _targets(label, values, options),
                modality,
                "train",
                channel=options.channel if several else None,
                dataset=_name(facts),
            )
        )
    return cases


def _nnunet_pairs(
    folder: Path, facts: dict[str, Any], ending: str, channel: int
) -> Iterator[tuple[str, str, Path, Path]]:
    """Split, name, image and label of each case."""
    listed = facts.get("dataset")
    if isinstance(listed, dict):  # the second version's way to leave files where they are
        for name, entry in listed.items():
            images = entry.get("images", []) if isinstance(entry, dict) else []
            if channel >= len(images) or "label" not in entry:
                raise InputError(f"{folder / 'dataset.json'}: case {name} has no channel {channel} or no label")
            yield "train", str(name), (folder / images[channel]).resolve(), (folder / entry["label"]).resolve()
        return
    for split, images_name, labels_name in _SPLITS:
        labels = folder / labels_name
        for label in sorted(labels.glob(f"*{ending}")) if labels.is_dir() else ():
            name = label.name[: -len(ending)]
            yield split, name, folder / images_name / f"{name}_{channel:04}{ending}", label


def _pair(entry: Any, description: Path) -> tuple[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
        raise InputError(f"{description}: 'training' must list pairs of image and label; correct it")
    return entry["image"], entry["label"]


def _values(facts: dict[str, Any], description: Path) -> dict[str, tuple[int, ...]]:
    """Label values by target: ``{"liver": 1}``, ``{"whole": [1, 2]}``, or the older ``{"1": "liver"}``."""
    labels = facts.get("labels")
    found: dict[str, tuple[int, ...]] = {}
    try:
        for key, value in labels.items():  # type: ignore[union-attr]
            name, numbers = (value, int(key)) if isinstance(value, str) else (key, value)
            chosen = tuple(int(n) for n in (numbers if isinstance(numbers, list) else [numbers]))
            if chosen != (0,) and name != "ignore":
                found[str(name)] = chosen
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{description}: 'labels' must give each name a number; correct it") from error
    if not found:
        raise InputError(f"{description}: 'labels' names nothing but background; add what is labelled")
    return found


def _targets(label: Path, values: dict[str, tuple[int, ...]], options: DatasetOptions) -> tuple[Target, ...]:
    return named_targets((label,), options) or tuple(Target(name, (label,), v) for name, v in values.items())


def _name(facts: dict[str, Any]) -> str:
    name = facts.get("name", "")
    return name if isinstance(name, str) and name.isprintable() else ""


def _channel_name(facts: dict[str, Any], channel: int) -> str:
    names = facts.get("channel_names") or facts.get("modality") or {}
    return str(names.get(str(channel), "")) if isinstance(names, dict) else ""


def _kind(image: Path) -> CaseKind:
    return "2D" if extension(image) in PICTURE else "3D"
