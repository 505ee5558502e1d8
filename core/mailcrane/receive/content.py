"""Content while it arrives: held as octets as long as it is small, staged in the store when it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from mailcrane.message.content import BytesContent
from mailcrane.message.header import MAX_HEADER_OCTETS
from mailcrane.message.inspection import Inspection, Inspector
from mailcrane.message.structure import Part, Structure
from mailcrane.store.content import StagedContent
from mailcrane.store.errors import UnknownContent
from mailcrane.store.records import CHUNK_OCTETS
from mailcrane.store.store import Store


class LargeContent:
    """Implements `mailcrane.model.message.Content` over what is staged in the store and not yet a message.

    Attributes:
        staged_id: To be adopted by the unit that stores the message.
        inspection: Of the octets that arrived.
    """

    __slots__ = ("_header", "_store", "inspection", "staged_id")

    def __init__(self, store: Store, staged_id: int, header: bytes, inspection: Inspection) -> None:
        self._store = store
        self._header = header
        self.staged_id = staged_id
        self.inspection = inspection

    @property
    def size_octets(self) -> int:
        """Length in octets."""
        return self.inspection.size_octets

    @property
    def header(self) -> bytes:
        """The header section up to and with the CRLF of its last field."""
        return self._header

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield all octets, one read of the store for each chunk."""
        position, index = 0, 1  # Chunk 0 is for what is put in front.
        while position < self.size_octets:
            chunk = await self._read(index)
            yield chunk
            position += len(chunk)
            index += 1

    async def _read(self, index: int) -> bytes:
        chunk = await self._store.read(lambda transaction: transaction.content.read_chunk(self.staged_id, index))
        if not chunk:
            raise UnknownContent(f"staged content {self.staged_id} is gone")
        return chunk


class ContentCollector:
    """Takes the octets of one message as they arrive.

    Args:
        store: Where a message larger than 256 KB is staged.
    """

    __slots__ = ("_head", "_inspector", "_octets", "_pieces", "_staged", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pieces: list[bytes] = []
        self._octets = 0
        self._staged: StagedContent | None = None
        self._inspector: Inspector | None = None
        self._head = b""

    def add(self, octets: bytes) -> bool:
        """Take octets; True asks for `flush` before the next ones."""
        self._pieces.append(octets)
        self._octets += len(octets)
        return self._octets > CHUNK_OCTETS

    async def flush(self) -> None:
        """Stage what is held.

        Raises:
            StoreError: it cannot be stored; the message cannot be taken.
        """
        octets = self._take()
        if self._staged is None or self._inspector is None:
            self._staged, self._inspector = StagedContent(self._store), Inspector()
        if len(self._head) < MAX_HEADER_OCTETS and b"\r\n\r\n" not in self._head:
            self._head += octets
        self._inspector.feed(octets)
        await self._staged.append(octets)

    async def finish(self) -> BytesContent | LargeContent:
        """Return the message.

        Raises:
            StoreError: it cannot be stored.
        """
        if self._staged is None or self._inspector is None:
            return BytesContent(self._take())
        if self._octets:
            await self.flush()
        inspection = self._inspector.finish()
        header = self._head[: inspection.body_offset]
        if inspection.is_terminated:
            header = header[:-2]
        return LargeContent(self._store, await self._staged.finish(), header, inspection)

    async def drop(self) -> None:
        """Remove what was staged and was not adopted; the message is not wanted."""
        self._take()
        if self._staged is not None:
            await self._staged.drop()

    def _take(self) -> bytes:
        pieces = self._pieces
        octets = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces, self._octets = [], 0
        return octets


def moved(structure: Structure, by: int) -> Structure:
    """Return the structure of a message that got so many octets of header fields put in front."""
    root = _moved_part(structure.root, by)
    return Structure(msgspec.structs.replace(root, header_offset=0), structure.problem)


def _moved_part(part: Part, by: int) -> Part:
    return msgspec.structs.replace(
        part,
        header_offset=part.header_offset + by,
        body_offset=part.body_offset + by,
        end_offset=part.end_offset + by,
        parts=tuple(_moved_part(one, by) for one in part.parts),
        message=None if part.message is None else _moved_part(part.message, by),
    )
