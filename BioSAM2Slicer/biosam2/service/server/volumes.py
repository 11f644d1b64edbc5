"""Volumes on a server: named by their hash, received piece by piece, kept within a memory budget."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from threading import RLock

import numpy as np

from ...volume import Volume
from .. import arrays
from .. import messages as m
from ..errors import ProtocolError, RefusedError
from ..framing import Decoder, Limits, Refused
from ..upload import CHUNK, begin_hash

# A chunk carries some more bytes than it has voxels where these do not compress.
_LIMITS = Limits(head=64 << 10, body=2 * CHUNK, decoded=2 * CHUNK)


class VolumeStore:
    """Volumes by their hash. One that no session uses gives way to newer ones. May be used from several threads.

    Args:
        budget: bytes of voxels that may be held, those on their way included.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._volumes: OrderedDict[str, Volume] = OrderedDict()
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
            return sum(v.array.nbytes for v in self._volumes.values()) + self._arriving

    def use(self, name: str) -> Volume | None:
        """The volume, kept until `release`; None where it is not here."""
        with self._lock:
            volume = self._volumes.get(name)
            if volume is not None:
                self._volumes.move_to_end(name)
                self._users[name] += 1
            return volume

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

    def keep(self, name: str, volume: Volume) -> None:
        """Hold a volume that has arrived; one that two clients sent at once is held once."""
        with self._lock:
            self._volumes.setdefault(name, volume)


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
        voxels = self._bytes.view(arrays.dtype_of(header.dtype)).reshape(header.shape)
        voxels.setflags(write=False)
        volume = Volume(voxels, header.spacing, header.origin, np.array(header.direction))
        self._store.give_back(self._reserved)
        self._reserved = 0
        self._store.keep(self._name, volume)

    def _begin(self, header: m.VolumeHeader) -> None:
        if self._header is not None:
            raise ProtocolError("a volume has one header")
        if min(header.shape) < 1:
            raise ProtocolError("the volume has a shape that cannot be")
        size = math.prod(header.shape) * arrays.dtype_of(header.dtype).itemsize
        self._store.reserve(size)
        self._reserved = size
        self._header = header
        self._digest = begin_hash(header)
        # Memory pages come into being as they are written: what is only announced costs nothing.
        self._bytes = np.empty(size, np.uint8)
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
