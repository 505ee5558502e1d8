"""Events: numbered without a hole, visible in order, told to plugins from where they were."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import trio

from mailcrane.model.event import Event, EventKind, NewEvent
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.repository.events import event_id
from mailcrane.store.sqlite.faults import Faults
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

Opener = Any


def record(account: str = "ann", kind: EventKind = EventKind.MESSAGE_QUEUED, entry_id: int = 0) -> Any:
    def unit(transaction: Transaction) -> Event:
        return transaction.events.record([NewEvent(account, kind, entry_id)])[0]

    return unit


async def numbers(store: Store, account: str = "ann") -> list[int]:
    return [event.number for event in await store.read(lambda tx: tx.events.feed(account, 0, 1000))]


async def test_an_event_keeps_its_id_over_restarts(open_store: Opener) -> None:
    async with open_store() as store:
        event = await store.write(record(), key="account:ann")
    async with open_store() as store:
        assert await store.read(lambda tx: tx.events.feed("ann", 0, 10)) == [event]


def test_a_database_begun_anew_gives_other_ids_to_the_same_numbers() -> None:
    assert event_id(1, 1, at_us=1_000) != event_id(1, 1, at_us=2_000)


async def test_a_reader_never_sees_a_hole_in_a_feed_however_slow_the_commits(open_store: Opener) -> None:
    def delay(keys: Sequence[str]) -> None:
        time.sleep(0.002)

    async with open_store(Faults(before_commit=delay)) as store:
        seen = 0
        is_done = False

        async def follow() -> None:
            nonlocal seen
            while not (is_done and seen == 40):
                for event in await store.read(partial(feed_after, seen)):
                    assert event.number == seen + 1
                    seen = event.number

        async def write(number: int) -> None:
            if number % 4 == 0:
                with pytest.raises(LookupError):
                    await store.write(fail_after_recording, key="account:ann")
            else:
                await store.write(record(), key="account:ann")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for start in range(0, 52, 13):
                async with trio.open_nursery() as writers:
                    for number in range(start, start + 13):
                        writers.start_soon(write, number)
            await store.write(record(), key="account:ann")
            is_done = True
        assert await numbers(store) == list(range(1, 41))


def feed_after(number: int, transaction: Transaction) -> list[Event]:
    return transaction.events.feed("ann", number, 1000)


def fail_after_recording(transaction: Transaction) -> None:
    record()(transaction)
    raise LookupError


async def test_each_account_has_numbers_of_its_own(store: Store) -> None:
    def unit(transaction: Transaction) -> list[tuple[str, int]]:
        events = [NewEvent(name, EventKind.MESSAGE_QUEUED) for name in ("ann", "bob", "ann", "")]
        return [(event.account, event.number) for event in transaction.events.record(events)]

    assert await store.write(unit, key="k") == [("ann", 1), ("bob", 1), ("ann", 2), ("", 1)]


async def test_an_event_comes_back_as_it_was_recorded(store: Store, held_clock: Any) -> None:
    data = {"text": "ü", "number": 3, "list": [1, {"a": None}]}
    written = await store.write(
        lambda tx: tx.events.record([NewEvent("ann", EventKind.DELIVERED, 7, data)])[0], key="k"
    )
    assert written.at == held_clock.at
    assert await store.read(lambda tx: tx.events.for_entry(7)) == [written]
    assert await store.read(lambda tx: tx.events.feed("ann", 0, 1)) == [written]
    assert await store.read(lambda tx: tx.events.feed("ann", 0, 9, kinds=[EventKind.FAILED])) == []


async def test_an_event_of_an_account_that_does_not_exist_is_refused(store: Store) -> None:
    with pytest.raises(UnknownAccount):
        await store.write(record("nobody"), key="k")


async def test_outgoing_events_wait_until_calls_were_made_of_them_once(store: Store) -> None:
    await store.write(record(kind=EventKind.DELIVERED), key="k")
    await store.write(record(kind=EventKind.ENTRY_RETIRED), key="k")
    pending = await store.read(lambda tx: tx.events.outgoing_pending(10))
    assert [event.kind for event in pending] == [EventKind.DELIVERED]
    assert await store.write(lambda tx: tx.events.mark_dispatched(pending), key="k") == pending
    assert await store.write(lambda tx: tx.events.mark_dispatched(pending), key="k") == []
    assert await store.read(lambda tx: tx.events.outgoing_pending(10)) == []


async def test_a_plugin_begins_at_the_present_and_goes_on_where_it_was(open_store: Opener) -> None:
    async with open_store() as store:
        await store.write(record(), key="k")
        assert await store.write(lambda tx: tx.events.start_position("p"), key="k")
        assert await store.read(lambda tx: tx.events.accounts_behind("p")) == {}
        await store.write(record(), key="k")
        await store.write(record("bob"), key="k")
        assert await store.read(lambda tx: tx.events.accounts_behind("p")) == {"ann": 1, "bob": 0}
        await store.write(lambda tx: tx.events.advance("p", "ann", 2), key="k")
        await store.write(lambda tx: tx.events.advance("p", "ann", 1), key="k")
    async with open_store() as store:
        assert not await store.write(lambda tx: tx.events.start_position("p"), key="k")
        assert await store.read(lambda tx: tx.events.position("p", "ann")) == 2
        assert await store.read(lambda tx: tx.events.accounts_behind("p")) == {"bob": 0}


async def test_an_event_that_keeps_failing_is_set_aside_and_can_be_buried(store: Store) -> None:
    event = await store.write(record(), key="k")
    await store.write(lambda tx: tx.events.dead_letter("p", event, "boom"), key="k")
    assert await store.read(lambda tx: tx.events.accounts_behind("p")) == {}
    (dead,) = await store.read(lambda tx: tx.events.dead("p"))
    assert (dead.event, dead.error) == (event, "boom")
    await store.write(lambda tx: tx.events.bury("p", event), key="k")
    assert await store.read(lambda tx: tx.events.count_dead("p")) == 0


async def test_old_events_are_removed_but_not_those_that_calls_are_still_to_be_made_of(
    store: Store, held_clock: Any
) -> None:
    for kind in (EventKind.MESSAGE_QUEUED, EventKind.DELIVERED, EventKind.MESSAGE_QUEUED):
        await store.write(record(kind=kind), key="k")
    held_clock.move(days=40)
    await store.write(record(), key="k")

    def purge(transaction: Transaction) -> int:
        return transaction.events.purge(transaction.now - timedelta(days=30), limit=2)

    while await store.write(purge, key="k"):
        pass
    assert await numbers(store) == [2, 4]
    assert (await store.write(record(), key="k")).number == 5
