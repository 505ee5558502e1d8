"""Content: stored once, in chunks, staged while it arrives, gone with its last reference."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailcrane.store.content import StagedContent, StoredContent
from mailcrane.store.errors import AlreadyStored, StoreError, UnknownContent
from mailcrane.store.housekeeping import sweep
from mailcrane.store.records import CHUNK_OCTETS, ContentDraft, PreparedHeader
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

HEADER = b"Subject: x\r\nFrom: a@b\r\n"


async def octets_of(store: Store, content_id: int, start: int = 0) -> bytes:
    content = await StoredContent.open(store, content_id)
    return b"".join([chunk async for chunk in content.chunks(start)])


@pytest.mark.parametrize("length", [0, 1, CHUNK_OCTETS - 26, CHUNK_OCTETS, 3 * CHUNK_OCTETS + 5])
async def test_content_is_read_as_it_was_stored(store: Store, length: int) -> None:
    octets = HEADER + b"\r\n" + b"y" * length
    draft = ContentDraft(len(HEADER) + 2, "<a@b>", "x", True, True, b"structure")
    info = await store.write(lambda tx: tx.content.add(octets, draft), key="k")
    row = await store.read(lambda tx: tx.content.get(info.id))
    assert row is not None
    assert (row.info, row.structure) == (info, b"structure")
    content = await StoredContent.open(store, info.id)
    assert (content.header, content.size_octets, content.info) == (HEADER, len(octets), info)
    assert await octets_of(store, info.id) == octets
    assert await octets_of(store, info.id, info.body_offset) == b"y" * length
    assert all([len(chunk) <= CHUNK_OCTETS async for chunk in content.chunks()])


async def test_content_that_arrives_is_adopted_with_what_is_put_in_front_of_it(store: Store) -> None:
    staged = StagedContent(store)
    arrived = HEADER + b"\r\n" + b"z" * 600_000
    for start in range(0, len(arrived), 70_000):
        await staged.append(arrived[start : start + 70_000])
    staged_id = await staged.finish()
    assert await store.read(lambda tx: tx.content.get(staged_id)) is None
    prefix = b"Received: by us\r\n"
    draft = ContentDraft(len(prefix + HEADER) + 2)
    info = await store.write(
        lambda tx: tx.content.adopt(staged_id, draft, prefix=prefix, size_octets=len(prefix + arrived), origin="s:1"),
        key="k",
    )
    assert info.id == staged_id
    assert await octets_of(store, info.id) == prefix + arrived
    assert (await StoredContent.open(store, info.id)).header == prefix + HEADER
    await staged.drop()
    assert await octets_of(store, info.id, info.body_offset) == b"z" * 600_000
    with pytest.raises(UnknownContent):
        await store.write(lambda tx: tx.content.stage_append(staged_id, 9, b"late"), key="k")


async def test_staged_content_that_is_dropped_leaves_nothing(store: Store) -> None:
    staged = StagedContent(store)
    await staged.append(b"x" * CHUNK_OCTETS)
    await staged.drop()
    assert await store.read(lambda tx: tx.content.read_chunk(staged.id, 1)) is None
    with pytest.raises(UnknownContent):
        await staged.append(b"x" * CHUNK_OCTETS)


async def test_the_same_transaction_is_stored_once(store: Store, make: Any) -> None:
    def unit(transaction: Transaction) -> int:
        content_id: int = make.content(transaction, origin="s:1")
        transaction.queue.add([make.entry(transaction, content_id)])
        return content_id

    first = await store.write(unit, key="queue")
    with pytest.raises(AlreadyStored) as caught:
        await store.write(unit, key="queue")
    assert caught.value.info.id == first
    assert len(await store.read(lambda tx: tx.queue.list())) == 1

    def adopt(transaction: Transaction) -> None:
        staged_id = transaction.content.stage_begin()
        transaction.content.adopt(staged_id, ContentDraft(0), prefix=b"x", size_octets=1, origin="s:1")

    with pytest.raises(AlreadyStored):
        await store.write(adopt, key="queue")


async def test_content_nobody_refers_to_and_stale_staged_content_is_swept(
    store: Store, make: Any, held_clock: Any
) -> None:
    unused = await store.write(make.content, key="k")
    used = await store.write(make.queued(), key="queue")
    staged = StagedContent(store)
    await staged.append(b"x" * CHUNK_OCTETS)
    held_clock.move(minutes=50)
    await staged.append(b"x" * CHUNK_OCTETS)
    held_clock.move(minutes=50)
    assert await sweep(store) == 1
    assert await store.read(lambda tx: tx.content.get(unused)) is None
    await staged.append(b"x" * CHUNK_OCTETS)
    held_clock.move(minutes=61)
    assert await sweep(store) == 1
    entry = await store.read(lambda tx: tx.queue.get(used[0]))
    assert entry is not None
    assert await octets_of(store, entry.content_id) != b""


async def test_a_prepared_header_is_kept_per_variant_and_goes_with_its_content(
    store: Store, make: Any, held_clock: Any
) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    entry = await store.read(lambda tx: tx.queue.get(entry_id))
    assert entry is not None
    content_id = entry.content_id
    first = PreparedHeader(b"A: b\r\n\r\n", 14, held_clock.at + timedelta(days=1), ("s._domainkey.example.org",))
    second = PreparedHeader(b"", 0)
    await store.write(lambda tx: tx.content.set_prepared(content_id, "relay", second), key="queue")
    await store.write(lambda tx: tx.content.set_prepared(content_id, "relay", first), key="queue")
    assert await store.read(lambda tx: tx.content.prepared(content_id, "relay")) == first
    assert await store.read(lambda tx: tx.content.prepared(content_id, "other")) is None
    await store.write(lambda tx: tx.queue.remove(entry_id), key="queue")
    assert await store.read(lambda tx: tx.content.prepared(content_id, "relay")) is None
    with pytest.raises(UnknownContent):
        await store.write(lambda tx: tx.content.set_prepared(content_id, "relay", first), key="queue")


async def test_reading_content_that_is_gone_says_so(store: Store, make: Any) -> None:
    with pytest.raises(UnknownContent):
        await StoredContent.open(store, 99)
    octets = b"\r\n" + b"x" * (2 * CHUNK_OCTETS)
    info = await store.write(lambda tx: tx.content.add(octets, ContentDraft(2)), key="k")
    content = await StoredContent.open(store, info.id)
    assert content.header == b""
    await store.write(lambda tx: tx.content.sweep(before=tx.now + timedelta(seconds=1)), key="k")
    with pytest.raises(UnknownContent):
        [chunk async for chunk in content.chunks()]


async def test_chunks_are_bounded_and_numbered_from_one(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.write(lambda tx: tx.content.stage_append(tx.content.stage_begin(), 0, b"x"), key="k")
    with pytest.raises(StoreError):
        await store.write(
            lambda tx: tx.content.stage_append(tx.content.stage_begin(), 1, b"x" * (CHUNK_OCTETS + 1)), key="k"
        )
