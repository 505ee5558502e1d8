"""Stored content as `Content`, and content that is stored while it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import trio
from msgspec import Struct

from mailcrane.model.message import ContentInfo
from mailcrane.store.errors import StoreError, UnknownContent
from mailcrane.store.records import CHUNK_OCTETS
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

T = TypeVar("T")

_DROP_SECONDS = 5.0


class Opening(Struct, frozen=True):
    """The beginning of stored content.

    Attributes:
        info: What is known of it.
        first_chunk: All of small content.
        head: The header section, with the empty line where there is one.
    """

    info: ContentInfo
    first_chunk: bytes
    head: bytes


def read_opening(transaction: Transaction, content_id: int) -> Opening | None:
    """Read the beginning of content; None when there is none of this id (any more)."""
    row = transaction.content.get(content_id)
    first = transaction.content.read_chunk(content_id, 0)
    if row is None or first is None:
        return None
    head = [first]
    length = len(first)
    while length < row.info.body_offset:
        chunk = transaction.content.read_chunk(content_id, len(head))
        if chunk is None:
            return None
        head.append(chunk)
        length += len(chunk)
    return Opening(row.info, first, b"".join(head)[: row.info.body_offset])


class StoredContent:
    """Content in the store, read chunk by chunk; nothing is locked between chunks.

    Make one with `open` or `opened`. The first chunk is held, so that small content costs one read.
    """

    def __init__(self, store: Store, info: ContentInfo, first_chunk: bytes, header: bytes) -> None:
        self._store = store
        self._first_chunk = first_chunk
        self._header = header
        self.info = info

    @classmethod
    async def open(cls, store: Store, content_id: int) -> StoredContent:
        """Read what is known of content, and its header.

        Raises:
            UnknownContent: there is none of this id (any more).
        """
        found = await store.read(lambda transaction: read_opening(transaction, content_id))
        if found is None:
            raise UnknownContent(f"no content {content_id}")
        return cls.opened(store, found)

    @classmethod
    def opened(cls, store: Store, opening: Opening) -> StoredContent:
        """Make it of an opening that was read in some unit."""
        return cls(store, opening.info, opening.first_chunk, _without_empty_line(opening.head))

    @property
    def size_octets(self) -> int:
        """Length in octets."""
        return self.info.size_octets

    @property
    def header(self) -> bytes:
        """The header section with the CRLF of its last field, without the empty line."""
        return self._header

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        """Yield the octets from an offset on, in chunks of at most 256 KB, each read when it is asked for.

        Raises:
            UnknownContent: the content was released meanwhile.
        """
        position = 0
        index = 0
        while position < self.size_octets:
            chunk = self._first_chunk if index == 0 else await self._read(index)
            skipped = max(0, start - position)
            if skipped < len(chunk):
                yield chunk[skipped:] if skipped else chunk
            position += len(chunk)
            index += 1

    async def _read(self, index: int) -> bytes:
        content_id = self.info.id
        chunk = await self._store.read(lambda transaction: transaction.content.read_chunk(content_id, index))
        if not chunk:
            raise UnknownContent(f"content {content_id} is gone")
        return chunk


class StagedContent:
    """Content that is stored while it arrives, in chunks, to be adopted by its message's unit.

    What arrives is chunk 1 and the following; chunk 0 is the prefix that `ContentRepository.adopt` writes. Content
    that is not adopted is removed by `drop`, or by the sweep after an hour without a new chunk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buffer = bytearray()
        self._chunks = 0
        self._is_finished = False
        self.id = 0
        self.size_octets = 0

    async def append(self, octets: bytes) -> None:
        """Take octets; whole chunks of them are stored before it returns.

        Raises:
            StoreError: see `Store.write`; `UnknownContent` when it was swept.
        """
        if self._is_finished:
            raise StoreError("staged content was finished")
        self._buffer += octets
        self.size_octets += len(octets)
        while len(self._buffer) >= CHUNK_OCTETS:
            chunk = bytes(self._buffer[:CHUNK_OCTETS])
            del self._buffer[:CHUNK_OCTETS]
            await self._store_chunk(chunk)

    async def finish(self) -> int:
        """Store what is left and return the id to be adopted."""
        if not self._is_finished:
            if self._buffer or not self._chunks:
                await self._store_chunk(bytes(self._buffer))
                self._buffer.clear()
            self._is_finished = True
        return self.id

    async def drop(self) -> None:
        """Remove what was staged, if it was not adopted; also where the caller is cancelled."""
        staged_id = self.id
        if not staged_id:
            return
        with trio.move_on_after(_DROP_SECONDS, shield=True):
            await self._store.write(
                lambda transaction: transaction.content.stage_drop(staged_id), key=f"content:{staged_id}"
            )

    async def _store_chunk(self, chunk: bytes) -> None:
        staged_id, index = self.id, self._chunks + 1

        def unit(transaction: Transaction) -> int:
            content_id = staged_id or transaction.content.stage_begin()
            transaction.content.stage_append(content_id, index, chunk)
            return content_id

        self.id = await self._store.write(unit, key=f"content:{staged_id}")
        self._chunks = index


def _without_empty_line(head: bytes) -> bytes:
    if head.endswith(b"\r\n\r\n"):
        return head[:-2]
    return b"" if head == b"\r\n" else head
