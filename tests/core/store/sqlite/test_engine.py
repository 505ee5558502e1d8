"""The SQLite engine: what only it has."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from mailcrane.model.clock import SystemClock
from mailcrane.store.errors import CommitFailed, DiskFull, StoreError
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.sqlite.batch import Batches
from mailcrane.store.sqlite.connection import translate, translate_commit
from mailcrane.store.sqlite.engine import SQLiteStore
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction


def pragma(store: Store, name: str) -> Any:
    """Ask the writing connection for a setting; the test is the only one that uses it meanwhile."""
    assert isinstance(store, SQLiteStore)
    return batches(store).connection.execute(f"PRAGMA {name}").fetchone()[0]


def pages(path: Path, name: str) -> int:
    """Ask a connection of its own for a count of pages: the thread may be giving some back meanwhile."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute(f"PRAGMA {name}").fetchone()
    assert isinstance(count, int)
    return count


def batches(store: Store) -> Batches:
    assert isinstance(store, SQLiteStore)
    return store._batches


def put(key: str, value: bytes) -> Callable[[Transaction], None]:
    def unit(transaction: Transaction) -> None:
        transaction.plugin_data.set("test", key, value)

    return unit


async def test_the_database_is_set_up_to_survive_a_power_cut_and_to_give_space_back(tmp_path: Path) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        assert pragma(store, "journal_mode") == "wal"
        assert pragma(store, "synchronous") == 2
        assert pragma(store, "auto_vacuum") == 2
        assert pragma(store, "journal_size_limit") > 0
        assert pragma(store, "wal_autocheckpoint") > 0


async def test_a_full_disk_fails_what_does_not_fit_and_the_store_goes_on(tmp_path: Path) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        await store.write(put("before", b"x"), key="k")
        pages = pragma(store, "page_count")
        pragma(store, f"max_page_count = {pages + 20}")
        stored, refused = [], []

        async def hand_in(number: int) -> None:
            key = f"{number:03}"
            try:
                await store.write(put(key, bytes(3000)), key="k")
            except DiskFull:
                refused.append(key)
            else:
                stored.append(key)

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(hand_in, number)
        assert refused
        kept = [key for key, _ in await store.read(lambda tx: tx.plugin_data.list("test"))]
        assert kept == sorted([*stored, "before"])
        pragma(store, f"max_page_count = {pages + 10_000}")
        await store.write(put("after", bytes(3000)), key="k")
        assert not store.failed.is_set()


async def test_an_error_of_the_disk_while_nothing_is_left_of_it_is_told_as_full(tmp_path: Path) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    path = str(tmp_path / "db")
    assert isinstance(translate(full, path), DiskFull)
    assert isinstance(translate_commit(full, path), DiskFull)
    assert isinstance(translate_commit(broken, path), CommitFailed)


async def test_many_that_wait_share_a_commit(tmp_path: Path) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:

        async def client(number: int) -> None:
            for turn in range(10):
                await store.write(put(f"{number}.{turn}", b"x" * 100), key="k")

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(client, number)
        assert store.statistics.units == 500
        assert store.statistics.units / store.statistics.commits >= 3
        assert store.statistics.largest_batch > 3


async def test_the_write_delay_is_the_age_of_the_oldest_unit(tmp_path: Path) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        assert store.write_delay() == 0.0
        release = trio.Event()
        entered = trio.Event()

        def slow(transaction: Transaction) -> None:
            trio.from_thread.run_sync(entered.set, trio_token=token)
            trio.from_thread.run(release.wait, trio_token=token)

        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: store.write(slow, key="k"))
            await entered.wait()
            first = store.write_delay()
            assert 0 < first < store.write_delay()
            release.set()
        assert store.write_delay() == 0.0


