"""Counting per network in fixed windows, to slow down clients that ask or fail too often.

A client is counted under three networks at once: its own address and two wider ones, because neighbours of an abuser
are often the abuser. Counts live in this process only and are bounded in number.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Sequence

import trio
from msgspec import Struct

# Prefix lengths, from narrow to wide. An IPv6 customer has a /64 at least, so a single address says nothing.
IPV4_PREFIXES = (32, 26, 21)
IPV6_PREFIXES = (64, 48, 32)

_MAX_NETWORKS = 50_000


class Window(Struct, frozen=True):
    """How much is allowed within one period.

    Attributes:
        seconds: Length of the period; periods follow each other without overlap.
        limits: For the three networks, from narrow to wide.
    """

    seconds: float
    limits: tuple[int, int, int]


# What an address may ask over HTTP, and how often it may fail to log in over all protocols.
HTTP_REQUEST_WINDOWS = (Window(60, (1000, 3000, 9000)), Window(3600, (5000, 15000, 45000)))
FAILED_LOGIN_WINDOWS = (Window(60, (10, 30, 90)), Window(86400, (50, 150, 450)))


class WindowLimiter:
    """Counts per network and says when a limit is reached.

    Above `max_networks` counted networks in one window, the one that was first seen is forgotten: memory stays bounded
    and a flood of addresses cannot lock anybody out.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        *,
        clock: Callable[[], float] = trio.current_time,
        max_networks: int = _MAX_NETWORKS,
    ) -> None:
        self._clock = clock
        self._max_networks = max_networks
        self._periods = [_Period(window) for window in windows]

    def may_add(self, ip: str, count: int = 1) -> bool:
        """Whether `add` would count; nothing is changed."""
        networks = networks_of(ip)
        now = self._clock()
        return all(period.has_room(networks, count, now) for period in self._periods)

    def add(self, ip: str, count: int = 1) -> bool:
        """Count, unless a limit would be passed in any window.

        Returns:
            False when a limit would be passed; then nothing was counted.
        """
        networks = networks_of(ip)
        now = self._clock()
        if not all(period.has_room(networks, count, now) for period in self._periods):
            return False
        for period in self._periods:
            period.count(networks, count, self._max_networks)
        return True

    def reset(self, ip: str) -> None:
        """Forget what an address was counted for, in its wider networks too."""
        networks = networks_of(ip)
        now = self._clock()
        for period in self._periods:
            period.forget(networks, now)


class _Period:
    """The counts of the running period of one window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._number = -1
        self._counts: dict[int, int] = {}

    def has_room(self, networks: tuple[int, int, int], count: int, now: float) -> bool:
        self._move_to(now)
        counts = self._counts
        narrow, middle, wide = networks
        limits = self._window.limits
        return (
            counts.get(narrow, 0) + count <= limits[0]
            and counts.get(middle, 0) + count <= limits[1]
            and counts.get(wide, 0) + count <= limits[2]
        )

    def count(self, networks: tuple[int, int, int], count: int, max_networks: int) -> None:
        counts = self._counts
        for network in networks:
            counts[network] = counts.get(network, 0) + count
        while len(counts) > max_networks:
            del counts[next(iter(counts))]

    def forget(self, networks: tuple[int, int, int], now: float) -> None:
        self._move_to(now)
        counts = self._counts
        forgotten = counts.pop(networks[0], 0)
        for network in networks[1:]:
            rest = counts.get(network, 0) - forgotten
            if rest > 0:
                counts[network] = rest
            else:
                counts.pop(network, None)

    def _move_to(self, now: float) -> None:
        number = int(now // self._window.seconds)
        if number != self._number:
            self._number = number
            self._counts = {}


@functools.lru_cache(maxsize=16384)
def networks_of(ip: str) -> tuple[int, int, int]:
    """Return numbers that stand for the three networks of an address; an IPv4-mapped address counts as IPv4.

    Raises:
        ValueError: the text is not an IP address.
    """
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefixes = IPV4_PREFIXES if address.version == 4 else IPV6_PREFIXES
    number = int(address)
    width = address.max_prefixlen
    # The leading one and the prefix length keep networks of different length and family apart.
    first, second, third = (
        (1 << 140) | (address.version << 136) | (prefix << 128) | (number >> (width - prefix)) for prefix in prefixes
    )
    return first, second, third
