"""Webhook calls: leased, made again, superseded, retired."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from mailcrane.model.webhook import CallResult, WebhookCall, WebhookTarget
from mailcrane.store.records import LeasedCall, NewCall, RetiredCallFilter, Worker
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

TARGET = WebhookTarget("https://example.org/hook", "Bearer x", ("whsec_a",), ("failed",))


def call(due_at: datetime, **changes: Any) -> NewCall:
    values: dict[str, Any] = {"entry_id": 7, "target": TARGET, "event": "failed"} | changes
    return NewCall("ann", "evt_1_1", payload="{}", due_at=due_at, **values)


def in_a_minute(queued: WebhookCall) -> datetime:
    return queued.due_at + timedelta(minutes=queued.attempts)


async def add(store: Store, keep: timedelta = timedelta(0), **changes: Any) -> int:
    (call_id,) = await store.write(
        lambda tx: tx.webhooks.add([call(tx.now, **changes)], keep_superseded=keep), key="webhooks"
    )
    return call_id


async def lease(store: Store, make: Any, **options: Any) -> list[LeasedCall]:
    return await store.write(
        lambda tx: tx.webhooks.lease_due(
            make.worker, tx.now + timedelta(seconds=90), 10, next_due_at=in_a_minute, **options
        ),
        key="webhooks",
    )


@pytest.fixture
def result(held_clock: Any) -> CallResult:
    return CallResult(held_clock.at, timedelta(seconds=1), False, 500, "500", "oops")


async def test_a_call_is_leased_made_again_and_retired(
    store: Store, make: Any, held_clock: Any, result: CallResult
) -> None:
    call_id = await add(store)
    (first,) = await lease(store, make)
    assert (first.call.attempts, first.call.target, first.call.payload) == (1, TARGET, "{}")
    assert await lease(store, make) == []
    assert await store.write(lambda tx: tx.webhooks.finish(call_id, first.token, result), key="webhooks")
    assert not await store.write(lambda tx: tx.webhooks.finish(call_id, first.token, result), key="webhooks")
    assert await store.read(lambda tx: tx.webhooks.next_due_at()) == held_clock.at + timedelta(minutes=1)
    held_clock.move(minutes=1)
    (second,) = await lease(store, make)
    assert second.call.results == (result,)
    keep_until = held_clock.at + timedelta(days=1)
    retired = await store.write(
        lambda tx: tx.webhooks.retire(call_id, second.token, result, is_success=True, keep_until=keep_until),
        key="webhooks",
    )
    assert retired is not None
    assert (retired.is_success, retired.call.results) == (True, (result, result))
    assert (retired.call.target.url, retired.call.target.authorization) == (TARGET.url, "")
    assert await store.read(lambda tx: tx.webhooks.get_retired(call_id)) == retired
    assert await store.read(lambda tx: tx.webhooks.retired_list(RetiredCallFilter(account="ann"))) == [retired]
    assert await store.read(lambda tx: tx.webhooks.list()) == []
    held_clock.move(days=2)
    assert await store.write(lambda tx: tx.webhooks.purge(tx.now), key="webhooks") == 1


async def test_a_call_that_is_not_kept_leaves_nothing(store: Store, make: Any, result: CallResult) -> None:
    call_id = await add(store)
    retired = await store.write(lambda tx: tx.webhooks.retire(call_id, None, None, is_success=False), key="webhooks")
    assert retired is not None
    assert await store.read(lambda tx: tx.webhooks.get_retired(call_id)) is None
    assert await store.write(lambda tx: tx.webhooks.retire(call_id, None, None, is_success=False), key="k") is None


async def test_a_newer_call_ends_older_ones_of_its_entry_and_url(store: Store, make: Any, result: CallResult) -> None:
    old = await add(store)
    elsewhere = await add(store, target=WebhookTarget("https://example.org/other"))
    (leased, _) = await lease(store, make)
    assert leased.call.id == old
    newer = await add(store, timedelta(days=1), supersedes=True, event="delivered")
    assert [queued.id for queued in await store.read(lambda tx: tx.webhooks.list())] == [elsewhere, newer]
    # What was under way when it was superseded is noted once, whichever way it reports.
    assert not await store.write(lambda tx: tx.webhooks.finish(old, leased.token, result), key="webhooks")
    assert (
        await store.write(lambda tx: tx.webhooks.retire(old, leased.token, result, is_success=True), key="webhooks")
        is None
    )
    retired = await store.read(lambda tx: tx.webhooks.get_retired(old))
    assert retired is not None
    assert (retired.superseded_by, retired.is_success) == (newer, False)
    assert [noted.error for noted in retired.call.results] == ["500 (superseded)"]


async def test_calls_without_an_entry_are_not_superseded(store: Store) -> None:
    first = await add(store, entry_id=0, supersedes=True)
    second = await add(store, entry_id=0, supersedes=True)
    assert [queued.id for queued in await store.read(lambda tx: tx.webhooks.list())] == [first, second]


async def test_no_url_has_more_than_its_share(store: Store, make: Any) -> None:
    for _ in range(3):
        await add(store)
    other = await add(store, target=WebhookTarget("https://example.org/other"))
    assert len(await lease(store, make, exclude_urls=[TARGET.url])) == 1
    asked: list[tuple[str, int]] = []

    def room(url: str, leased: int) -> int:
        asked.append((url, leased))
        return 2 if url == TARGET.url else 0

    leased = await lease(store, make, room=room)
    assert [found.call.target.url for found in leased] == [TARGET.url] * 2
    assert (TARGET.url, 0) in asked
    assert other not in {found.call.id for found in leased}


async def test_an_old_token_and_a_dead_boot(store: Store, make: Any, held_clock: Any, result: CallResult) -> None:
    call_id = await add(store)
    (leased,) = await lease(store, make)

    def renew(transaction: Transaction) -> set[int]:
        return transaction.webhooks.renew([(call_id, leased.token)], transaction.now + timedelta(minutes=30))

    assert await store.write(renew, key="webhooks") == {call_id}
    held_clock.move(minutes=20)
    assert await lease(store, make) == []
    assert not await store.write(lambda tx: tx.webhooks.reschedule(call_id, tx.now), key="webhooks")
    assert await store.write(lambda tx: tx.webhooks.release_boots(Worker("machine", "boot 2")), key="k") == 1
    assert await store.write(renew, key="webhooks") == set()
    assert not await store.write(lambda tx: tx.webhooks.finish(call_id, leased.token, result), key="webhooks")
    (again,) = await lease(store, make)
    assert again.call.attempts == 2
    assert await store.write(lambda tx: tx.webhooks.finish(call_id, again.token, result), key="webhooks")
    assert await store.write(lambda tx: tx.webhooks.reschedule(call_id, tx.now), key="webhooks")
    assert len(await lease(store, make)) == 1


async def test_a_call_that_was_not_made_is_given_back(store: Store, make: Any) -> None:
    call_id = await add(store)
    (leased,) = await lease(store, make)
    assert await store.write(lambda tx: tx.webhooks.postpone(call_id, leased.token, tx.now), key="webhooks")
    assert not await store.write(lambda tx: tx.webhooks.postpone(call_id, leased.token, tx.now), key="webhooks")
    (again,) = await lease(store, make)
    assert again.call.attempts == 1
