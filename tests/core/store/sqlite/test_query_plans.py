"""Pages of the queue are found by an index where there is one for them, not by going over the whole queue."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from mailcrane.store.records import QueueFilter, QueueSort
from mailcrane.store.repository.entry_rows import FROM, conditions, order
from mailcrane.store.sqlite.migrations import migrate

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("filter_", "step"),
    [
        (QueueFilter(after_id=5), "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)"),
        (QueueFilter(after_id=5, is_descending=True), "SEARCH e USING INTEGER PRIMARY KEY (rowid<?)"),
        (QueueFilter(ids=(1, 2)), "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"),
        (QueueFilter(account="ann"), "SEARCH e USING COVERING INDEX entries_account (account_id=?)"),
        (QueueFilter(is_held=True), "SEARCH e USING INDEX entries_all_held (is_held=?)"),
        (QueueFilter(sort=QueueSort.NEXT_ATTEMPT), "SCAN e USING INDEX entries_due"),
        (QueueFilter(sort=QueueSort.NEXT_ATTEMPT, due_before=AT), "SEARCH e USING INDEX entries_due (due_at<?)"),
        (
            QueueFilter(sort=QueueSort.NEXT_ATTEMPT, after_id=5, after_due_at=AT),
            "SEARCH e USING INDEX entries_due (due_at>?)",
        ),
    ],
)
def test_a_page_is_found_in_its_order_by_an_index(
    connection: sqlite3.Connection, filter_: QueueFilter, step: str
) -> None:
    where, parameters = conditions(filter_)
    statement = f"SELECT e.id {FROM} WHERE {where} ORDER BY {order(filter_)} LIMIT 100"
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert step in steps
    assert not any("TEMP B-TREE" in one for one in steps)
