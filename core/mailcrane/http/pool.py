"""Connections that are kept for further requests, by the origin that they lead to."""

from __future__ import annotations

from collections import deque

import trio

from mailcrane.http.dial import Dialer
from mailcrane.http.exchange import ClientConnection
from mailcrane.http.url import Origin

KEEP_SECONDS = 5.0
"""How long a connection is kept that nothing is sent on."""

_SWEEP_SECONDS = 1.0


class ConnectionPool:
    """Opens connections, lends them, and keeps those that can be used again.

    Args:
        dialer: Opens them.
        max_connections: More than that wait for each other; and no more are kept.
    """

    def __init__(self, dialer: Dialer, *, max_connections: int) -> None:
        self._dialer = dialer
        self._max_kept = max_connections
        self._places = trio.Semaphore(max_connections)
        # With the time of the last use. The one that was used last is used next, so that those beyond what is needed
        # grow old; the origin that was used last stands last.
        self._kept: dict[Origin, deque[tuple[ClientConnection, float]]] = {}
        self._count = 0
        self._swept_at = 0.0

    async def take_place(self) -> None:
        """Wait until there may be one connection more in use."""
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await self._places.acquire()

    def leave_place(self) -> None:
        """Let another one be in use."""
        self._places.release()

    async def take_kept(self, origin: Origin) -> ClientConnection | None:
        """Return a connection that was kept, which the server may close at any moment; None when there is none."""
        now = trio.current_time()
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            await self._close_old(now - KEEP_SECONDS)
        kept = self._kept.get(origin)
        while kept:
            connection, used_at = kept.pop()
            self._count -= 1
            if now - used_at < KEEP_SECONDS:
                return connection
            await connection.aclose()
        return None

    async def open(self, origin: Origin) -> ClientConnection:
        """Open a connection.

        Raises:
            HTTPClientError: there is none.
        """
        return ClientConnection(await self._dialer.open(origin))

    async def give_back(self, origin: Origin, connection: ClientConnection) -> None:
        """Keep a connection, or close it where it can be used no more."""
        if not connection.is_idle:
            await connection.aclose()
            return
        kept = self._kept.pop(origin, None) or deque()
        kept.append((connection, trio.current_time()))
        self._kept[origin] = kept
        self._count += 1
        if self._count > self._max_kept:
            await self._close_first(next(iter(self._kept)))

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        while self._kept:
            await self._close_first(next(iter(self._kept)))

    async def _close_old(self, oldest: float) -> None:
        for origin in list(self._kept):
            while (kept := self._kept.get(origin)) is not None and (not kept or kept[0][1] <= oldest):
                await self._close_first(origin)

    async def _close_first(self, origin: Origin) -> None:
        kept = self._kept[origin]
        first = kept.popleft() if kept else None
        if not kept:
            del self._kept[origin]
        if first is not None:
            self._count -= 1
            await first[0].aclose()
