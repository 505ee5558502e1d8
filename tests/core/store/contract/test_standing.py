"""How a recipient domain stands: counted up to a bound, whatever is queued."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.store.records import HeldCount
from mailcrane.store.repository import standing as standing_module
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

DEFERRED = RecipientResult(Outcome.DEFERRED, error="later")


async def test_entries_are_counted_by_what_they_wait_for(store: Store, make: Any, held_clock: Any) -> None:
    ids = await store.write(make.queued(*(f"{number}@example.net" for number in range(7))), key="queue")

    def arrange(transaction: Transaction) -> None:
        transaction.queue.update(ids[0], is_held=True)
        transaction.queue.update(ids[1], is_held=True, hold_rule=4)
        transaction.queue.update(ids[2], due_at=transaction.now + timedelta(hours=1))
        transaction.queue.update(ids[3], due_at=transaction.now + timedelta(hours=2))

    await store.write(arrange, key="queue")
    begun = await store.write(
        lambda tx: tx.queue.begin_attempts(make.worker, tx.now + timedelta(minutes=5), 2, next_due_at=make.in_an_hour),
        key="queue",
    )
    (first,), (second,) = begun.deliveries
    await store.write(lambda tx: tx.queue.settle(second.entry.id, second.token, DEFERRED, transport="out"), key="queue")
    await store.write(make.queued("other@example.com"), key="queue")
    standing = await store.read(lambda tx: tx.standing.of("example.net"))
    assert (standing.due, standing.waiting, standing.under_way, standing.settling) == (1, 2, 1, 1)
    assert standing.next_due_at == held_clock.at + timedelta(hours=1)
    assert standing.held == (HeldCount(0, 1), HeldCount(4, 1))
    assert {one.entry.id for one in standing.sample} == {ids[2], ids[3], first.entry.id, ids[6]}


async def test_counts_and_the_sample_stop_at_a_bound(
    store: Store, make: Any, held_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_module, "COUNT_LIMIT", 5)
    monkeypatch.setattr(standing_module, "_SAMPLE_EDGE", 2)
    ids = await store.write(make.queued(*(f"{number}@example.net" for number in range(30))), key="queue")

    def hold(transaction: Transaction) -> None:
        for entry_id in ids[:10]:
            transaction.queue.update(entry_id, is_held=True)

    await store.write(hold, key="queue")
    standing = await store.read(lambda tx: tx.standing.of("example.net"))
    assert (standing.due, standing.held, len(standing.sample)) == (6, (HeldCount(0, 6),), 4)
