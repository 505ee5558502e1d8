"""Sending limits: what is counted, for how long, and what is not looked at for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailcrane.model.address import Mailbox
from mailcrane.store.errors import SendingLimitReached, UnknownAccount
from mailcrane.store.repository.outgoing import KNOWN_DAYS, STEP
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction


async def send(store: Store, *paths: str, account: str = "ann", messages: int = 1000, new: int = 200) -> None:
    recipients = [Mailbox.parse(path) for path in paths]
    await store.write(
        lambda tx: tx.outgoing.count(account, recipients, max_messages=messages, max_first_time_recipients=new),
        key="queue",
    )


async def sent(store: Store, account: str = "ann") -> tuple[int, int]:
    return await store.read(lambda tx: tx.outgoing.sent(account))


async def test_every_recipient_counts_and_only_the_first_time_as_new(store: Store) -> None:
    await send(store, "a@example.net", "b@example.net")
    await send(store, "a@example.net")
    assert (await sent(store), await sent(store, "bob")) == ((3, 2), (0, 0))


async def test_messages_up_to_the_limit_are_counted_and_one_more_is_refused(store: Store) -> None:
    await send(store, "a@example.net", "b@example.net", messages=3)
    with pytest.raises(SendingLimitReached) as caught:
        await send(store, "a@example.net", "b@example.net", messages=3)
    assert (caught.value.account, caught.value.what, caught.value.limit) == ("ann", "messages", 3)
    assert await sent(store) == (2, 2)
    await send(store, "a@example.net", messages=3)
    await send(store, "a@example.net", account="bob", messages=3)


async def test_recipients_that_are_known_do_not_count_as_new(store: Store) -> None:
    await send(store, "a@example.net", "b@example.net", new=2)
    await send(store, "a@example.net", "b@example.net", new=2)
    with pytest.raises(SendingLimitReached, match="first-time recipients"):
        await send(store, "a@example.net", "c@example.net", new=2)
    await send(store, "b@example.net", new=2)
    # What was refused left nothing behind: the recipient is as new as before.
    assert await sent(store) == (5, 2)


async def test_a_day_later_there_is_room_again_and_recipients_stay_known(store: Store, held_clock: Any) -> None:
    await send(store, "a@example.net", "b@example.net", messages=2, new=2)
    held_clock.move(hours=23, minutes=59)
    with pytest.raises(SendingLimitReached):
        await send(store, "a@example.net", messages=2, new=2)
    held_clock.move(minutes=1, seconds=STEP.total_seconds())
    assert await sent(store) == (0, 0)
    await send(store, "a@example.net", "c@example.net", messages=2, new=1)
    assert await sent(store) == (2, 1)


async def test_without_limits_nothing_is_recorded(store: Store) -> None:
    await send(store, "a@example.net", messages=0, new=0)
    assert await sent(store) == (0, 0)
    await send(store, "a@example.net", messages=5, new=0)
    assert await sent(store) == (1, 0)


async def test_an_account_that_is_not_there_sends_nothing(store: Store) -> None:
    with pytest.raises(UnknownAccount):
        await send(store, "a@example.net", account="nobody")


async def test_what_no_window_sees_is_swept_and_recipients_are_forgotten_after_a_long_time(
    store: Store, held_clock: Any
) -> None:
    async def purge() -> int:
        return await store.write(lambda tx: tx.outgoing.purge(limit=10), key="housekeeping")

    await send(store, "old@example.net", "kept@example.net")
    assert await purge() == 0
    held_clock.at += timedelta(days=KNOWN_DAYS - 1)
    await send(store, "kept@example.net", new=1)
    assert await purge() == 1
    held_clock.at += timedelta(days=2)
    assert await purge() == 2
    with pytest.raises(SendingLimitReached):
        await send(store, "old@example.net", "kept@example.net", "new@example.net", new=1)
    await send(store, "old@example.net", "kept@example.net", new=1)


async def test_counting_costs_the_same_however_much_was_sent(store: Store, held_clock: Any) -> None:
    async def statements() -> int:
        seen = 0

        def unit(transaction: Transaction) -> None:
            sql = transaction.outgoing._sql
            row = sql.row

            def counting(*arguments: Any) -> Any:
                nonlocal seen
                seen += 1
                return row(*arguments)

            sql.row = counting  # type: ignore[method-assign, assignment]
            try:
                transaction.outgoing.count(
                    "ann", [Mailbox.parse("a@example.net")], max_messages=9999, max_first_time_recipients=9999
                )
            finally:
                sql.row = row  # type: ignore[method-assign]

        await store.write(unit, key="queue")
        return seen

    before = await statements()
    for _ in range(30):
        held_clock.move(minutes=10)
        await send(store, *(f"{number}@example.net" for number in range(10)), messages=9999, new=9999)
    assert await statements() == before == 3
