"""Messages as bytes and back, without input or output (sans-IO); what is too large is refused before it is read.

A frame is ``MAGIC``, the length of the head and of the body (two little-endian uint32), the head, the body. The head
is MessagePack: one message of `messages`, in which an array is extension type 1 that describes it; the body is the
arrays' bytes in the order of their descriptions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from . import arrays
from .errors import ProtocolError

MAGIC = b"\x93BS2"
_SIZES = struct.Struct("<II")
_HEADER = len(MAGIC) + _SIZES.size
_ARRAY = 1

_T = TypeVar("_T")


@dataclass(frozen=True)
class Limits:
    """What one frame may bring, in bytes.

    Attributes:
        head: of MessagePack; small, because few bytes of it can become many objects.
        body: of arrays as they travel.
        decoded: of arrays in memory.
    """

    head: int = 256 << 10
    body: int = 128 << 20
    decoded: int = 512 << 20


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Refused:
    """A frame, or bytes between frames, that were not understood and passed over."""

    reason: str


def encode(message: msgspec.Struct, *, deflate: bool = False) -> bytes:
    """A message as one frame.

    Args:
        message: one of `messages`.
        deflate: whether arrays that are no masks are compressed too; worth it on a network.

    Raises:
        ProtocolError: it holds an array that cannot travel.
    """
    body: list[bytes | memoryview] = []

    def describe(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray):
            raise ProtocolError(f"a {type(value).__name__} cannot be sent")
        description, data = arrays.pack(value, deflate)
        body.append(data)
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(description))

    head = msgspec.msgpack.encode(message, enc_hook=describe)
    return b"".join([MAGIC, _SIZES.pack(len(head), sum(map(len, body))), head, *body])


def size_of(value: Any) -> tuple[int, int]:
    """What a message, or a part of one, takes of `Limits`: bytes of its head, about, and of its arrays in memory.

    Args:
        value: a structure of `messages`.
    """
    arrays_size = 0

    def count(value: Any) -> Any:
        nonlocal arrays_size
        if isinstance(value, np.generic):
            return value.item()
        arrays_size += value.nbytes
        return None

    return len(msgspec.msgpack.encode(value, enc_hook=count)), arrays_size


class Decoder(Generic[_T]):
    """Frames from bytes that arrive in any pieces.

    Bytes that are no frame are passed over up to the next ``MAGIC`` and reported, so that one bad message does not
    end a conversation.

    Args:
        kind: the message, or union of messages, that is understood.
        limits: what a frame may bring.

    Example:
        >>> decoder = Decoder(Asked)
        >>> for message in decoder.feed(os.read(0, 1 << 20)):
        ...     print("no message:" if isinstance(message, Refused) else message)
    """

    def __init__(self, kind: Any, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._body = memoryview(b"")
        self._taken = 0
        self._decoded = 0
        self._decoder = msgspec.msgpack.Decoder(kind, ext_hook=self._extension)
        self._describe = msgspec.msgpack.Decoder(arrays.Description)
        self._buffer = bytearray()
        self._to_skip = 0
        self._lost = False

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not yet whole."""
        return len(self._buffer) + self._to_skip

    def feed(self, data: arrays.Buffer) -> Iterator[_T | Refused]:
        """Take bytes; yield the messages that they complete. Take all that it yields before feeding more."""
        self._buffer += data
        while True:
            if self._to_skip:
                gone = min(self._to_skip, len(self._buffer))
                del self._buffer[:gone]
                self._to_skip -= gone
                if self._to_skip:
                    return
            junk = self._junk()
            if junk:
                del self._buffer[:junk]
                if not self._lost:
                    self._lost = True
                    yield Refused("these bytes are no message")
                continue
            if len(self._buffer) < _HEADER:
                return
            self._lost = False
            head, body = _SIZES.unpack_from(self._buffer, len(MAGIC))
            if head > self._limits.head or body > self._limits.body:
                self._to_skip = _HEADER + head + body
                yield Refused(
                    f"a message of {head + body} bytes is too large; the limit is {self._limits.head} and "
                    f"{self._limits.body} for its arrays"
                )
                continue
            if len(self._buffer) < _HEADER + head + body:
                return
            frame = bytes(self._buffer[: _HEADER + head + body])
            del self._buffer[: _HEADER + head + body]
            yield self._message(frame, head)

    def _junk(self) -> int:
        """How many bytes there are before the next MAGIC, or before what may become it."""
        found = self._buffer.find(MAGIC)
        if found >= 0:
            return found
        keep = next(n for n in range(len(MAGIC) - 1, -1, -1) if self._buffer.endswith(MAGIC[:n]))
        return len(self._buffer) - keep

    def _message(self, frame: bytes, head: int) -> _T | Refused:
        self._body = memoryview(frame)[_HEADER + head :]
        self._taken = self._decoded = 0
        try:
            message = self._decoder.decode(memoryview(frame)[_HEADER : _HEADER + head])
            if self._taken != len(self._body):
                raise ProtocolError("a message has more bytes than its arrays")
        except ProtocolError as error:
            return Refused(str(error))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
            return Refused(f"a message cannot be read ({' '.join(str(error).split())[:200]})")
        finally:
            self._body = memoryview(b"")
        return message

    def _extension(self, code: int, data: memoryview) -> Any:
        if code != _ARRAY:
            raise ProtocolError(f"there is no extension type {code}")
        description = self._describe.decode(data)
        self._decoded += description.decoded
        if self._decoded > self._limits.decoded:
            raise ProtocolError(f"a message's arrays unfold to more than the limit of {self._limits.decoded} bytes")
        start, self._taken = self._taken, self._taken + description.size
        if self._taken > len(self._body):
            raise ProtocolError("a message's arrays are longer than its bytes")
        return arrays.unpack(description, self._body[start : self._taken])
