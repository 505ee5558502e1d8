"""Connections that are kept for further requests, by the origin that they lead to.

httpcore has a pool as well, which looks at every connection for every request; with hundreds under way that is most of
the work of a small request. This one looks at the connections of one origin.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpcore2 as httpcore
import trio

KEEP_SECONDS = 5.0
"""How long a connection is kept that nothing is sent on."""

_CLOSE_SECONDS = 2.0
_SWEPT_AT_ONCE = 8

_Key = tuple[bytes, bytes, int | None]


class Lent:
    """A connection for one request.

    Attributes:
        is_fresh: Whether it was opened for it; one that was kept may be closed by the server at any moment.
    """

    def __init__(self, connection: httpcore.AsyncHTTP11Connection, *, is_fresh: bool) -> None:
        self.connection = connection
        self.is_fresh = is_fresh


class ConnectionPool:
    """Opens connections, lends them, and keeps those that can be used again.

    Args:
        network: Opens them.
        max_connections: More than that wait for each other.
    """

    def __init__(self, network: httpcore.AsyncNetworkBackend, *, max_connections: int) -> None:
        self._network = network
        self._places = trio.Semaphore(max_connections)
        # The one that was used last is used next, so that those beyond what is needed grow old.
        self._kept: dict[_Key, list[tuple[httpcore.AsyncHTTP11Connection, float]]] = {}

    @contextlib.asynccontextmanager
    async def lend(self, url: httpcore.URL) -> AsyncIterator[Lent]:
        """Lend a connection to a URL's origin for the length of a block, which ends with the response.

        Raises:
            Exception: what `network` raises when there is none.
        """
        async with self._places:
            await self._close_old()
            key = (url.scheme, url.host, url.port)
            kept = self._kept.get(key)
            if kept:
                connection, _ = kept.pop()
                lent = Lent(connection, is_fresh=False)
            else:
                lent = Lent(await self._open(url), is_fresh=True)
            try:
                yield lent
            finally:
                if lent.connection.is_idle():
                    self._kept.setdefault(key, []).append((lent.connection, trio.current_time()))
                else:
                    await _close(lent.connection)

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        kept, self._kept = self._kept, {}
        for connections in kept.values():
            for connection, _ in connections:
                await _close(connection)

    async def _open(self, url: httpcore.URL) -> httpcore.AsyncHTTP11Connection:
        host = url.host.decode("ascii")
        port = url.port or {b"http": 80, b"https": 443}[url.scheme]
        stream = await self._network.connect_tcp(host, port)
        if url.scheme == b"https":
            # The TLS is our network's own, which needs no context.
            stream = await stream.start_tls(None, server_hostname=host)  # type: ignore[arg-type]
        return httpcore.AsyncHTTP11Connection(url.origin, stream)

    async def _close_old(self) -> None:
        oldest = trio.current_time() - KEEP_SECONDS
        old = []
        # The first of each list is its oldest. Those of other origins go a few at a time.
        for key in list(self._kept)[:_SWEPT_AT_ONCE]:
            connections = self._kept.pop(key)
            while connections and connections[0][1] < oldest:
                old.append(connections.pop(0)[0])
            if connections:
                # Behind the others, so that each has its turn.
                self._kept[key] = connections
        for connection in old:
            await _close(connection)


async def _close(connection: httpcore.AsyncHTTP11Connection) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_SECONDS):
        await connection.aclose()
