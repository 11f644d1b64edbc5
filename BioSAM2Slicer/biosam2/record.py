"""The JSON record of a run: what went in, what was done, what came out; enough to do it again.

It holds paths as the user typed them, hashes, settings and prompts, and nothing of the patient's.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import __version__
from .errors import InputError
from .masks import pack
from .models.hashing import digest_of

if TYPE_CHECKING:
    from .io.review import Review
    from .models import Model
    from .session import ModelFacts

FORMAT = "biosam2-record-1"
_ABSENT = object()
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "pipeline": str,
    "input.path": str,
    "input.sha256": str,
    "input.series_uid": (str, type(None)),
    "model.name": str,
    "model.sha256": str,
    "model.typed": (str, type(None)),
    "model.config": (str, type(None)),
    "device": str,
    "versions": dict,
    "session.axis": str,
    "session.window": list,
    "session.crop": (str, type(None)),
    "session.policy": str,
    "session.precision": str,
    "session.journal": list,
    "labelmap_sha256": str,
}
_PACKAGES = ("torch", "rf-sam-2", "sam2", "numpy", "SimpleITK")


def build(
    pipeline: str,
    source: Mapping[str, Any],
    model: Model | ModelFacts,
    session: Mapping[str, Any],
    segments: Segments,
    outputs: Sequence[Path] = (),
    typed: str | None = None,
    config: str | None = None,
    review: Review | None = None,
) -> dict[str, Any]:
    """The record of a finished run, as JSON data.

    Args:
        pipeline: ``segment``, ``image`` or ``video``.
        source: the input: ``path`` as typed, ``sha256`` of `hash_input` taken before it was read, ``series_uid`` that
            the user asked for, and what else is known.
        model: what was used.
        session: what `Session.to_record` told.
        segments: what came out.
        outputs: what was written.
        typed: how the user called the model: a name, a path, or nothing.
        config: the configuration that the user gave with a checkpoint.
        review: what a person looked at and approved.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "pipeline": pipeline,
        "input": {"series_uid": None, **source},
        "model": {"name": model.name, "sha256": model.sha256, "typed": typed, "config": config},
        "device": str(model.device),
        "versions": versions(),
        "session": dict(session),
        "labelmap_sha256": hash_labels(segments),
        "outputs": [{"path": str(path), "sha256": hash_input(path)} for path in outputs],
    }
    return content if review is None else with_review(content, review)


def with_review(record: dict[str, Any], review: Review) -> dict[str, Any]:
    """A record that says what a person looked at and approved.

    Args:
        record: as `build` gives it.
        review: of the slices of a segmentation.
    """
    return {**record, "review": review.to_json()}


def review_of(record: dict[str, Any]) -> Review | None:
    """What a record says that a person looked at and approved, or None.

    Raises:
        InputError: that part is damaged.
    """
    from .io.review import Review

    return Review.from_json(record["review"]) if "review" in record else None


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record; atomic.

    Args:
        path: .json; an earlier file is replaced.
        record: as `build` gives it.

    Raises:
        OutputError: it cannot be written.
    """
    from .io import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        InputError: it is not one that this version wrote.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise InputError(f"cannot read the record {path}: {reason}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path} is not a record that this version of biosam2 wrote")
    for place, kinds in _FIELDS.items():
        value: Any = record
        for key in place.split("."):
            value = value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT
        if not isinstance(value, kinds):
            raise InputError(f"the record {path} is damaged: {place} is not as it was written")
    return record


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "platform": f"{sys.platform} {platform.machine()}"}
    # Not installed in 3D Slicer, where the package lies beside the module.
    found["biosam2"] = __version__
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # noqa: PERF203 - sam2 goes by two names
            continue
    return found


def hash_input(path: Path) -> str:
    """SHA-256 of a file; of a folder, or of a header with its voxels beside it, that of all files' names and contents.

    Raises:
        InputError: it cannot be read.
    """
    from .io import files_of

    try:
        files = files_of(path)
        if files == [path]:
            return digest_of(path)
        folder = path if path.is_dir() else path.parent
        lines = (f"{file.relative_to(folder).as_posix()}\0{digest_of(file)}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {error.filename or path}: {error.strerror}") from error


class Segments(Protocol):
    """What has segments: a session, or a segmentation in Slicer."""

    @property
    def segments(self) -> Sequence[str]:
        """Their names."""

    def mask(self, segment: str) -> NDArray[np.bool_]:
        """One's mask, bool (K, J, I)."""


def hash_labels(segments: Segments) -> str:
    """SHA-256 of all segments, names and overlaps included."""
    digest = hashlib.sha256()
    for name in segments.segments:
        digest.update(name.encode() + b"\0")
        digest.update(pack(segments.mask(name)).tobytes())
    return digest.hexdigest()
