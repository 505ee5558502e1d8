"""Keys of calls: one claim at a time, results that stay for a day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from mailcrane.model.idempotency import Claim, ClaimLost, KeyReused, Remembered
from mailcrane.store.housekeeping import sweep
from mailcrane.store.records import Worker
from mailcrane.store.repository.idempotency import UnderWay
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

from ..conftest import HeldClock, OpenStore

WORKER = Worker("machine", "boot 1")
FIVE_MINUTES = timedelta(minutes=5)


def claiming(
    token: str, *, account: str = "ann", key: str = "k", fingerprint: bytes = b"f", worker: Worker = WORKER
) -> Callable[[Transaction], Claim | Remembered | UnderWay]:
    return lambda tx: tx.idempotency.claim(account, key, fingerprint, token=token, lease=FIVE_MINUTES, worker=worker)


async def claim(store: Store, token: str, **of: object) -> Claim | Remembered | UnderWay:
    return await store.write(claiming(token, **of), key="account:ann")  # type: ignore[arg-type]


async def complete(store: Store, claimed: object, result: bytes = b"r") -> None:
    assert isinstance(claimed, Claim)
    await store.write(lambda tx: tx.idempotency.complete(claimed, result), key="account:ann")


async def test_a_key_is_claimed_once_and_then_under_way(store: Store, held_clock: HeldClock) -> None:
    assert await claim(store, "1") == Claim("ann", "k", "1")
    assert await claim(store, "2") == UnderWay(held_clock.at + FIVE_MINUTES)
    assert await claim(store, "3", account="bob") == Claim("bob", "k", "3")
    assert await claim(store, "4", key="K") == Claim("ann", "K", "4")


async def test_a_result_is_remembered_for_a_day(store: Store, held_clock: HeldClock) -> None:
    await complete(store, await claim(store, "1"), b"result")
    held_clock.move(hours=23, minutes=59)
    assert await claim(store, "2") == Remembered(b"result")
    held_clock.move(minutes=1)
    assert await claim(store, "3") == Claim("ann", "k", "3")


async def test_another_fingerprint_is_refused_while_the_call_is_under_way_and_afterwards(store: Store) -> None:
    claimed = await claim(store, "1")
    with pytest.raises(KeyReused):
        await claim(store, "2", fingerprint=b"other")
    await complete(store, claimed)
    with pytest.raises(KeyReused):
        await claim(store, "3", fingerprint=b"other")


async def test_a_claim_whose_lease_is_over_can_be_taken_and_the_first_cannot_end_it(
    store: Store, held_clock: HeldClock
) -> None:
    first = await claim(store, "1")
    held_clock.move(minutes=5)
    second = await claim(store, "2")
    assert second == Claim("ann", "k", "2", is_again=True)
    with pytest.raises(ClaimLost):
        await complete(store, first)
    await complete(store, second)
    with pytest.raises(ClaimLost):
        await complete(store, second)


async def test_a_claim_that_came_to_nothing_does_not_bind_another_request(store: Store, held_clock: HeldClock) -> None:
    await claim(store, "1")
    held_clock.move(minutes=5)
    assert await claim(store, "2", fingerprint=b"other") == Claim("ann", "k", "2", is_again=False)


async def test_a_unit_that_lost_its_claim_stores_nothing(store: Store, held_clock: HeldClock) -> None:
    first = await claim(store, "1")
    held_clock.move(minutes=5)
    await claim(store, "2")
    assert isinstance(first, Claim)

    def work(transaction: Transaction) -> None:
        transaction.plugin_data.set("plugin", "key", b"value")
        transaction.idempotency.complete(first, b"")

    with pytest.raises(ClaimLost):
        await store.write(work, key="account:ann")
    assert await store.read(lambda tx: tx.plugin_data.get("plugin", "key")) is None


async def test_a_released_claim_is_forgotten_but_a_result_stays(store: Store) -> None:
    first = await claim(store, "1")
    assert isinstance(first, Claim)
    assert await store.write(lambda tx: tx.idempotency.release(first), key="account:ann")
    second = await claim(store, "2")
    assert second == Claim("ann", "k", "2")
    await complete(store, second)
    assert isinstance(second, Claim)
    assert not await store.write(lambda tx: tx.idempotency.release(second), key="account:ann")
    assert await claim(store, "3") == Remembered(b"r")


async def test_results_survive_a_restart_and_claims_of_dead_boots_are_freed(open_store: OpenStore) -> None:
    async with open_store() as store:
        await complete(store, await claim(store, "1", key="done"))
        await claim(store, "2", key="begun")
        await claim(store, "3", key="elsewhere", worker=Worker("other", "boot 1"))
    async with open_store() as store:
        assert await store.write(lambda tx: tx.idempotency.free(Worker("machine", "boot 2")), key="idempotency") == 1
        assert await claim(store, "4", key="done") == Remembered(b"r")
        assert await claim(store, "5", key="begun") == Claim("ann", "begun", "5", is_again=True)
        assert isinstance(await claim(store, "6", key="elsewhere"), UnderWay)


async def test_the_end_of_a_call_wakes_those_that_wait(store: Store) -> None:
    first, second = await claim(store, "1"), await claim(store, "2", key="other")
    seen = store.wakeups.version("idempotency")
    await complete(store, first)
    assert isinstance(second, Claim)
    await store.write(lambda tx: tx.idempotency.release(second), key="account:ann")
    assert store.wakeups.version("idempotency") == seen + 2


async def test_what_is_a_day_old_is_swept(store: Store, held_clock: HeldClock) -> None:
    await complete(store, await claim(store, "1"))
    await claim(store, "2", key="begun")
    held_clock.move(hours=12)
    await complete(store, await claim(store, "3", key="later"))
    held_clock.move(hours=12)
    assert await sweep(store) == 2
    assert await claim(store, "4", key="later") == Remembered(b"r")


async def test_of_too_many_keys_the_oldest_results_are_forgotten(store: Store, held_clock: HeldClock) -> None:
    await claim(store, "begun", key="begun")
    for number in range(5):
        await complete(store, await claim(store, str(number), key=str(number)))
        held_clock.move(seconds=1)
    assert await store.write(lambda tx: tx.idempotency.trim(keep=3, limit=2), key="housekeeping") == 2
    assert await store.write(lambda tx: tx.idempotency.trim(keep=3, limit=2), key="housekeeping") == 1
    assert await store.write(lambda tx: tx.idempotency.trim(keep=3, limit=2), key="housekeeping") == 0
    assert isinstance(await claim(store, "x", key="begun"), UnderWay)
    assert await claim(store, "y", key="3") == Remembered(b"r")
    assert isinstance(await claim(store, "z", key="2"), Claim)
