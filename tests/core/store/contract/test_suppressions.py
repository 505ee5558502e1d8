"""Suppression lists and counts of failures, as every engine keeps them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from mailcrane.model.address import Mailbox
from mailcrane.model.suppression import SuppressionEvidence, SuppressionOrigin
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.records import NewSuppression, QueueFilter
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

from ..conftest import CONFIGURATION, HeldClock, Make


def add(transaction: Transaction, new: NewSuppression) -> None:
    transaction.suppressions.add(new)


NEW = NewSuppression(
    "ann",
    Mailbox("First.Last+tag", "xn--exmple-cua.net"),
    "queue: the next hop answered 550 5.1.1",
    SuppressionOrigin.QUEUE,
    evidence=SuppressionEvidence(4711, 550, "5.1.1", "no such user", "mx (192.0.2.1)"),
)
BASE = "firstlast@exämple.net"


async def test_an_address_is_kept_with_why_it_is_on_the_list(store: Store, held_clock: HeldClock) -> None:
    added = await store.write(lambda tx: tx.suppressions.add(NEW), key="account:ann")
    assert added is not None
    assert (added.base_address, added.original_address) == (BASE, "First.Last+tag@exämple.net")
    assert (added.reason, added.origin, added.evidence, added.is_manual) == (
        NEW.reason,
        NEW.origin,
        NEW.evidence,
        False,
    )
    assert added.created_at == held_clock.now()
    assert await store.read(lambda tx: tx.suppressions.get("ann", BASE)) == added
    assert await store.read(lambda tx: tx.suppressions.list("ann")) == [added]


async def test_a_base_address_is_on_a_list_once_and_on_each_list_by_itself(store: Store) -> None:
    same = replace(NEW, address=Mailbox("firstlast", "xn--exmple-cua.net"), reason="again")
    first = await store.write(lambda tx: tx.suppressions.add(NEW), key="account:ann")
    assert await store.write(lambda tx: tx.suppressions.add(same), key="account:ann") is None
    assert await store.write(lambda tx: tx.suppressions.add(replace(same, account="bob")), key="account:bob")
    assert await store.read(lambda tx: tx.suppressions.get("ann", BASE)) == first
    assert await store.read(lambda tx: (tx.suppressions.count("ann"), tx.suppressions.count("bob"))) == (1, 1)


async def test_an_account_that_does_not_exist_has_no_list(store: Store) -> None:
    with pytest.raises(UnknownAccount):
        await store.write(lambda tx: tx.suppressions.add(replace(NEW, account="nobody")), key="account:nobody")
    assert await store.read(lambda tx: tx.suppressions.list("nobody")) == []


async def test_what_is_taken_off_is_gone(store: Store) -> None:
    added = await store.write(lambda tx: tx.suppressions.add(NEW), key="account:ann")
    assert await store.write(lambda tx: tx.suppressions.remove("bob", BASE), key="account:bob") is None
    assert await store.write(lambda tx: tx.suppressions.remove("ann", BASE), key="account:ann") == added
    assert await store.write(lambda tx: tx.suppressions.remove("ann", BASE), key="account:ann") is None
    assert await store.read(lambda tx: tx.suppressions.list("ann")) == []


async def test_lists_come_in_pages_the_oldest_first(store: Store) -> None:
    for number in range(5):
        new = replace(NEW, account=("ann", "bob")[number == 3], address=Mailbox(f"user{number}", "example.net"))
        await store.write(functools.partial(add, new=new), key="account:ann")

    async def page(account: str | None, after_id: int) -> list[str]:
        listed = await store.read(lambda tx: tx.suppressions.list(account, after_id=after_id, limit=2))
        return [one.original_address.partition("@")[0] for one in listed]

    assert [await page("ann", 0), await page("ann", 2), await page("ann", 5)] == [
        ["user0", "user1"],
        ["user2", "user4"],
        [],
    ]
    assert await page(None, 2) == ["user2", "user3"]


async def test_the_time_of_an_imported_address_is_kept(store: Store) -> None:
    at = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    added = await store.write(lambda tx: tx.suppressions.add(replace(NEW, created_at=at)), key="account:ann")
    assert added is not None
    assert added.created_at == at


async def test_leased_entries_are_marked_by_the_list_of_their_account(store: Store, make: Make) -> None:
    await store.write(make.queued("cee@example.net", "C.E.E+1@example.net", "dee@example.net"), key="queue")
    new = replace(NEW, address=Mailbox("cee", "example.net"))
    other = replace(NEW, account="bob", address=Mailbox("dee", "example.net"))
    await store.write(lambda tx: (tx.suppressions.add(new), tx.suppressions.add(other)), key="account:ann")
    marked = await store.write(
        lambda tx: tx.suppressions.marked(
            tx.queue.begin_attempts(
                make.worker, tx.now + timedelta(minutes=5), 10, next_due_at=make.in_an_hour
            ).deliveries
        ),
        key="queue",
    )
    found = {str(one.entry.forward_path): one.suppression and one.suppression.base_address for (one,) in marked}
    assert found == {
        "cee@example.net": "cee@example.net",
        "C.E.E+1@example.net": "cee@example.net",
        "dee@example.net": None,
    }


async def test_failures_are_counted_until_one_delivery_succeeds(store: Store) -> None:
    you, other = Mailbox("you", "example.net"), Mailbox("You", "example.net")

    async def fail(address: Mailbox) -> int:
        return await store.write(lambda tx: tx.suppressions.count_failure(address), key="queue")

    assert [await fail(you), await fail(you), await fail(other)] == [1, 2, 1]
    await store.write(lambda tx: tx.suppressions.forget_failures(you), key="queue")
    assert [await fail(you), await fail(other)] == [1, 2]


async def test_old_counts_are_purged(store: Store, held_clock: HeldClock) -> None:
    old, young = Mailbox("old", "example.net"), Mailbox("young", "example.net")
    await store.write(lambda tx: tx.suppressions.count_failure(old), key="queue")
    held_clock.move(days=2)
    await store.write(lambda tx: tx.suppressions.count_failure(young), key="queue")

    async def purge() -> int:
        return await store.write(lambda tx: tx.suppressions.purge_failures(tx.now - timedelta(days=1)), key="queue")

    assert [await purge(), await purge()] == [1, 0]
    counts = await store.write(
        lambda tx: (tx.suppressions.count_failure(old), tx.suppressions.count_failure(young)), key="queue"
    )
    assert counts == (1, 2)


async def test_a_removed_account_leaves_no_list(store: Store) -> None:
    await store.write(lambda tx: tx.suppressions.add(NEW), key="account:ann")
    without = replace(CONFIGURATION, accounts=CONFIGURATION.accounts[1:], addresses=())
    await store.write(lambda tx: tx.configuration.replace(without, expected_version=1), key="config")
    assert await store.read(lambda tx: tx.suppressions.list(None)) == []
    while await store.write(lambda tx: tx.configuration.purge_removed(), key="config"):
        pass
    await store.write(lambda tx: tx.configuration.replace(CONFIGURATION, expected_version=2), key="config")
    assert await store.read(lambda tx: tx.suppressions.get("ann", BASE)) is None
    assert await store.read(lambda tx: tx.queue.list(QueueFilter())) == []
