"""Where a server's sessions run: what it needs of a device, and which one a new session gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import msgspec

from ...session.settings import ModelFacts
from ..errors import RefusedError
from ..messages import Asked, Reply
from .volumes import Held

Deliver: TypeAlias = Callable[[Reply], None]
Lost: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Load:
    """What a device holds.

    Attributes:
        feature_bytes, feature_budget_bytes: of encoded slices.
        process_bytes: memory of the process that computes.
    """

    feature_bytes: int = 0
    feature_budget_bytes: int = 0
    process_bytes: int = 0


class Seat(Protocol):
    """A session's host on a device."""

    @property
    def waiting(self) -> int:
        """How many requests have not been taken up."""

    @property
    def moving(self) -> bool:
        """Whether a propagation can go on."""

    def submit(self, request: Asked) -> None:
        """Give it a request."""

    def leave(self) -> None:
        """End the session."""


class Device(Protocol):
    """Runs sessions on one device."""

    @property
    def name(self) -> str:
        """As torch names it."""

    @property
    def models(self) -> Mapping[str, ModelFacts]:
        """The networks that are loaded; the first is the default."""

    @property
    def alive(self) -> bool:
        """Whether it works."""

    @property
    def over(self) -> bool:
        """Whether it does not work, and will not by itself."""

    def start(self) -> None:
        """Begin to work, where it does not already."""

    def stop(self) -> None:
        """End; returns when it has ended."""

    def seat(self, model: str, volume: Held, deliver: Deliver, lost: Lost) -> Seat:
        """A new session's host.

        Args:
            model: one of `models`.
            volume: what the session is about.
            deliver: called from another thread with everything that the host says.
            lost: called from another thread, with the reason, when the device is gone and the session with it.
        """

    async def load(self) -> Load:
        """What it holds."""


class Devices:
    """All devices of a server, and how many sessions each has. To be used in the event loop's thread only.

    Args:
        devices: at least one; all with the same models.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = tuple(devices)
        self._seats: dict[Seat, Device] = {}

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices)

    @property
    def models(self) -> dict[str, ModelFacts]:
        """The models by name, each with all the devices that it is on."""
        places = ", ".join(dict.fromkeys(device.name for device in self._devices))
        first = self._devices[0].models
        if len(self._devices) == 1:
            return dict(first)
        return {name: msgspec.structs.replace(facts, device=places) for name, facts in first.items()}

    @property
    def alive(self) -> bool:
        """Whether any of them works."""
        return any(device.alive for device in self._devices)

    @property
    def over(self) -> bool:
        """Whether none of them works, or will by itself."""
        return all(device.over for device in self._devices)

    def seats_on(self, device: Device) -> list[Seat]:
        """The sessions on a device."""
        return [seat for seat, place in self._seats.items() if place is device]

    def seat(self, model: str, volume: Held, deliver: Deliver, lost: Lost) -> tuple[Seat, Device]:
        """A new session's host, on the device that has the fewest sessions, and of these the least to do now.

        Raises:
            RefusedError: no device works.
        """
        working = [device for device in self._devices if device.alive]
        if not working:
            raise RefusedError("no device of the server works now; try again later, its log says why")
        device = min(working, key=self._burden)
        seat = device.seat(model, volume, deliver, lost)
        self._seats[seat] = device
        return seat, device

    def leave(self, seat: Seat) -> None:
        """End a session."""
        if self._seats.pop(seat, None) is not None:
            seat.leave()

    def _burden(self, device: Device) -> tuple[int, int]:
        seats = self.seats_on(device)
        return len(seats), sum(seat.waiting + seat.moving for seat in seats)
