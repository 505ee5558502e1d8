"""Content while it arrives: held as octets as long as it is small, staged in the store when it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from mailcrane.message.content import BytesContent
from mailcrane.message.inspection import Inspection, Inspector
from mailcrane.message.structure import Part, Structure
from mailcrane.store.records import CHUNK_OCTETS
from mailcrane.store.store import Store

MAX_HEADER_OCTETS = 1024 * 1024
"""Of a staged message's header this much is held in memory; `mailcrane.message.header` refuses longer ones."""

_STORE_KEY = "content"


class StagedContent:
    """Implements `mailcrane.model.message.Content` over octets that are staged in the store and not yet a message.

    Attributes:
        staged_id: To be adopted by the unit that stores the message.
        inspection: Of the octets that arrived.
    """

    __slots__ = ("_count", "_header", "_store", "inspection", "staged_id")

    def __init__(self, store: Store, staged_id: int, count: int, header: bytes, inspection: Inspection) -> None:
        self._store = store
        self._count = count
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
        for index in range(1, self._count + 1):
            octets = await self._store.read(
                lambda transaction, index=index: transaction.content.read_chunk(self.staged_id, index)  # type: ignore[misc]
            )
            if octets is None:
                raise LookupError(f"chunk {index} of staged content {self.staged_id} is gone")
            yield octets


class ContentCollector:
    """Takes the octets of one message as they arrive.

    Args:
        store: Where a message larger than 256 KB is staged.
    """

    __slots__ = ("_count", "_head", "_inspector", "_octets", "_pieces", "_staged_id", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pieces: list[bytes] = []
        self._octets = 0
        self._staged_id = 0
        self._count = 0
        self._head = b""
        self._inspector: Inspector | None = None

    def add(self, octets: bytes) -> bool:
        """Take octets; True asks for `flush` before the next ones."""
        self._pieces.append(octets)
        self._octets += len(octets)
        return self._octets > CHUNK_OCTETS

    async def flush(self) -> None:
        """Stage what is held, save the last incomplete chunk."""
        data = b"".join(self._pieces)
        whole = len(data) - len(data) % CHUNK_OCTETS
        chunks = [data[start : start + CHUNK_OCTETS] for start in range(0, whole, CHUNK_OCTETS)]
        self._pieces, self._octets = ([data[whole:]] if whole < len(data) else []), len(data) - whole
        await self._stage(chunks)

    async def finish(self) -> BytesContent | StagedContent:
        """Return the message."""
        if not self._staged_id:
            return BytesContent(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
        if self._octets:
            await self._stage([b"".join(self._pieces)])
            self._pieces, self._octets = [], 0
        assert self._inspector is not None, "it was made with the staged content"
        inspection = self._inspector.finish()
        header = self._head[: inspection.body_offset]
        if inspection.is_terminated:
            header = header[:-2] if header.endswith(b"\r\n\r\n") or header == b"\r\n" else header
        return StagedContent(self._store, self._staged_id, self._count, header, inspection)

    async def drop(self) -> None:
        """Remove what was staged; the message is not wanted."""
        staged_id, self._staged_id = self._staged_id, 0
        self._pieces, self._octets = [], 0
        if staged_id:
            await self._store.write(lambda transaction: transaction.content.stage_drop(staged_id), key=_STORE_KEY)

    async def _stage(self, chunks: list[bytes]) -> None:
        if self._inspector is None:
            self._inspector = Inspector()
            self._staged_id = await self._store.write(
                lambda transaction: transaction.content.stage_begin(), key=_STORE_KEY
            )
        for chunk in chunks:
            self._inspector.feed(chunk)
            if len(self._head) < MAX_HEADER_OCTETS and (not self._head or b"\r\n\r\n" not in self._head):
                self._head += chunk
            self._count += 1
            await self._store.write(
                lambda transaction, index=self._count, chunk=chunk: transaction.content.stage_append(  # type: ignore[misc]
                    self._staged_id, index, chunk
                ),
                key=_STORE_KEY,
            )


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
