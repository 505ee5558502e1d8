"""The server's resolver: a cache before the servers that are asked, and one query for all who ask the same at once."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any, Protocol

import trio
from msgspec import Struct

from mailcrane.dns.answer import MX, TLSA, Answer, LookupFailed, NotFound, RecordType
from mailcrane.dns.cache import TTLCache
from mailcrane.observe.metrics import Counter

_lookups = Counter(
    "mailcrane_dns_lookups_total",
    "Look-ups by record type and result; joined ones waited for a query that was on its way.",
    ["type", "result"],
)


class Found(Struct, frozen=True):
    """What a query came to.

    Attributes:
        outcome: Records, or that there are none.
        ttl_seconds: How long it may be kept; 0 not at all.
    """

    outcome: Answer[Any] | NotFound
    ttl_seconds: float


class Upstream(Protocol):
    """Asks servers, each time anew."""

    async def query(self, name: str, record_type: RecordType) -> Found:
        """Ask for records.

        Raises:
            TemporaryFailure: no server gave an answer in time.
        """
        ...


class CachingResolver:
    """Looks names up; implements `Resolver`.

    Args:
        upstream: Asked for what is not in the cache.
        cache_size: How many answers are kept, those that say that there is nothing included.
        max_ttl_seconds: For how long at most, whatever the records say.
        now: A clock in seconds that never goes back.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        cache_size: int = 10000,
        max_ttl_seconds: float = 86400.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._max_ttl_seconds = max_ttl_seconds
        self._now = now
        self._cache: TTLCache[tuple[str, RecordType], Answer[Any] | NotFound] = TTLCache(cache_size)
        self._flights: dict[tuple[str, RecordType], _Flight] = {}

    async def a(self, name: str) -> Answer[str]:
        """Return IPv4 addresses, as text."""
        return await self._look_up(name, RecordType.A)

    async def aaaa(self, name: str) -> Answer[str]:
        """Return IPv6 addresses, as text."""
        return await self._look_up(name, RecordType.AAAA)

    async def cname(self, name: str) -> Answer[str]:
        """Return what the name itself is an alias of."""
        return await self._look_up(name, RecordType.CNAME)

    async def mx(self, name: str) -> Answer[MX]:
        """Return the mail exchangers of a domain, as they came."""
        return await self._look_up(name, RecordType.MX)

    async def ptr(self, ip: str) -> Answer[str]:
        """Return the names that an IP address says it has."""
        return await self._look_up(ipaddress.ip_address(ip).reverse_pointer, RecordType.PTR)

    async def tlsa(self, name: str) -> Answer[TLSA]:
        """Return certificate associations of a name such as ``_25._tcp.mx.example.org``."""
        return await self._look_up(name, RecordType.TLSA)

    async def txt(self, name: str) -> Answer[bytes]:
        """Return texts; the strings of one record are joined."""
        return await self._look_up(name, RecordType.TXT)

    async def _look_up(self, name: str, record_type: RecordType) -> Answer[Any]:
        key = (name, record_type)
        while True:
            kept = self._cache.get(key, self._now())
            if kept is not None:
                _lookups.inc(record_type, "cached")
                return _told(kept)
            flight = self._flights.get(key)
            if flight is None:
                return await self._fly(key)
            await flight.landed.wait()
            # One that was cancelled has no result: then somebody else of those who wait asks.
            if flight.result is not None:
                _lookups.inc(record_type, "joined")
                return _told(flight.result)

    async def _fly(self, key: tuple[str, RecordType]) -> Answer[Any]:
        name, record_type = key
        flight = self._flights[key] = _Flight()
        try:
            found = await self._upstream.query(name, record_type)
        except LookupFailed as failure:
            flight.result = failure
            _lookups.inc(record_type, "failed")
            raise
        else:
            flight.result = found.outcome
            seconds = min(found.ttl_seconds, self._max_ttl_seconds)
            if seconds > 0:
                self._cache.set(key, found.outcome, self._now() + seconds)
            _lookups.inc(record_type, "none" if isinstance(found.outcome, NotFound) else "found")
            return _told(found.outcome)
        finally:
            del self._flights[key]
            flight.landed.set()


class _Flight:
    """A query on its way, and those who wait for it."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.result: Answer[Any] | LookupFailed | None = None


def _told(result: Answer[Any] | LookupFailed) -> Answer[Any]:
    if isinstance(result, NotFound):
        # A fresh one each time: an exception that is raised again grows its traceback.
        raise NotFound(
            result.name,
            result.record_type,
            is_nxdomain=result.is_nxdomain,
            is_authentic=result.is_authentic,
            canonical_name=result.canonical_name,
        )
    if isinstance(result, LookupFailed):
        raise result.with_traceback(None)
    return result
