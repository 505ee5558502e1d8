"""Units of work: atomic, durable when answered, in order, re-run, cancelled, failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.model.event import EventKind, NewEvent
from mailcrane.store.errors import CommitFailed, StoreClosed, StoreError, StoreFailed
from mailcrane.store.sqlite.faults import Faults
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

Opener = Any


def note(key: str, value: bytes = b"") -> Callable[[Transaction], None]:
    def unit(transaction: Transaction) -> None:
        transaction.plugin_data.set("test", key, value)

    return unit


async def notes(store: Store) -> list[str]:
    return [key for key, _ in await store.read(lambda tx: tx.plugin_data.list("test"))]


async def test_a_unit_that_is_answered_is_there_after_opening_again(open_store: Opener) -> None:
    async with open_store() as store:
        await store.write(note("a"), key="k")
    async with open_store() as store:
        assert await notes(store) == ["a"]


async def test_a_unit_returns_what_its_function_returned(store: Store) -> None:
    assert await store.write(lambda tx: 42, key="k") == 42


async def test_a_unit_that_raises_stores_nothing_and_its_caller_gets_the_exception(store: Store) -> None:
    def unit(transaction: Transaction) -> None:
        note("a")(transaction)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await store.write(unit, key="k")
    assert await notes(store) == []


async def test_a_unit_that_raises_does_not_harm_those_beside_it(store: Store) -> None:
    def bad(transaction: Transaction) -> None:
        note("bad")(transaction)
        raise LookupError

    async def fail() -> None:
        with pytest.raises(LookupError):
            await store.write(bad, key="k")

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(store_note, store, f"{number:02}")
            nursery.start_soon(fail)
    assert await notes(store) == [f"{number:02}" for number in range(20)]


async def test_a_statement_that_the_database_refuses_is_a_store_error(store: Store) -> None:
    def unit(transaction: Transaction) -> None:
        transaction.plugin_data.set("test", "a", object())  # type: ignore[arg-type]

    with pytest.raises(StoreError):
        await store.write(unit, key="k")
    await store.write(note("b"), key="k")
    assert await notes(store) == ["b"]


async def test_units_of_a_key_become_visible_in_the_order_they_were_handed_in(store: Store) -> None:
    def unit(number: int) -> Callable[[Transaction], None]:
        def record(transaction: Transaction) -> None:
            transaction.events.record([NewEvent("ann", EventKind.MESSAGE_QUEUED, data={"n": number})])

        return record

    async def hand_in(number: int) -> None:
        await store.write(unit(number), key="account:ann")

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(hand_in, number)
            await trio.testing.wait_all_tasks_blocked()
    events = await store.read(lambda tx: tx.events.feed("ann", 0, 100))
    assert [event.data["n"] for event in events] == list(range(30))


async def test_a_unit_that_is_run_twice_has_its_effects_once(open_store: Opener, make: Any) -> None:
    runs = 0

    def unit(transaction: Transaction) -> list[int]:
        nonlocal runs
        runs += 1
        transaction.wake("twice")
        transaction.events.record([NewEvent("ann", EventKind.MESSAGE_QUEUED)])
        ids: list[int] = make.queued("a@example.net", "b@example.net")(transaction)
        return ids

    async with open_store(Faults(rerun_units=True)) as store:
        ids = await store.write(unit, key="queue")
        assert runs == 2
        assert store.wakeups.version("twice") == 1
        assert [entry.id for entry in await store.read(lambda tx: tx.queue.list())] == ids
        assert [event.number for event in await store.read(lambda tx: tx.events.feed("ann", 0, 9))] == [1]


async def test_a_unit_whose_caller_is_cancelled_while_it_waits_is_committed(open_store: Opener) -> None:
    async with open_store() as store:
        with trio.CancelScope() as scope:

            def unit(transaction: Transaction) -> None:
                note("a")(transaction)
                trio.from_thread.run_sync(scope.cancel, trio_token=token) if not is_inline else scope.cancel()

            token = trio.lowlevel.current_trio_token()
            is_inline = type(store).__name__ == "InlineStore"
            await store.write(unit, key="k")
        assert scope.cancelled_caught
        await store.write(note("b"), key="k")
        assert await notes(store) == ["a", "b"]
        assert store.write_delay() == 0.0


async def test_a_caller_that_is_cancelled_already_queues_nothing(store: Store) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.write(note("a"), key="k")
    await store.write(note("b"), key="k")
    assert await notes(store) == ["b"]


async def test_a_failed_commit_fails_every_unit_of_its_batch_and_the_next_one_goes_on(open_store: Opener) -> None:
    failing = [False]

    def fail(keys: Sequence[str]) -> None:
        if failing[0]:
            raise OSError("the disk is gone")

    async with open_store(Faults(before_commit=fail)) as store:
        failing[0] = True
        failed = 0

        async def hand_in(number: int) -> None:
            nonlocal failed
            with pytest.raises(CommitFailed):
                await store.write(wake_and_note(str(number)), key="k")
            failed += 1

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(hand_in, number)
        assert failed == 10
        assert store.statistics.failed_commits >= 1
        assert store.wakeups.version("noted") == 0
        failing[0] = False
        await store.write(note("after"), key="k")
        assert await notes(store) == ["after"]


async def test_nobody_is_answered_before_the_commit(open_store: Opener) -> None:
    committed: list[str] = []
    answered: list[str] = []

    def before(keys: Sequence[str]) -> None:
        assert not set(keys) & set(answered)

    async with open_store(Faults(before_commit=before, after_commit=committed.extend)) as store:

        async def hand_in(key: str) -> None:
            await store.write(note(key), key=key)
            assert key in committed
            answered.append(key)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(hand_in, f"{number:02}")
        assert len(answered) == 50


async def test_when_the_engine_dies_every_caller_fails_and_the_server_is_told(open_store: Opener) -> None:
    class Death(BaseException):
        pass

    dying = [False]

    def die(keys: Sequence[str]) -> None:
        if dying[0]:
            raise Death

    async with open_store(Faults(before_commit=die)) as store:
        dying[0] = True

        async def hand_in() -> None:
            with pytest.raises(StoreFailed):
                await store.write(note("a"), key="k")

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(hand_in)
        with pytest.raises(StoreFailed):
            await store.watch()
        with pytest.raises(StoreFailed):
            await store.write(note("b"), key="k")
        assert isinstance(store.failure, Death)
    async with open_store() as store:
        assert await notes(store) == []


async def test_a_closed_store_takes_no_units(open_store: Opener) -> None:
    async with open_store() as store:
        await store.aclose()
        with pytest.raises(StoreClosed):
            await store.write(note("a"), key="k")


async def test_closing_commits_what_is_queued(open_store: Opener) -> None:
    async with open_store() as store, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(store_note, store, f"{number:02}")
        await trio.testing.wait_all_tasks_blocked()
        await store.aclose()
    async with open_store() as store:
        assert len(await notes(store)) == 20


async def test_a_read_sees_what_was_answered_and_cannot_write(store: Store) -> None:
    await store.write(note("a"), key="k")
    with pytest.raises(StoreError):
        await store.read(note("b"))
    assert await notes(store) == ["a"]


async def test_what_a_read_raises_reaches_its_caller(store: Store) -> None:
    def operation(transaction: Transaction) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await store.read(operation)
    assert await notes(store) == []


async def test_the_instant_of_a_unit_is_the_clocks_and_one_value(store: Store, held_clock: Any) -> None:
    assert await store.write(lambda tx: (tx.now, tx.now), key="k") == (held_clock.at, held_clock.at)


async def test_a_wake_up_comes_after_the_commit_and_is_not_lost(store: Store) -> None:
    woken = 0

    async def follow() -> None:
        nonlocal woken
        seen = -1
        while woken < 30:
            # The version is taken before the state is read: whatever comes in between ends the wait at once.
            seen = store.wakeups.version("noted")
            woken = len(await notes(store))
            if woken < 30:
                await store.wakeups.wait("noted", seen=seen)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        for number in range(30):
            nursery.start_soon(hand_in_waking, store, f"{number:02}")
    assert woken == 30


async def test_a_waiter_that_is_cancelled_leaves_nothing_behind(store: Store) -> None:
    with trio.move_on_after(0):
        await store.wakeups.wait("never", seen=0)
    assert await store.wakeups.wait("never", seen=-1) == 0


def wake_and_note(key: str) -> Callable[[Transaction], None]:
    def unit(transaction: Transaction) -> None:
        note(key)(transaction)
        transaction.wake("noted")

    return unit


async def hand_in_waking(store: Store, key: str) -> None:
    await store.write(wake_and_note(key), key="k")


async def store_note(store: Store, key: str) -> None:
    await store.write(note(key), key="k")
