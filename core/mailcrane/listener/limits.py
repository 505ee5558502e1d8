"""How many connections an address, and the networks around it, may open: at once and per minute.

Counted in this process only: with several workers each has its own count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import trio

from mailcrane.observe.limits import Window, WindowLimiter, networks_of

Limits = tuple[int, int, int]


class ConnectionLimits:
    """Counts connections of an address, of its network, and of the larger network around that.

    Args:
        per_minute: New connections in a minute; 0 is no limit.
        concurrent: Open connections; 0 is no limit.
        clock: Seconds of a clock that never goes back.
    """

    def __init__(
        self, per_minute: Limits, concurrent: Limits, *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self._rate = WindowLimiter([Window(60.0, _unlimited(per_minute))], clock=clock)
        self._has_rate = any(per_minute)
        self._is_limited = any(per_minute) or any(concurrent)
        self._concurrent = _unlimited(concurrent)
        self._open: dict[int, int] = {}

    def enter(self, address: str) -> bool:
        """Count a new connection. False when it is one too many; then it is not counted."""
        if not self._is_limited:
            return True
        opened = self._open
        networks = networks_of(address)
        for network, limit in zip(networks, self._concurrent, strict=True):
            if opened.get(network, 0) >= limit:
                return False
        if self._has_rate and not self._rate.add(address):
            return False
        for network in networks:
            opened[network] = opened.get(network, 0) + 1
        return True

    def leave(self, address: str) -> None:
        """Count the end of a connection that was let in by `enter`."""
        if not self._is_limited:
            return
        opened = self._open
        for network in networks_of(address):
            remaining = opened[network] - 1
            if remaining:
                opened[network] = remaining
            else:
                del opened[network]


def _unlimited(limits: Limits) -> Limits:
    first, second, third = (limit or sys.maxsize for limit in limits)
    return first, second, third
