"""Content that is held as octets."""

from __future__ import annotations

from collections.abc import AsyncIterator

_CHUNK_OCTETS = 256 * 1024


class BytesContent:
    """Implements `mailcrane.model.message.Content` over octets in memory."""

    __slots__ = ("octets",)

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    @property
    def size_octets(self) -> int:
        """Length in octets."""
        return len(self.octets)

    @property
    def header(self) -> bytes:
        """The header section up to and with the CRLF of its last field."""
        if self.octets.startswith(b"\r\n"):
            return b""
        end = self.octets.find(b"\r\n\r\n")
        return self.octets if end < 0 else self.octets[: end + 2]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield all octets in chunks of at most 256 KB."""
        if len(self.octets) <= _CHUNK_OCTETS:
            yield self.octets
            return
        for offset in range(0, len(self.octets), _CHUNK_OCTETS):
            yield self.octets[offset : offset + _CHUNK_OCTETS]
