"""Volumes on a server: named by their hash, received piece by piece, kept within a memory budget."""

from __future__ import annotations

import math
import os
import weakref
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock

import numpy as np

from ...errors import InputError
from ...volume import Volume
from .. import arrays
from .. import messages as m
from ..errors import ProtocolError, RefusedError
from ..framing import Decoder, Limits, Refused
from ..upload import CHUNK, begin_hash

# A chunk carries some more bytes than it has voxels where these do not compress.
_LIMITS = Limits(head=64 << 10, body=2 * CHUNK, decoded=2 * CHUNK)


@dataclass(frozen=True, eq=False)
class Held:
    """A volume that a server holds.

    Attributes:
        name: the hash of its geometry and voxels.
        volume: it.
        shared: its voxels for other processes; None where they are this process's own.
    """

    name: str
    volume: Volume
    shared: SharedVoxels | None = None


class SharedVoxels:
    """A ``.npy`` file in memory, without a name on any disk, that other processes of this user can map.

    It is gone when it is closed and nobody maps it any more.

    Args:
        dtype, shape: of its array.
    """

    def __init__(self, dtype: np.dtype, shape: Sequence[int]) -> None:
        self._file = os.memfd_create("biosam2-voxels")
        weakref.finalize(self, os.close, self._file)
        self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        # Pages come into being as they are written, as those of numpy.empty.
        self.array = np.lib.format.open_memmap(self.path, "w+", dtype, tuple(shape))


def check_sharing() -> None:
    """Check that processes can share voxels that lie on no disk.

    Raises:
        InputError: not on this system.
    """
    if not hasattr(os, "memfd_create"):
        raise InputError("several devices need Linux; start one server for each")


class VolumeStore:
    """Volumes by their hash. One that no session uses gives way to newer ones. May be used from several threads.

    Args:
        budget: bytes of voxels that may be held, those on their way included.
        shared: whether other processes are to map the voxels.
    """

    def __init__(self, budget: int, shared: bool = False) -> None:
        self.budget = budget
        self.shared = shared
        self._volumes: OrderedDict[str, Held] = OrderedDict()
        self._users: Counter[str] = Counter()
        self._arriving = 0
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._volumes)

    def __contains__(self, name: str) -> bool:
        return name in self._volumes

    @property
    def nbytes(self) -> int:
        """Bytes held and promised."""
        with self._lock:
            return sum(held.volume.array.nbytes for held in self._volumes.values()) + self._arriving

    def use(self, name: str) -> Held | None:
        """The volume, kept until `release`; None where it is not here."""
        with self._lock:
            held = self._volumes.get(name)
            if held is not None:
                self._volumes.move_to_end(name)
                self._users[name] += 1
            return held

    def release(self, name: str) -> None:
        """End one `use`."""
        with self._lock:
            self._users[name] -= 1
            if self._users[name] <= 0:
                del self._users[name]

    def reserve(self, size: int) -> None:
        """Make room for a volume that arrives.

        Raises:
            RefusedError: there cannot be that much.
        """
        with self._lock:
            for name in [n for n in self._volumes if not self._users[n]]:
                if self.nbytes + size <= self.budget:
                    break
                del self._volumes[name]
            if self.nbytes + size > self.budget:
                raise RefusedError(
                    f"the server has no room for a volume of {size / 2**20:.0f} MiB (it holds "
                    f"{self.nbytes / 2**20:.0f} of {self.budget / 2**20:.0f} MiB); try again later or ask for a larger "
                    "--volume-memory"
                )
            self._arriving += size

    def give_back(self, size: int) -> None:
        """End a `reserve`."""
        with self._lock:
            self._arriving -= size

    def keep(self, held: Held) -> None:
        """Hold a volume that has arrived; one that two clients sent at once is held once."""
        with self._lock:
            self._volumes.setdefault(held.name, held)


class Upload:
    """One volume on its way in. Use as a context manager, so that its place is given back.

    Args:
        name: the hash that it shall have.
        store: where it goes.
    """

    def __init__(self, name: str, store: VolumeStore) -> None:
        self._name = name
        self._store = store
        self._decoder: Decoder[m.Uploaded] = Decoder(m.Uploaded, _LIMITS)
        self._header: m.VolumeHeader | None = None
        self._reserved = 0

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *error: object) -> None:
        self._store.give_back(self._reserved)
        self._reserved = 0

    def feed(self, data: bytes) -> None:
        """Take bytes.

        Raises:
            ProtocolError: they are not what they should be.
            RefusedError: there is no room.
        """
        for piece in self._decoder.feed(data):
            if isinstance(piece, Refused):
                raise ProtocolError(piece.reason)
            if isinstance(piece, m.VolumeHeader):
                self._begin(piece)
            else:
                self._add(piece)

    def finish(self) -> None:
        """Check the whole, and keep it.

        Raises:
            ProtocolError: it is not the volume that was announced.
            InputError: it is no volume.
        """
        header = self._header
        if header is None or self._filled != self._bytes.size or self._decoder.waiting:
            raise ProtocolError("the volume ended before all its voxels had arrived")
        if self._digest.hexdigest() != self._name:
            raise ProtocolError("the volume does not have the hash that it was sent under")
        self._array.setflags(write=False)
        volume = Volume(self._array, header.spacing, header.origin, np.array(header.direction))
        self._store.give_back(self._reserved)
        self._reserved = 0
        self._store.keep(Held(self._name, volume, self._shared))

    def _begin(self, header: m.VolumeHeader) -> None:
        if self._header is not None:
            raise ProtocolError("a volume has one header")
        if min(header.shape) < 1:
            raise ProtocolError("the volume has a shape that cannot be")
        dtype = arrays.dtype_of(header.dtype)
        size = math.prod(header.shape) * dtype.itemsize
        self._store.reserve(size)
        self._reserved = size
        self._header = header
        self._digest = begin_hash(header)
        # Memory pages come into being as they are written: what is only announced costs nothing.
        self._shared = SharedVoxels(dtype, header.shape) if self._store.shared else None
        self._array = np.empty(header.shape, dtype) if self._shared is None else self._shared.array
        self._bytes = self._array.reshape(-1).view(np.uint8)
        self._filled = 0

    def _add(self, chunk: m.Chunk) -> None:
        if self._header is None:
            raise ProtocolError("a volume begins with its header")
        data = chunk.data
        if data.dtype != np.uint8 or data.ndim != 1 or self._filled + data.size > self._bytes.size:
            raise ProtocolError("the volume has more voxels than it announced")
        self._bytes[self._filled : self._filled + data.size] = data
        self._filled += data.size
        self._digest.update(data.data)
