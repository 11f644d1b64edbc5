"""A device of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Thread

import psutil

from ...engine.features import FeatureCache
from ...errors import InputError
from ...models import Model, load_model
from ...session import ModelFacts, Session
from ...session.local import facts_of
from ...volume import Volume
from .. import messages as m
from ..engines import new_session
from ..errors import ProtocolError
from ..host import Host
from ..scheduler import Scheduler
from .device import Deliver, Load, Lost
from .features import SharedFeatures
from .volumes import Held


def load_models(names: Sequence[str], device: str, config: str | None = None) -> dict[str, Model]:
    """Networks by their names, the default first.

    Args:
        names: of the registry, or paths; none for the shipped one.
        device: where they run; see `biosam2.load_model`.
        config: of checkpoints without one beside them; see `biosam2.load_model`.

    Raises:
        InputError: two of them have one name.
        ModelError, DeviceError: see `biosam2.load_model`.
    """
    loaded = [load_model(name, device, config=config) for name in names or (None,)]
    models = {model.name: model for model in loaded}
    if len(models) < len(loaded):
        named = ", ".join(model.name for model in loaded)
        raise InputError(f"models are served by their names, and two of these have one name: {named}; rename a file")
    return models


class LocalDevice:
    """Sessions in this process, whose work one thread does.

    Args:
        models: loaded networks by name, all on one device; shared by all sessions.
        feature_memory: bytes of encoded slices, all sessions together.
    """

    def __init__(self, models: Mapping[str, Model], feature_memory: int) -> None:
        self._models = models
        self.scheduler = Scheduler()
        self.features = FeatureCache(feature_memory)
        self.thread = Thread(target=self.scheduler.run, name="work", daemon=True)

    @property
    def name(self) -> str:
        """See `Device.name`."""
        return str(next(iter(self._models.values())).device)

    @property
    def models(self) -> dict[str, ModelFacts]:
        """See `Device.models`."""
        return {name: facts_of(model) for name, model in self._models.items()}

    @property
    def alive(self) -> bool:
        """See `Device.alive`."""
        return self.thread.is_alive()

    @property
    def over(self) -> bool:
        """See `Device.over`."""
        return not self.alive

    def start(self) -> None:
        """See `Device.start`."""
        self.thread.start()

    def stop(self) -> None:
        """See `Device.stop`."""
        self.scheduler.stop()
        self.thread.join()

    def seat(self, model: str, volume: Held, deliver: Deliver, lost: Lost) -> LocalSeat:
        """See `Device.seat`; it is not lost before the whole process is."""
        return self.host(model, volume.volume, deliver)

    def host(
        self, model: str, volume: Volume, deliver: Deliver, after: Callable[[LocalSeat], None] | None = None
    ) -> LocalSeat:
        """A new session's host.

        Args:
            model: one of `models`.
            volume: what the session is about.
            deliver: called in the working thread with everything that it says.
            after: called in the working thread after each turn of it.
        """
        engine = _Engine(self._models[model], volume, self.features)
        seat = LocalSeat(engine, self.scheduler, after)
        self.scheduler.add(seat, deliver)
        return seat

    async def load(self) -> Load:
        """See `Device.load`."""
        return self.measure()

    def measure(self) -> Load:
        """What it holds."""
        return Load(self.features.nbytes, self.features.budget, psutil.Process().memory_info().rss)


class LocalSeat(Host):
    """A session's host with a place at a scheduler; see `Seat`."""

    def __init__(self, engine: _Engine, scheduler: Scheduler, after: Callable[[LocalSeat], None] | None) -> None:
        super().__init__(engine)
        self._scheduler = scheduler
        self._after = after
        self.received = 0

    def receive(self, request: m.Asked) -> None:
        """See `Host.receive`."""
        super().receive(request)
        self.received += 1

    def work(self) -> Iterator[m.Reply]:
        """See `Host.work`."""
        yield from super().work()
        if self._after is not None:
            self._after(self)

    def submit(self, request: m.Asked) -> None:
        """See `Seat.submit`."""
        self._scheduler.submit(self, request)

    def leave(self) -> None:
        """See `Seat.leave`; its memory is free when the working thread has come to it."""
        self._scheduler.remove(self)


class _Engine:
    """Makes a seat's one session."""

    relay = False

    def __init__(self, model: Model, volume: Volume, features: FeatureCache) -> None:
        self._model, self._volume = model, volume
        self._features = SharedFeatures(features)

    def load_model(self, asked: m.LoadModel) -> Iterator[m.Progress | m.ModelLoaded]:
        raise ProtocolError("a server's model is chosen when a session is opened")

    def open_volume(self, asked: m.OpenVolume) -> None:
        raise ProtocolError("a volume goes to a server by its hash")

    def create(self, asked: m.Create) -> Session:
        return new_session(self._model, self._volume, asked, self._features)

    def encode_ahead(self, session: Session, busy: Callable[[], bool]) -> bool:
        return session.encode_ahead(busy)

    def close(self, session: Session) -> None:
        self._features.forget()
