"""What Prometheus is told of a server: its sessions, how long clicks take, slices, memory and what waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from .. import messages as m
from .device import Device, Devices, Load
from .leases import Lease, Leases
from .volumes import VolumeStore

# A click is to feel immediate (0.1 s) and must not feel stuck (1 s); beyond are queues and cold starts.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Devices may have one name: a number, counted from 0, tells them apart.
_LABELS = ("device", "number")


class Metrics:
    """The metrics of one server, of all its devices and their processes.

    Args:
        devices, leases, volumes: of the server.
    """

    def __init__(self, devices: Devices, leases: Leases, volumes: VolumeStore) -> None:
        self._devices, self._leases, self._volumes = devices, leases, volumes
        self._labels = {device: (device.name, str(number)) for number, device in enumerate(devices)}
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(f"biosam2_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"biosam2_{name}", text, _LABELS, registry=self.registry)

        self._clicks = Histogram(
            "biosam2_click_seconds",
            "From the arrival of a click to its mask, at the server.",
            _LABELS,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self._slices = counter("slices", "Slices of propagations that were sent.")
        self._opened = counter("sessions_opened", "Sessions that were opened.")
        self._sessions = gauge("sessions", "Sessions that are open.", _LABELS)
        self._propagations = gauge("propagations", "Propagations under way.", _LABELS)
        self._waiting = gauge("requests_waiting", "Requests that have not been taken up.", _LABELS)
        self._features = gauge("feature_bytes", "Encoded slices in memory.", _LABELS)
        self._feature_budget = gauge("feature_budget_bytes", "What encoded slices may take.", _LABELS)
        self._memory = gauge("device_process_bytes", "Resident memory of the process of a device.", _LABELS)
        self._up = gauge("device_up", "1 where the device works.", _LABELS)
        self._most = gauge("sessions_limit", "Sessions that there may be, all devices together.")
        self._volume_bytes = gauge("volume_bytes", "Voxels in memory.")
        self._volume_budget = gauge("volume_budget_bytes", "What voxels may take.")
        self._draining = gauge("draining", "1 while the server takes no more sessions.")
        for labels in self._labels.values():
            for metric in (self._clicks, self._slices, self._opened):
                metric.labels(*labels)

    def opened(self, lease: Lease) -> None:
        """A session was opened."""
        self._opened.labels(*self._of(lease)).inc()

    async def watched(self, lease: Lease, asked: m.Asked, replies: AsyncIterator[m.Reply]) -> AsyncIterator[m.Reply]:
        """The answers to a request, counted and timed as they pass."""
        labels = self._of(lease)
        begun = time.perf_counter()
        async for reply in replies:
            if isinstance(reply, m.Update):
                self._slices.labels(*labels).inc()
            elif isinstance(asked, m.Predict) and isinstance(reply, m.MaskAnswer):
                self._clicks.labels(*labels).observe(time.perf_counter() - begun)
            yield reply

    async def told(self, accept: str) -> tuple[bytes, str]:
        """All metrics as they are now.

        Args:
            accept: formats that the one who asks understands, as in HTTP.

        Returns:
            The text, and its media type.
        """
        # At once: each may be waited for.
        loads = await asyncio.gather(*(device.load() for device in self._devices))
        for device, load in zip(self._devices, loads, strict=True):
            self._measure(device, load)
        self._most.set(self._leases.most)
        self._volume_bytes.set(self._volumes.nbytes)
        self._volume_budget.set(self._volumes.budget)
        self._draining.set(self._leases.draining)
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _measure(self, device: Device, load: Load) -> None:
        labels, seats = self._labels[device], self._devices.seats_on(device)
        self._sessions.labels(*labels).set(len(seats))
        self._propagations.labels(*labels).set(sum(seat.moving for seat in seats))
        self._waiting.labels(*labels).set(sum(seat.waiting for seat in seats))
        self._features.labels(*labels).set(load.feature_bytes)
        self._feature_budget.labels(*labels).set(load.feature_budget_bytes)
        self._memory.labels(*labels).set(load.process_bytes)
        self._up.labels(*labels).set(device.alive)

    def _of(self, lease: Lease) -> tuple[str, str]:
        return self._labels[lease.device]
