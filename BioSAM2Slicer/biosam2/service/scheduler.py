"""Does the work of many hosts in one thread, piece by piece, so that nobody waits for somebody else's propagation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Condition
from typing import TypeAlias

from . import messages as m
from .host import Host

Deliver: TypeAlias = Callable[[m.Reply], None]

_log = logging.getLogger(__name__)
# Requests answered in a row while a propagation waits; more would let busy clients starve it.
_MOST_IN_A_ROW = 4


class Scheduler:
    """One thread's work: requests of all hosts first, then their propagations, in turn; then what they may need next.

    Example:
        >>> scheduler = Scheduler()
        >>> Thread(target=scheduler.run).start()
        >>> scheduler.add(host, deliver=send)
        >>> scheduler.submit(host, request)
    """

    def __init__(self) -> None:
        self._changed = Condition()
        # In order of their last turn, the one that waited longest first.
        self._hosts: dict[Host, Deliver] = {}
        self._leaving: list[Host] = []
        self._stopped = False
        self._requests_in_a_row = 0
        # Whether anything has come in since work was chosen.
        self._called = False

    def __len__(self) -> int:
        return len(self._hosts)

    def add(self, host: Host, deliver: Deliver) -> None:
        """Serve a host; `deliver` is called in the working thread with everything that it says."""
        with self._changed:
            self._hosts[host] = deliver

    def submit(self, host: Host, request: m.Asked, room: int | None = None) -> None:
        """Give a host a request.

        Args:
            host: one that was added.
            request: what the client asked.
            room: wait until fewer than this many of its requests wait.
        """
        with self._changed:
            if room is not None:
                self._changed.wait_for(lambda: self._stopped or host.waiting < room)
            host.receive(request)
            self._called = True
            self._changed.notify_all()

    def remove(self, host: Host) -> None:
        """Stop serving a host and close it, in the working thread."""
        with self._changed:
            if self._hosts.pop(host, None) is not None:
                self._leaving.append(host)
                self._called = True
                self._changed.notify_all()

    def stop(self) -> None:
        """Make `run` return after the piece that it is at."""
        with self._changed:
            self._stopped = self._called = True
            self._changed.notify_all()

    def run(self) -> None:
        """Work until `stop`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._leaving or self._next() or self._idle())
                if self._stopped:
                    break
                leaving, self._leaving = self._leaving, []
                host = self._next()
                deliver = self._take_turn(host) if host is not None else None
                idle = self._idle() if host is None and not leaving else None
                self._called = False
            for gone in leaving:
                gone.close()
            if host is not None and deliver is not None:
                for reply in host.work():
                    deliver(reply)
                with self._changed:
                    self._changed.notify_all()
            elif idle is not None:
                idle.work_ahead(lambda: self._called)
        for host in self._hosts:
            host.close()

    def _next(self) -> Host | None:
        asking = next((host for host in self._hosts if host.waiting), None)
        moving = next((host for host in self._hosts if host.moving and not host.waiting), None)
        if asking is None or (moving is not None and self._requests_in_a_row >= _MOST_IN_A_ROW):
            return moving
        return asking

    def _idle(self) -> Host | None:
        return next((host for host in self._hosts if host.idle), None)

    def _take_turn(self, host: Host) -> Deliver:
        ahead = bool(host.waiting) and any(other.moving for other in self._hosts)
        self._requests_in_a_row = self._requests_in_a_row + 1 if ahead else 0
        deliver = self._hosts.pop(host)
        self._hosts[host] = deliver
        return deliver
