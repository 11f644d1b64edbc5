"""What makes a host's sessions: a network of its own, or a server elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..errors import InputError
from ..volume import Volume
from . import messages as m
from .errors import ProtocolError

if TYPE_CHECKING:
    from ..engine.features import FeatureCache
    from ..models import Model
    from ..session import Session


class LocalEngine:
    """One model and one volume of this computer, in this process."""

    relay = False

    def __init__(self) -> None:
        self._asked: m.LoadModel | None = None
        self._model: Model | None = None
        self._volume: Volume | None = None

    def load_model(self, asked: m.LoadModel) -> Iterator[m.Progress | m.ModelLoaded]:
        """Load a network, or say again what is loaded when it is asked for again."""
        if self._model is None or self._asked is None or not _same_model(self._asked, asked):
            yield m.Progress(id=asked.id, stage="starting torch")
            from ..models import load_model
            from ..models.network import require_engine

            require_engine()
            yield m.Progress(id=asked.id, stage="loading the model")
            self._model = None
            name: str | Path | None = asked.name
            self._model = load_model(name, asked.device, checkpoint=asked.checkpoint, config=asked.config)
            self._asked = asked
        from ..session.local import facts_of

        yield m.ModelLoaded(id=asked.id, model=facts_of(self._model))

    def open_volume(self, asked: m.OpenVolume) -> None:
        """Map a file."""
        self._volume = None
        self._volume = map_volume(asked)

    def create(self, asked: m.Create) -> Session:
        """A session in this process."""
        if self._model is None:
            raise ProtocolError("there is no model yet; send load_model first")
        if self._volume is None:
            raise ProtocolError("there is no volume yet; send open_volume first")
        return new_session(self._model, self._volume, asked)

    def encode_ahead(self, session: Session, busy: Callable[[], bool]) -> bool:
        """See `Session.encode_ahead`."""
        return session.encode_ahead(busy)

    def close(self, session: Session) -> None:
        """Nothing is shared."""


def new_session(model: Model, volume: Volume, asked: m.Create, features: FeatureCache | None = None) -> Session:
    """The session that was asked for.

    Raises:
        InputError: settings that it does not take.
    """
    from ..session import Session

    return Session(model, volume, features=features, **msgspec.structs.asdict(asked.settings))


def map_volume(asked: m.OpenVolume) -> Volume:
    """The volume whose voxels a ``.npy`` file holds, mapped rather than read.

    Raises:
        InputError: there is no such file, or it holds no volume.
    """
    try:
        voxels = np.load(asked.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no .npy file of numbers"
        raise InputError(f"the volume's file {Path(asked.path).name} cannot be opened: {reason}") from error
    if not isinstance(voxels, np.ndarray):
        raise InputError("the volume's file is an archive of several arrays; save one with numpy.save")
    return Volume(voxels, asked.spacing, asked.origin, np.array(asked.direction))


def _same_model(a: m.LoadModel, b: m.LoadModel) -> bool:
    return (a.name, a.checkpoint, a.config, a.device) == (b.name, b.checkpoint, b.config, b.device)
