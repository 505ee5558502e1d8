"""What it costs to find what is due: counted in instructions of SQLite's machine, which do not depend on the machine.

Each test asks for the same work from a queue that is small and from one that is large, and wants the same cost but for
the depth of the indexes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailcrane.model.clock import SystemClock
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.sqlite.engine import SQLiteStore
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

SMALL, LARGE = 50, 20_000
_STEP = 10


class Counted:
    """A store, and the instructions that units cost."""

    def __init__(self, store: Store, make: Any) -> None:
        self.store = store
        self.make = make

    async def fill(self, *forward_paths: str, **fields: Any) -> None:
        """Queue entries that share content, due a minute ago unless told otherwise."""

        def unit(transaction: Transaction) -> None:
            content_id = self.make.content(transaction)
            due_at = transaction.now - timedelta(minutes=1)
            entries = [self.make.entry(transaction, content_id, path, due_at=due_at) for path in forward_paths]
            transaction.queue.add([msgspec.structs.replace(entry, **fields) for entry in entries])

        await self.store.write(unit, key="queue")

    async def pick(self, wanted: int = 20, **options: Any) -> int:
        """Begin deliveries, each of which is one entry, and return what it cost."""
        assert isinstance(self.store, SQLiteStore)
        connection = self.store._batches.connection
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += _STEP
            return 0

        def unit(transaction: Transaction) -> int:
            connection.set_progress_handler(count, _STEP)
            begun = transaction.queue.begin_attempts(
                self.make.worker,
                transaction.now + timedelta(minutes=5),
                options.pop("limit", 20),
                next_due_at=self.make.in_an_hour,
                **options,
            )
            transaction.queue.next_due_at()
            connection.set_progress_handler(None, 0)
            return len(begun.leased)

        assert await self.store.write(unit, key="queue") == wanted
        return steps


async def cost(tmp_path: Path, make: Any, size: int, scenario: Callable[[Counted, int], Any]) -> int:
    async with await open_sqlite(str(tmp_path / f"db{size}"), SystemClock()) as store:
        await store.write(lambda tx: tx.configuration.replace(make.configuration, expected_version=0), key="config")
        steps: int = await scenario(Counted(store, make), size)
        return steps


def paths(count: int, domain: str = "busy.example") -> list[str]:
    return [f"u{number}@{domain}" for number in range(count)]


async def a_backlog_at_one_domain(counted: Counted, size: int) -> int:
    await counted.fill(*paths(size))
    return await counted.pick(room_for=lambda domain, begun: 20)


async def a_domain_without_room(counted: Counted, size: int) -> int:
    await counted.fill(*paths(size))
    await counted.fill(*paths(20, "calm.example"))
    room = {"busy.example": 0}
    await counted.pick(limit=21, room_for=lambda domain, begun: room.get(domain, 20))
    await counted.fill(*paths(20, "other.example"))
    # The second time it is not even met.
    return await counted.pick(limit=21, room_for=lambda domain, begun: room.get(domain, 20))


async def held_entries(counted: Counted, size: int) -> int:
    await counted.fill(*paths(size), is_held=True)
    await counted.fill(*paths(20))
    return await counted.pick()


async def entries_for_later(counted: Counted, size: int) -> int:
    later = await counted.store.read(lambda tx: tx.now + timedelta(hours=1))
    await counted.fill(*paths(size), due_at=later)
    await counted.fill(*paths(20))
    return await counted.pick()


async def domains_with_one_entry(counted: Counted, size: int) -> int:
    await counted.fill(*(f"u@d{number}.example" for number in range(size)))
    return await counted.pick()


async def domains_that_are_left_alone(counted: Counted, size: int) -> int:
    until = await counted.store.read(lambda tx: tx.now + timedelta(hours=1))
    await counted.fill(*(f"u@d{number}.example" for number in range(size)))
    await counted.pick(0, left_alone_until=lambda domain: until)
    await counted.fill(*paths(20, "calm.example"))
    return await counted.pick(left_alone_until=lambda domain: until if domain.startswith("d") else None)


async def attempts_under_way(counted: Counted, size: int) -> int:
    await counted.fill(*paths(size))
    left = size
    while left:
        taken = min(left, 1000)
        await counted.pick(taken, limit=1000, look_again={"busy.example"})
        left -= taken
    await counted.fill(*paths(20))
    return await counted.pick()


@pytest.mark.parametrize(
    "scenario",
    [
        a_backlog_at_one_domain,
        a_domain_without_room,
        held_entries,
        entries_for_later,
        domains_with_one_entry,
        domains_that_are_left_alone,
        attempts_under_way,
    ],
    ids=lambda scenario: scenario.__name__,
)
async def test_finding_what_is_due_costs_the_same_however_much_there_is(
    tmp_path: Path, make: Any, scenario: Callable[[Counted, int], Any]
) -> None:
    small = await cost(tmp_path, make, SMALL, scenario)
    large = await cost(tmp_path, make, LARGE, scenario)
    assert small > 500
    assert large < 1.15 * small


async def test_counting_the_queue_scans_nothing(tmp_path: Path, make: Any) -> None:
    async with await open_sqlite(str(tmp_path / "db"), SystemClock()) as store:
        assert isinstance(store, SQLiteStore)
        plan = store._batches.connection.execute("EXPLAIN QUERY PLAN SELECT name, value FROM queue_counts").fetchall()
        assert [row[3] for row in plan] == ["SCAN queue_counts"]
        assert store._batches.connection.execute("SELECT COUNT(*) FROM queue_counts").fetchone() == (2,)
