"""What makes the engine faster than SAM 2's own predictor, each part with a name by which it is switched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from .errors import InputError


class Speed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which optimisations a session uses. The first five are exact and on; the others are approximate and off.

    So is ``encoder="bfloat16"``, the one approximate value of an exact optimisation.

    Attributes:
        encoder: exact, where windows reach beyond the image up to rounding; the image encoder leaves out work that
            its result does not show (see `engine.encoding`). ``"bfloat16"``: approximate; besides that, the encoder
            and nothing else computes in bfloat16. For processors with AVX512_BF16 or AMX; on others a warning says
            so.
        attention: exact up to rounding; memories are projected once, values are multiplied narrow (see
            `engine.attention`); on the CPU, in float32, where a step has many tokens: from 512 pixels on, or for four
            segments at 256.
        release: exact; encoded memories are released once a sweep has passed them, and made again when needed.
        disk: exact; logits, and encoded slices for which memory has no room, lie in temporary files.
        ahead: exact; a worker or a server spends idle time on encoding the slices around the one prompted last.
        pool: approximate; memory tokens are seen in squares of this side, 1 for each by itself; with `attention` only.
        conditioning: approximate; at most this many conditioning slices are attended to, the nearest; None for all
            that the network allows.
        stop: approximate; a sweep ends where the segment has been absent from this many slices in a row and no
            prompted slice lies ahead; None never.
        stride: approximate; a sweep runs the network on every n-th slice, and the masks between are interpolated (see
            `interpolation`). Where two masks that follow one another differ much, and where the segment begins or ends,
            the network runs on the slices between as well. ``"auto"``: n by the distance of slices and the target's
            size on its prompted slices. 1 for every slice. Where most masks differ it takes longer than 1, for it runs
            slices again. Not together with `local`.
        local: approximate; after a correction sweeps start at the corrected slices and end at the next prompted slice
            or where masks agree again with what was there.

    Raises:
        InputError: a number that is less than 1, or two that exclude each other.

    Example:
        >>> Speed(stop=5, local=True)
        >>> Speed.parse("stop=5,local,-attention")
    """

    encoder: bool | Literal["bfloat16"] = True
    attention: bool = True
    release: bool = True
    disk: bool = True
    ahead: bool = True
    pool: int = 1
    conditioning: int | None = None
    stop: int | None = None
    stride: int | Literal["auto"] = 1
    local: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, bool) and self.encoder not in _WORDS["encoder"]:
            raise InputError(f"speed: encoder is {_kind('encoder')}, not {self.encoder!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is None or value in _WORDS.get(name, ()):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"speed: {name} is {_kind(name)}, not {value!r}")
        if self.local and self.stride != 1:
            raise InputError("speed: local and stride exclude each other; leave one out")

    @property
    def is_exact(self) -> bool:
        """Whether results equal SAM 2's own."""
        exact = msgspec.structs.replace(self, pool=1, conditioning=None, stop=None, stride=1, local=False)
        return self == exact and self.encoder not in _WORDS["encoder"]

    @classmethod
    def parse(cls, text: str) -> Speed:
        """Settings from ``NAME``, ``-NAME`` and ``NAME=VALUE``, separated by commas; the others as by default.

        Raises:
            InputError: an unknown name, or a value that it does not take.
        """
        changes: dict[str, Any] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, equals, value = part.lstrip("-").partition("=")
            takes_value = name in _NUMBERS or name in _WORDS
            if name not in _NAMES or (equals and (not takes_value or part.startswith("-"))):
                raise InputError(f"speed: {part!r} is none of {_GRAMMAR}")
            if not equals and name in _NUMBERS:
                raise InputError(f"speed: {part!r} is none of {_GRAMMAR}")
            if not equals:
                changes[name] = not part.startswith("-")
            elif value in _WORDS.get(name, ()):
                changes[name] = value
            elif name in _NUMBERS and value.isdecimal():
                changes[name] = int(value)
            else:
                raise InputError(f"speed: {name} is {_kind(name)}, not {value!r}")
        return cls(**changes)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Speed:
        """What `to_json` gave.

        Raises:
            InputError: not such a mapping.
        """
        unknown = set(data) - set(_NAMES)
        if unknown:
            raise InputError(f"speed: there is no setting {min(unknown)!r}; settings are {', '.join(_NAMES)}")
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON data."""
        return msgspec.structs.asdict(self)


_NUMBERS = ("pool", "conditioning", "stop", "stride")
# What a number, or a switch, may be instead.
_WORDS = {"stride": ("auto",), "encoder": ("bfloat16",)}
_NAMES = Speed.__struct_fields__


def _written(name: str) -> str:
    """How a setting is written."""
    words = _WORDS.get(name, ())
    if name in _NUMBERS:
        return "|".join((f"{name}=N", *words))
    return " or ".join((name, f"-{name}", *(f"{name}={word}" for word in words)))


_GRAMMAR = ", ".join(map(_written, _NAMES))


def _kind(name: str) -> str:
    """What a setting may be."""
    return " or ".join((*_WORDS.get(name, ()), "a whole number of at least 1" if name in _NUMBERS else "on or off"))
