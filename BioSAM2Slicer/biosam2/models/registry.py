"""The models that there are: shipped, to be downloaded, and the user's own. Works without torch.

What comes with the package stands in ``Resources/Models/registry.json``. Files of the user's computer lie in
the folders of `folders`: downloads by their own name, and one folder for each model that the user added.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelError
from ..resources import resource_path
from .folders import models_folder, own_folder
from .hashing import sha256_of
from .receipts import leftovers, recorded_sha256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_OWN_RECORD = "model.json"
_OWN_CONFIG = "config.yaml"


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: what the user types.
        description: what it is for.
        config: the name of a configuration, or the path of a YAML file.
        overrides: OmegaConf dot-list changes to that configuration.
        image_size: side of the network's square input, in pixels.
        file: the checkpoint's file name.
        source: where the checkpoint comes from.
        licence: SPDX identifier, or what the user wrote.
        url: where to download it.
        bytes: the file's size; None when it is not known beforehand.
        sha256: its hash in lower-case hex; None when it is not known beforehand.
        sha256_header: the response header by which the host of `url` tells the hash.
        listed_bytes: the size as the host's listing rounds it, to the megabyte; where `bytes` is not known.
        terms: what the host of the weights asks beside the licence.
        terms_url: where it does so.
        purpose: ``general``; ``task``, for `targets` on `modalities` only; ``trial``, where nothing better runs; or
            ``archive``, an earlier version, kept to repeat results.
        modalities: DICOM codes of the modalities that it was trained on; empty where none stands out.
        targets: what a model of purpose ``task`` was trained to outline.
        needs_gpu: whether it is too slow to work with on a CPU.
        references: where these facts were read, and which of them.
    """

    name: str
    description: str
    config: str
    image_size: int
    file: str
    source: Literal["shipped", "download", "user"]
    licence: str = ""
    licence_url: str | None = None
    overrides: tuple[str, ...] = ()
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    sha256_header: str | None = None
    listed_bytes: int | None = None
    terms: str = ""
    terms_url: str | None = None
    purpose: Literal["general", "task", "trial", "archive"] = "general"
    modalities: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    needs_gpu: bool = False
    references: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """The checkpoint's size in bytes: exact where it is known, else as its host's listing rounds it."""
        return self.bytes or self.listed_bytes

    @property
    def conditions(self) -> str:
        """The licence, and what the host asks beside it, on one line."""
        return ", ".join(part for part in (self.licence, self.terms) if part)

    @property
    def path(self) -> Path:
        """Where the checkpoint lies, or would lie."""
        if self.source == "shipped":
            return resource_path("Models") / self.file
        if self.source == "user":
            return own_folder() / self.name / self.file
        return models_folder() / self.file

    @property
    def present(self) -> bool:
        """Whether the checkpoint is on this computer."""
        return self.path.is_file()


def list_models() -> list[ModelEntry]:
    """All models, the package's in the registry's order and then the user's by name."""
    return [*_built_in(), *_own()]


def get(name: str) -> ModelEntry:
    """The model of that name.

    Raises:
        ModelError: there is none; the message lists those there are.
    """
    for entry in _built_in():  # first, so that a damaged model of the user's does not stand in the way
        if entry.name == name:
            return entry
    for entry in _own():
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in list_models())
    raise ModelError(f"there is no model {name!r}; there are {known}, or give a checkpoint with its configuration")


def is_known(name: str) -> bool:
    """Whether there is a model of that name, of the package or of the user."""
    own = bool(_NAME.fullmatch(name)) and (own_folder() / name).is_dir()
    return own or any(entry.name == name for entry in _built_in())


def path_of(model: str | ModelEntry) -> Path:
    """The checkpoint of a model, which is on this computer.

    Raises:
        ModelError: there is no such model, or its file is not here; the message says how to get it.
    """
    entry = get(model) if isinstance(model, str) else model
    if not entry.present:
        if entry.source == "download":
            raise ModelError(f"model {entry.name} is not downloaded; run: biosam2 models download {entry.name}")
        if entry.source == "user":
            raise ModelError(f"the file of model {entry.name} is gone; remove the model and add it again")
        raise ModelError(f"the installation lacks Resources/Models/{entry.file}; reinstall biosam2")
    return entry.path


