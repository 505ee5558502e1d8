"""The server's own resolver. dnspython is imported with the first query, which a development server never makes."""

from __future__ import annotations

import trio

from mailcrane.config.static import DNSConfig
from mailcrane.dns.answer import RecordType
from mailcrane.dns.resolver import CachingResolver, Found, Upstream


def make_resolver(config: DNSConfig) -> CachingResolver:
    """Make the server's resolver."""
    return CachingResolver(_WhenAsked(config), cache_size=config.cache_size, max_ttl_seconds=config.cache_max_seconds)


class _WhenAsked:
    """Makes a `ServerUpstream` when it is asked for the first time; implements `Upstream`."""

    def __init__(self, config: DNSConfig) -> None:
        self._config = config
        self._upstream: Upstream | None = None

    async def query(self, name: str, record_type: RecordType) -> Found:
        """Ask for records."""
        if self._upstream is None:
            # In a thread, because the import takes a tenth of a second of the processor.
            self._upstream = await trio.to_thread.run_sync(self._make)
        return await self._upstream.query(name, record_type)

    def _make(self) -> Upstream:
        from mailcrane.dns.upstream import ServerUpstream  # noqa: PLC0415 - as said above

        return ServerUpstream(self._config)
