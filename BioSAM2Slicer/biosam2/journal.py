"""What happened in a session, in order, as data: enough to do it all again and get the same masks.

Results depend on the order of prompts and propagations (SAM 2's own do), so the order is the record.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, PromptError
from .masks import pack, unpack
from .prompts import Box, Mask, Point, Prompt
from .speed import Speed

# Changes that can be taken back.
UNDO_STEPS = 100


@dataclass(frozen=True)
class Prompted:
    """A prompt was added to a segment, which was created if it was new."""

    segment: str
    prompt: Prompt


@dataclass(frozen=True)
class Removed:
    """The prompt at a position among the segment's prompts was removed."""

    segment: str
    position: int


@dataclass(frozen=True)
class Started:
    """A segment was given an existing mask, bool (K, J, I), to start from."""

    segment: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Locked:
    """A slice of a segment was locked against propagation, or unlocked.

    Attributes:
        mask: what is kept, bool (rows, columns): while a propagation runs it tells more than the place in the journal.
            None where the slice was unlocked, and in records that did not say.
    """

    segment: str
    slice_index: int
    locked: bool
    mask: NDArray[np.bool_] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Cleared:
    """All prompts and masks of a segment were dropped; the segment stays."""

    segment: str


@dataclass(frozen=True)
class Propagated:
    """Segments were carried through a range of slices.

    Attributes:
        segments: in order of creation.
        direction: ``both``, ``forward`` or ``backward``.
        first, last: the range asked for, inclusive; None for no bound.
        finished: (segment, slice) in the order in which they were finished.
        complete: whether it ran to its end; one that was stopped did nothing after its last finished slice.
    """

    segments: tuple[str, ...]
    direction: str
    first: int | None
    last: int | None
    finished: tuple[tuple[str, int], ...] = ()
    complete: bool = False


@dataclass(frozen=True)
class Undone:
    """The last change that was still in force was taken back."""


@dataclass(frozen=True)
class Redone:
    """The change taken back last was put in force again."""


Entry: TypeAlias = Prompted | Removed | Started | Locked | Cleared | Propagated | Undone | Redone

_NAMES: dict[str, type] = {
    "prompt": Prompted,
    "remove": Removed,
    "start": Started,
    "lock": Locked,
    "clear": Cleared,
    "propagate": Propagated,
    "undo": Undone,
    "redo": Redone,
}


# What JSON data must be for each field; None stands for null.
_KINDS: dict[str, Any] = {
    "segment": str,
    "position": int,
    "slice_index": int,
    "locked": bool,
    "direction": str,
    "first": int | None,
    "last": int | None,
    "complete": bool,
}


def in_force(entries: list[Entry]) -> list[Entry]:
    """The entries without those that were taken back: a shorter way to the same state."""
    done: list[Entry] = []
    undone: list[Entry] = []
    for entry in entries:
        if isinstance(entry, Undone):
            undone.append(done.pop())
        elif isinstance(entry, Redone):
            done.append(undone.pop())
        else:
            done.append(entry)
            undone.clear()
    return done


def read_record(record: dict[str, Any]) -> tuple[dict[str, Any], list[Entry]]:
    """What `Session.to_record` told: the session's settings, as arguments of `Session`, and its entries.

    Raises:
        InputError: the record is damaged.
    """
    try:
        settings = {name: record[name] for name in ("axis", "crop", "policy", "precision")}
        settings["window"] = tuple(record["window"])
        # Records of before there were short cuts have none.
        settings["speed"] = Speed.from_json(record.get("speed", {}))
        entries = [from_json(entry) for entry in record["journal"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"the record lacks {error}; it is not one that biosam2 wrote") from error
    return settings, entries


def to_json(entry: Entry) -> dict[str, Any]:
    """An entry as plain JSON data."""
    name = next(n for n, kind in _NAMES.items() if type(entry) is kind)
    if isinstance(entry, Prompted):
        return {"op": name, "segment": entry.segment, "prompt": prompt_to_json(entry.prompt)}
    if isinstance(entry, Started):
        return {"op": name, "segment": entry.segment, "mask": pack_mask(entry.mask)}
    if isinstance(entry, Locked):
        kept = {} if entry.mask is None else {"mask": pack_mask(entry.mask)}
        return {"op": name, "segment": entry.segment, "slice_index": entry.slice_index, "locked": entry.locked, **kept}
    return {"op": name, **asdict(entry)}


def from_json(data: dict[str, Any]) -> Entry:
    """The entry that `to_json` wrote.

    Raises:
        InputError: it is not an entry of a journal.
    """
    try:
        fields = dict(data)
        kind = _NAMES[fields.pop("op")]
        for name, value in fields.items():
            if not isinstance(value, _KINDS.get(name, object)):
                raise TypeError(name)
        if kind is Prompted:
            fields["prompt"] = prompt_from_json(fields["prompt"])
        elif kind is Started or (kind is Locked and "mask" in fields):
            fields["mask"] = unpack_mask(fields["mask"])
        elif kind is Propagated:
            fields["segments"] = tuple(str(name) for name in fields["segments"])
            fields["finished"] = tuple((str(name), int(s)) for name, s in fields["finished"])
        return kind(**fields)
    except PromptError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the journal holds an entry that cannot be read: {str(data)[:80]}") from error


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain JSON data."""
    if isinstance(prompt, Point):
        return {"kind": "point", "ijk": list(prompt.ijk), "positive": prompt.positive}
    if isinstance(prompt, Box):
        return {"kind": "box", "min_ijk": list(prompt.min_ijk), "max_ijk": list(prompt.max_ijk)}
    return {"kind": "mask", "slice_index": prompt.slice_index, "mask": pack_mask(prompt.array2d)}


def prompt_from_json(data: dict[str, Any]) -> Prompt:
    """The prompt that `prompt_to_json` wrote.

    Raises:
        InputError: it is not a prompt.
    """
    try:
        kind = data["kind"]
        if kind == "point":
            return Point(data["ijk"], data["positive"])
        if kind == "box":
            return Box(data["min_ijk"], data["max_ijk"])
        if kind == "mask":
            return Mask(data["slice_index"], unpack_mask(data["mask"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"this is not a prompt: {str(data)[:80]}") from error
    raise InputError(f"there is no prompt kind {kind!r}")


def pack_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A bool array as JSON data: its shape, and its bits deflated and in base64."""
    bits = zlib.compress(pack(mask).tobytes(), level=6)
    return {"shape": list(mask.shape), "bits": base64.b64encode(bits).decode("ascii")}


def unpack_mask(data: dict[str, Any]) -> NDArray[np.bool_]:
    """The array that `pack_mask` wrote.

    Raises:
        InputError: shape and bits do not belong together.
    """
    try:
        shape = tuple(int(n) for n in data["shape"])
        if not shape or min(shape) < 0 or np.prod(shape, dtype=float) > 2**40:
            raise ValueError(f"shape {shape}")
        count = int(np.prod(shape, dtype=np.int64))
        size = (count + 7) // 8
        # Bounded, so that a few bytes cannot unfold into gigabytes.
        unfold = zlib.decompressobj()
        packed = unfold.decompress(base64.b64decode(data["bits"], validate=True), size + 1)
        if len(packed) != size:
            raise ValueError(f"{len(packed)} bytes for {count} bits")
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InputError(f"a stored mask is damaged: {error}") from error
    return unpack(np.frombuffer(packed, np.uint8), shape)