def verify(model: str | ModelEntry) -> str:
    """Compare a model's file with the registry; returns its SHA-256.

    A large file that was hashed before and has the same size and time is not read again.

    Raises:
        ModelError: the file is not here, or is not the one that the registry names.
    """
    entry = get(model) if isinstance(model, str) else model
    path = path_of(entry)
    if entry.bytes is not None and path.stat().st_size != entry.bytes:
        raise ModelError(f"{path} has {path.stat().st_size} bytes, not {entry.bytes}; {_again(entry)}")
    found = sha256_of(path)
    expected = entry.sha256 or recorded_sha256(entry.path)
    if expected is not None and found != expected:
        raise ModelError(f"{path} is not the file of model {entry.name} (its SHA-256 is {found}); {_again(entry)}")
    return found


def add(
    checkpoint: str | Path,
    config: str | Path,
    name: str | None = None,
    *,
    description: str = "",
    licence: str = "",
    replace: bool = False,
) -> ModelEntry:
    """Copy a checkpoint and its configuration into the user's models, after loading it once to see that it works.

    Args:
        checkpoint: a file of weights.
        config: a YAML file, or the name of a configuration.
        name: what it will be called; by default the checkpoint's file name.
        description: what it is for, in one line.
        licence: of the weights; an SPDX identifier where there is one.
        replace: whether an earlier model of the user's by that name may be replaced.

    Raises:
        ModelError: the checkpoint does not load, or the name is taken or unusable.
    """
    checkpoint = Path(checkpoint)
    name = checkpoint.stem if name is None else name
    if not _NAME.fullmatch(name):
        raise ModelError(f"{name!r} cannot be a model's name; use letters, digits and . _ + - only")
    if any(entry.name == name for entry in _built_in()):
        raise ModelError(f"the name {name!r} belongs to a model of the package; give another name")
    folder = own_folder() / name
    if folder.exists() and not replace:
        raise ModelError(f"there is a model {name!r} already; remove it first or give another name")

    from .network import build_network, require_engine

    require_engine()
    from omegaconf import OmegaConf

    from .checkpoint import load_weights
    from .config import load_config

    node = load_config(config)
    load_weights(build_network(node, initialise=False), checkpoint)
    try:
        own_folder().mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=own_folder()))
    except OSError as error:
        raise ModelError(f"models cannot be kept in {own_folder()}: {error.strerror}; set BIOSAM2_HOME") from error
    retired = staging.with_name(f"{staging.name}-old")
    try:
        file = f"checkpoint{checkpoint.suffix}"
        shutil.copyfile(checkpoint, staging / file)
        (staging / _OWN_CONFIG).write_text(OmegaConf.to_yaml(node), encoding="utf-8")
        entry = ModelEntry(
            name=name,
            description=description,
            config=str(folder / _OWN_CONFIG),
            image_size=node.image_size,
            file=file,
            source="user",
            licence=licence,
            bytes=(staging / file).stat().st_size,
            sha256=sha256_of(staging / file),
        )
        record = {key: value for key, value in asdict(entry).items() if key not in {"config", "source", "name"}}
        (staging / _OWN_RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        if folder.exists():
            folder.rename(retired)
        staging.rename(folder)
        shutil.rmtree(retired, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"model {name} cannot be kept in {own_folder()}: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return entry


def remove(name: str) -> None:
    """Delete the file of a downloaded model, or a model that the user added.

    Raises:
        ModelError: there is none, or it came with the package.
    """
    entry = get(name)
    if entry.source == "shipped":
        raise ModelError(f"model {name} is part of the package and cannot be removed")
    try:
        if entry.source == "user":
            shutil.rmtree(entry.path.parent)
        else:
            for path in [entry.path, *leftovers(entry.path)]:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"model {name} cannot be removed: {error.strerror}") from error


@cache
def _built_in() -> tuple[ModelEntry, ...]:
    data = json.loads(resource_path("Models/registry.json").read_text(encoding="utf-8"))
    return tuple(
        _entry(model, source="shipped" if model.pop("shipped", False) else "download") for model in data["models"]
    )


def _own() -> list[ModelEntry]:
    entries = []
    for record in sorted(own_folder().glob(f"*/{_OWN_RECORD}")):
        if record.parent.name.startswith("."):
            continue
        try:
            data = json.loads(record.read_text(encoding="utf-8"))
            config = str(record.parent / _OWN_CONFIG)
            entries.append(_entry({**data, "name": record.parent.name, "config": config}, source="user"))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{record} is damaged; delete its folder and add the model again") from error
    return entries


def _entry(data: dict[str, Any], source: Literal["shipped", "download", "user"]) -> ModelEntry:
    # JSON has no tuples.
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return ModelEntry(**plain, source=source)


def _again(entry: ModelEntry) -> str:
    if entry.source == "download":
        return f"run: biosam2 models download {entry.name}"
    return "reinstall biosam2" if entry.source == "shipped" else "add it again"