async def test_removed_content_gives_its_space_back(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "db"
    async with await open_sqlite(str(path), SystemClock()) as store:

        def fill(transaction: Transaction) -> list[int]:
            return [make.content(transaction, b"\r\n\r\n" + os.urandom(200_000)) for _ in range(100)]

        await store.write(fill, key="k")
        full = pages(path, "page_count")
        while await store.write(lambda tx: tx.content.sweep(before=tx.now, limit=20), key="k"):
            pass
        with trio.fail_after(5):
            while pages(path, "page_count") >= full / 2:  # noqa: ASYNC110 - the thread tells nobody
                await trio.sleep(0.01)
    assert size_octets(path) < 100 * 200_000 / 2
    assert not (tmp_path / "db-wal").exists()


def size_octets(path: Path) -> int:
    return path.stat().st_size


async def test_the_write_ahead_log_is_bounded(tmp_path: Path) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        for turn in range(120):
            await store.write(put(f"{turn % 7}", os.urandom(300_000)), key="k")
        assert size_octets(tmp_path / "db-wal") < 64 * 1024 * 1024


@pytest.mark.parametrize("entries", [100, 20_000])
async def test_picking_what_is_due_does_not_depend_on_how_much_is_queued(
    tmp_path: Path, make: Any, entries: int
) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:

        def fill(transaction: Transaction) -> None:
            transaction.configuration.replace(make.configuration, expected_version=0)
            content_id = make.content(transaction)
            transaction.queue.add(
                [make.entry(transaction, content_id, f"u{number}@busy.example") for number in range(entries)]
            )
            transaction.queue.add(
                [make.entry(transaction, content_id, f"u{number}@fine.example") for number in range(20)]
            )

        await store.write(fill, key="queue")
        connection = batches(store).connection
        steps = [0]

        def count() -> int:
            steps[0] += 100
            return 0

        def room_for(domain: str, begun: int) -> int:
            return 0 if domain == "busy.example" else 20

        def pick(transaction: Transaction) -> int:
            connection.set_progress_handler(count, 100)
            begun = transaction.queue.begin_attempts(
                make.worker, transaction.now, 21, next_due_at=make.in_an_hour, room_for=room_for
            )
            assert transaction.queue.next_due_at() is not None
            connection.set_progress_handler(None, 0)
            return len(begun.leased)

        assert await store.write(pick, key="queue") == 20
        # Virtual machine instructions of SQLite: for 20 entries some 5,000, whatever else is queued.
        assert steps[0] < 15_000


async def test_what_is_asked_all_the_time_is_answered_by_an_index(tmp_path: Path) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        connection = batches(store).connection
        for statement in (
            "SELECT 1 FROM entries WHERE destination = 'a' AND pick_at <= 5 ORDER BY pick_at",
            "SELECT 1 FROM entries WHERE lease_until <= 5 AND state = 2 ORDER BY lease_until",
            "SELECT name FROM heads WHERE kind = 'url' AND due_at <= 5 ORDER BY due_at",
            "SELECT 1 FROM calls WHERE url = 'a' AND pick_at <= 5 ORDER BY pick_at",
            "SELECT 1 FROM calls WHERE entry_id = 7 AND entry_id <> 0",
            "SELECT 1 FROM events WHERE is_pending = 1 ORDER BY at, account_id, number",
            "SELECT 1 FROM events WHERE account_id = 1 AND number > 5 ORDER BY number",
            "SELECT 1 FROM contents WHERE refs = 0",
            "SELECT 1 FROM contents WHERE origin = 'a'",
            "SELECT 1 FROM messages WHERE account_id = 1 AND is_expunged = 1 AND modseq <= 5",
            "SELECT 1 FROM changes WHERE account_id = 1 AND modseq > 5 ORDER BY modseq, item",
        ):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            assert not [step for *_, step in plan if step.startswith("SCAN") and "INDEX" not in step], statement
            assert not [step for *_, step in plan if "TEMP B-TREE" in step], statement


async def test_a_database_in_memory_is_inline_only() -> None:
    with pytest.raises(ValueError, match="inline"):
        await open_sqlite(":memory:", SystemClock())
    async with await open_sqlite(":memory:", SystemClock(), inline=True) as store:
        await store.write(put("a", b"x"), key="k")
        assert await store.read(lambda tx: tx.plugin_data.get("test", "a")) == b"x"


async def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for inline in (True, False):
        with pytest.raises(StoreError, match="missing"):
            await open_sqlite(str(tmp_path / "missing" / "db"), SystemClock(), inline=inline)
    (tmp_path / "text").write_text("This is not a database, but it is longer than a header would be. " * 20)
    with pytest.raises(StoreError, match="text"):
        await open_sqlite(str(tmp_path / "text"), SystemClock())


async def test_only_the_owner_may_read_the_database(tmp_path: Path) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        await store.write(put("a", b"x"), key="k")
        for path in (tmp_path / "db", tmp_path / "db-wal"):
            assert path.stat().st_mode & 0o077 == 0


async def test_free_pages_are_given_back_when_it_is_quiet(tmp_path: Path, make: Any) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        octets = b"\r\n\r\n" + bytes(200_000)
        await store.write(lambda tx: [make.content(tx, octets) for _ in range(100)], key="k")
        await store.write(lambda tx: tx.content.sweep(before=tx.now + timedelta(days=1), limit=100), key="k")
        full = pages(tmp_path / "db", "freelist_count")
        with trio.fail_after(5):
            while pages(tmp_path / "db", "freelist_count") >= full / 2:  # noqa: ASYNC110 - the thread tells nobody
                await trio.sleep(0.01)
