"""Lines, and octets by count, from a stream."""

from __future__ import annotations

import trio

_RECEIVE_OCTETS = 65536


class Lines:
    """Reads a stream piece by piece; a peer that is gone is the end of it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def until(self, end: bytes) -> bytes:
        """Return what comes up to a mark, the mark included; empty when the peer is gone before it."""
        start = 0
        while (at := self._buffer.find(end, start)) < 0:
            start = max(0, len(self._buffer) - len(end))
            if not await self._more():
                return b""
        return self._take(at + len(end))

    async def octets(self, count: int) -> bytes:
        """Return so many octets; fewer when the peer is gone."""
        while len(self._buffer) < count:
            if not await self._more():
                break
        return self._take(count)

    async def _more(self) -> bool:
        try:
            octets = await self._stream.receive_some(_RECEIVE_OCTETS)
        except trio.BrokenResourceError:
            return False
        self._buffer += octets
        return bool(octets)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
