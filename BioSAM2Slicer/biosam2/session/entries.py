"""What happened in a session, one entry for each change: enough to do it all again and get the same masks.

Results depend on the order of prompts and propagations (SAM 2's own do), so the order is the record. An entry is the
same thing in a session, in a message, in a record and in a saved scene.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PromptError
from ..masks import pack, unpack
from ..prompts import Prompt


class _Entry(msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True, omit_defaults=True):
    """Common to all entries."""


class Prompted(_Entry, frozen=True, tag="prompt"):
    """A prompt was added to a segment, which was created if it was new."""

    segment: str
    prompt: Prompt


class Removed(_Entry, frozen=True, tag="remove"):
    """The prompt at a position among the segment's prompts was removed."""

    segment: str
    position: int


class Started(_Entry, frozen=True, eq=False, tag="start"):
    """A segment was given an existing mask, bool (K, J, I), to start from."""

    segment: str
    mask: np.ndarray


class Locked(_Entry, frozen=True, eq=False, tag="lock"):
    """A slice of a segment was locked against propagation, or unlocked.

    Attributes:
        mask: what is kept, bool (rows, columns): while a propagation runs it tells more than the place among the
            entries. None where the slice was unlocked, and in records that did not say.
    """

    segment: str
    slice_index: int
    locked: bool
    mask: np.ndarray | None = None


class Cleared(_Entry, frozen=True, tag="clear"):
    """All prompts and masks of a segment were dropped; the segment stays."""

    segment: str


class Propagated(_Entry, frozen=True, tag="propagate"):
    """Segments were propagated through a range of slices.

    Attributes:
        segments: in order of creation.
        direction: ``both``, ``forward`` or ``backward``.
        first, last: the range asked for, inclusive; None for no bound.
        finished: (segment, slice) in the order in which they were finished.
        complete: whether it ran to its end; one that was stopped did nothing after its last finished slice.
        gone: of the finished ones, those without a result: what an earlier propagation had found there, beyond the
            segment's end, was taken back.
        interpolated: of the finished ones, those on which the network did not run: their masks lie between those of
            their neighbours.
    """

    segments: tuple[str, ...]
    direction: str
    first: int | None
    last: int | None
    finished: tuple[tuple[str, int], ...] = ()
    complete: bool = False
    gone: tuple[tuple[str, int], ...] = ()
    interpolated: tuple[tuple[str, int], ...] = ()

    def anew(self) -> Propagated:
        """The same, as if nothing of it had been done."""
        return Propagated(self.segments, self.direction, self.first, self.last)


Entry: TypeAlias = Prompted | Removed | Started | Locked | Cleared | Propagated


def to_json(entry: Entry) -> dict[str, Any]:
    """An entry as plain JSON data."""
    return plain(entry)


def to_text(entry: Entry) -> str:
    """The JSON of `to_json`."""
    return _text(entry).decode()


def from_json(data: Any) -> Entry:
    """The entry that `to_json` wrote.

    Raises:
        InputError: it is not an entry.
    """
    return _converted(data, Entry, "the journal holds an entry that cannot be read")


def renamed(entry: Entry, names: Mapping[str, str]) -> Entry:
    """An entry whose segments go by other names.

    Args:
        entry: what was said or done.
        names: the new names by the old ones; segments that are not in it keep theirs.
    """
    if not isinstance(entry, Propagated):
        return msgspec.structs.replace(entry, segment=names.get(entry.segment, entry.segment))
    return msgspec.structs.replace(
        entry,
        segments=tuple(names.get(name, name) for name in entry.segments),
        finished=tuple((names.get(name, name), s) for name, s in entry.finished),
        gone=tuple((names.get(name, name), s) for name, s in entry.gone),
        interpolated=tuple((names.get(name, name), s) for name, s in entry.interpolated),
    )


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain JSON data."""
    return plain(prompt)


def prompt_from_json(data: Any) -> Prompt:
    """The prompt that `prompt_to_json` wrote.

    Raises:
        InputError: it is not a prompt.
    """
    return _converted(data, Prompt, "this is not a prompt")


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """A structure as plain JSON data: lists, not tuples; masks packed."""
    return msgspec.json.decode(_text(value))


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


def _converted(data: Any, kind: Any, what: str) -> Any:
    try:
        return msgspec.convert(data, kind, dec_hook=_decoded)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, PromptError):
            raise error.__cause__ from error
        raise InputError(f"{what}: {str(data)[:80]}") from error


def _text(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value, enc_hook=_encoded)


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return pack_mask(value)
    raise NotImplementedError(type(value).__name__)


def _decoded(kind: type, value: Any) -> Any:
    if kind is np.ndarray:
        return unpack_mask(value)
    raise NotImplementedError(kind.__name__)
