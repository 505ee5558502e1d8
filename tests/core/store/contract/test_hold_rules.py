"""Hold rules: which entries are held when they are added, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from mailcrane.model.address import NULL_REVERSE_PATH
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.records import NewEntry, QueueFilter
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction


async def held_of(store: Store, make: Any, *paths: str) -> list[bool]:
    ids = await store.write(make.queued(*paths), key="queue")
    entries = await store.read(lambda tx: tx.queue.list(QueueFilter(ids=tuple(ids))))
    return [entry.is_held for entry in entries]


@pytest.mark.parametrize(
    ("fields", "is_held"),
    [
        ({}, [True, True]),
        ({"recipient_domain": "example.net"}, [True, False]),
        ({"account": "ann", "recipient_domain": "example.net"}, [True, False]),
        ({"account": "bob", "recipient_domain": "example.net"}, [False, False]),
        ({"sender_domain": "example.org"}, [True, True]),
        ({"sender_domain": "example.net"}, [False, False]),
        ({"account": "ann", "sender_domain": "example.org", "recipient_domain": "example.com"}, [False, True]),
    ],
)
async def test_an_entry_is_held_when_every_field_that_is_set_fits(
    store: Store, make: Any, fields: dict[str, str], is_held: list[bool]
) -> None:
    rule = await store.write(lambda tx: tx.hold_rules.add(**fields), key="queue")
    assert await held_of(store, make, "a@example.net", "b@example.com") == is_held
    entries = await store.read(lambda tx: tx.queue.list())
    assert [entry.hold_rule for entry in entries] == [rule.id if held else 0 for held in is_held]


async def test_a_rule_for_a_sender_domain_leaves_the_null_reverse_path_alone(store: Store, make: Any) -> None:
    await store.write(lambda tx: tx.hold_rules.add(sender_domain="example.org"), key="queue")

    def unit(transaction: Transaction) -> list[int]:
        content_id = make.content(transaction)
        path = make.entry(transaction, content_id).forward_path
        return transaction.queue.add([NewEntry("ann", NULL_REVERSE_PATH, path, content_id, 16, transaction.now)])

    (entry_id,) = await store.write(unit, key="queue")
    entry = await store.read(lambda tx: tx.queue.get(entry_id))
    assert entry is not None
    assert not entry.is_held


async def test_what_is_held_is_not_attempted_and_a_rule_that_is_removed_releases_nothing(
    store: Store, make: Any, held_clock: Any
) -> None:
    rule = await store.write(lambda tx: tx.hold_rules.add(recipient_domain="example.net"), key="queue")
    assert await held_of(store, make, "a@example.net") == [True]
    assert await store.write(lambda tx: tx.hold_rules.remove(rule.id), key="queue")
    assert not await store.write(lambda tx: tx.hold_rules.remove(rule.id), key="queue")
    assert await store.read(lambda tx: tx.queue.count(QueueFilter(is_held=True))) == 1
    assert await store.read(lambda tx: tx.queue.next_due_at()) is None
    assert await held_of(store, make, "b@example.net") == [False]


async def test_rules_are_listed_by_id_and_those_of_a_removed_account_are_gone(store: Store, make: Any) -> None:
    with pytest.raises(UnknownAccount):
        await store.write(lambda tx: tx.hold_rules.add(account="nobody"), key="queue")
    first = await store.write(lambda tx: tx.hold_rules.add(recipient_domain="example.net"), key="queue")
    second = await store.write(lambda tx: tx.hold_rules.add(account="ann"), key="queue")
    assert await store.read(lambda tx: tx.hold_rules.list()) == [first, second]
    assert str(second) == f"hold rule {second.id} (of account ann)"
    without = make.configuration.__class__(domains=make.configuration.domains)
    await store.write(lambda tx: tx.configuration.replace(without, expected_version=1), key="config")
    assert await store.read(lambda tx: tx.hold_rules.list()) == [first]


async def test_a_rule_that_is_added_in_a_unit_holds_what_the_unit_adds_after_it(store: Store, make: Any) -> None:
    def unit(transaction: Transaction) -> list[int]:
        before = make.queued("a@example.net")(transaction)
        transaction.hold_rules.add(recipient_domain="example.net")
        return [*before, *make.queued("b@example.net")(transaction)]

    ids = await store.write(unit, key="queue")
    entries = await store.read(lambda tx: tx.queue.list(QueueFilter(ids=tuple(ids))))
    assert [entry.is_held for entry in entries] == [False, True]


async def test_rules_cost_one_statement_for_a_unit_however_many_entries_it_adds(store: Store, make: Any) -> None:
    async def statements(count: int) -> int:
        seen: list[str] = []

        def unit(transaction: Transaction) -> list[int]:
            sql = transaction.hold_rules._sql
            rows = sql.rows

            def counting(statement: str, *parameters: Any) -> Any:
                seen.append(statement)
                return rows(statement, *parameters)

            sql.rows = counting  # type: ignore[method-assign, assignment]
            try:
                return make.queued(*(f"{number}@example.net" for number in range(count)))(transaction)  # type: ignore[no-any-return]
            finally:
                sql.rows = rows  # type: ignore[method-assign]

        await store.write(unit, key="queue")
        return len([statement for statement in seen if "hold_rules" in statement])

    await store.write(lambda tx: tx.hold_rules.add(recipient_domain="example.com"), key="queue")
    assert [await statements(1), await statements(50)] == [1, 1]
