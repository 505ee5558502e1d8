"""Entries that left the queue are found by every condition, a page at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_retired import ListRetired, RetiredEntry, list_retired
from mailcrane.config.rows import Account, Domain
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Attempt, Outcome, RecipientResult
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retired
from mailcrane.store.records import ContentDraft, NewEntry
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

FAILED = RecipientResult(Outcome.FAILED, Reply.make(550, "5.1.1", "no such user"), "550 5.1.1 no such user")


@pytest.fixture
async def ids(administration: Administration, store: Store) -> list[int]:
    """Three entries that ended: ann's was delivered an hour ago, one of bob's failed, and one was canceled."""
    accounts = (Account("ann", "example.org"), Account("bob", "example.org"))
    await administration.change("test", lambda old: replace(old, domains=(Domain("example.org"),), accounts=accounts))

    def unit(transaction: Transaction) -> list[int]:
        done = []
        for account, path, event, hours_ago in (
            ("ann", "a_b@example.net", "delivered", 1),
            ("bob", "c@example.net", "failed", 0),
            ("bob", "d@bücher.example", "canceled", 0),
        ):
            content = transaction.content.add(b"Subject: x\r\n\r\n", ContentDraft(14))
            sender = ReversePath(Mailbox.parse(f"{account}@example.org"))
            entry = NewEntry(account, sender, Mailbox.parse(path), content.id, 14, transaction.now)
            (entry_id,) = transaction.queue.add([entry])
            queued = transaction.queue.get(entry_id)
            assert queued is not None
            now = transaction.now
            attempts = (Attempt(1, now, "out", timedelta(seconds=1), FAILED),) if event == "failed" else ()
            retired_at = now - timedelta(hours=hours_ago)
            transaction.retired.add(
                Retired(queued, event, event == "delivered", retired_at, now + timedelta(days=1), attempts)
            )
            transaction.queue.remove(entry_id)
            done.append(entry_id)
        return done

    return await store.write(unit, key="queue")


async def found(administration: Administration, **conditions: Any) -> list[int]:
    return [entry.id for entry in (await list_retired(administration, ListRetired(**conditions))).entries]


async def test_every_condition_counts_and_the_latest_is_first(administration: Administration, ids: list[int]) -> None:
    first, second, third = ids
    assert await found(administration) == [third, second, first]
    assert await found(administration, ids=(first, 999)) == [first]
    assert await found(administration, account="bob") == [third, second]
    assert await found(administration, reverse_path="ANN@") == [first]
    assert await found(administration, forward_path="example.net") == [second, first]
    assert await found(administration, forward_path="a_b@", reverse_path="bob@") == [third, second, first]
    assert await found(administration, forward_path="axb@") == []
    assert await found(administration, result="success") == [first]
    assert await found(administration, result="failure") == [third, second]
    assert await found(administration, event="canceled") == [third]
    assert await found(administration, last_activity=">-30m") == [third, second]
    assert await found(administration, last_activity="<-30m") == [first]
    with pytest.raises(AdminError, match="not a condition on a time"):
        await found(administration, last_activity="yesterday")


async def test_pages_go_on_below_the_last_id(administration: Administration, ids: list[int]) -> None:
    page = await list_retired(administration, ListRetired(limit=2))
    assert [entry.id for entry in page.entries] == [ids[2], ids[1]]
    rest = await list_retired(administration, ListRetired(limit=2, before_id=page.next_before_id))
    assert ([entry.id for entry in rest.entries], rest.next_before_id) == ([ids[0]], 0)


async def test_an_entry_is_told_with_what_its_last_attempt_ended_with(
    administration: Administration, ids: list[int]
) -> None:
    entries: dict[int, RetiredEntry] = {
        entry.id: entry for entry in (await list_retired(administration, ListRetired())).entries
    }
    failed = entries[ids[1]]
    assert (failed.event, failed.is_success, failed.last) == ("failed", False, "550 5.1.1 no such user")
    assert (failed.account, failed.reverse_path) == ("bob", "bob@example.org")
    assert (entries[ids[2]].last, entries[ids[2]].forward_path) == ("", "d@bücher.example")
