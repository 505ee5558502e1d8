"""Queue entries: what is picked, who holds it, what an old token can do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailcrane.model.address import NULL_REVERSE_PATH
from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retired
from mailcrane.store.errors import FromIdTaken, UnknownAccount, UnknownContent
from mailcrane.store.records import Begun, Leased, NewEntry, QueueFilter, QueueSort, RetiredFilter, Worker
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

DEFERRED = RecipientResult(Outcome.DEFERRED, Reply(451, "4.3.0", ("later",)), "451 4.3.0 later")
DELIVERED = RecipientResult(Outcome.DELIVERED, Reply(250, "2.0.0", ("ok",)))
LEASE = timedelta(minutes=5)


async def begin(store: Store, make: Any, limit: int = 100, **options: Any) -> list[Leased]:
    return list((await begin_deliveries(store, make, limit, **options)).leased)


async def begin_deliveries(store: Store, make: Any, limit: int = 100, **options: Any) -> Begun:
    return await store.write(
        lambda tx: tx.queue.begin_attempts(
            options.get("worker", make.worker),
            tx.now + LEASE,
            limit,
            next_due_at=make.in_an_hour,
            **{name: value for name, value in options.items() if name != "worker"},
        ),
        key="queue",
    )


async def test_an_entry_comes_back_as_it_was_added(store: Store, make: Any, held_clock: Any) -> None:
    def unit(transaction: Transaction) -> list[int]:
        content_id = make.content(transaction)
        entry = make.entry(transaction, content_id, "d%_e@example.net")
        return transaction.queue.add(
            [
                NewEntry(
                    "ann",
                    NULL_REVERSE_PATH,
                    entry.forward_path,
                    content_id,
                    16,
                    transaction.now + timedelta(hours=1),
                    message_id="<a@b>",
                    subject="Grüße",
                    from_id="unique",
                    is_held=True,
                    max_attempts=3,
                    has_8bit=True,
                    needs_smtputf8=True,
                    transport="relay",
                    require_tls=False,
                    future_release="for;3600",
                    extra={"a": "b"},
                )
            ]
        )

    (entry_id,) = await store.write(unit, key="queue")
    entry = await store.read(lambda tx: tx.queue.get(entry_id))
    assert entry is not None
    assert entry.reverse_path.is_null
    assert str(entry.forward_path) == "d%_e@example.net"
    assert (entry.queued_at, entry.due_at) == (held_clock.at, held_clock.at + timedelta(hours=1))
    assert (entry.base_id, entry.account, entry.subject, entry.from_id) == (0, "ann", "Grüße", "unique")
    assert (entry.is_held, entry.max_attempts, entry.has_8bit, entry.needs_smtputf8) == (True, 3, True, True)
    assert (entry.transport, entry.require_tls, entry.future_release) == ("relay", False, "for;3600")
    assert (entry.extra, entry.attempts, entry.last_attempt_at) == ({"a": "b"}, 0, None)


async def test_entries_of_one_message_share_the_id_of_the_first(store: Store, make: Any) -> None:
    ids = await store.write(make.queued("a@example.net", "b@example.com"), key="queue")
    entries = await store.read(lambda tx: tx.queue.list())
    assert [entry.base_id for entry in entries] == [ids[0], ids[0]]
    assert store.wakeups.version("queue") == 1


async def test_ids_are_not_used_again(store: Store, make: Any) -> None:
    (first,) = await store.write(make.queued(), key="queue")
    assert await store.write(lambda tx: tx.queue.remove(first), key="queue")
    (second,) = await store.write(make.queued(), key="queue")
    assert second > first


async def test_an_attempt_is_counted_when_it_begins(store: Store, make: Any, held_clock: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (leased,) = await begin(store, make)
    assert leased.entry == await store.read(lambda tx: tx.queue.get(entry_id))
    assert (leased.entry.attempts, leased.entry.last_attempt_at) == (1, held_clock.at)
    assert leased.entry.due_at == held_clock.at + timedelta(hours=1)
    assert await store.read(lambda tx: tx.queue.attempts(entry_id)) == (leased.attempt,)
    assert await begin(store, make) == []


async def test_a_deferred_attempt_makes_the_entry_due_later(store: Store, make: Any, held_clock: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (leased,) = await begin(store, make)
    held_clock.move(seconds=2)
    assert await store.write(
        lambda tx: tx.queue.settle(entry_id, leased.token, DEFERRED, transport="relay"), key="queue"
    )
    due_at = held_clock.at + timedelta(minutes=10)
    assert await store.write(lambda tx: tx.queue.reschedule(entry_id, leased.token, due_at), key="queue")
    (attempt,) = await store.read(lambda tx: tx.queue.attempts(entry_id))
    assert (attempt.transport, attempt.result, attempt.duration) == ("relay", DEFERRED, timedelta(seconds=2))
    assert await store.read(lambda tx: tx.queue.next_due_at()) == due_at
    assert await begin(store, make) == []
    held_clock.at = due_at
    (leased,) = await begin(store, make)
    assert leased.entry.attempts == 2


async def test_a_final_entry_leaves_the_queue_with_its_content_and_stays_retired(
    store: Store, make: Any, held_clock: Any
) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (leased,) = await begin(store, make)
    await store.write(lambda tx: tx.queue.settle(entry_id, leased.token, DELIVERED), key="queue")

    def retire(transaction: Transaction) -> bool:
        attempts = transaction.queue.attempts(entry_id)
        keep_until = transaction.now + timedelta(days=1)
        transaction.plugin_data.set("p", "k", b"v", entry_id)
        transaction.retired.add(Retired(leased.entry, "delivered", True, transaction.now, keep_until, attempts))
        return transaction.queue.remove(entry_id, leased.token)

    assert await store.write(retire, key="queue")
    assert await store.read(lambda tx: tx.queue.get(entry_id)) is None
    assert await store.read(lambda tx: tx.content.get(leased.entry.content_id)) is None
    assert await store.read(lambda tx: tx.content.read_chunk(leased.entry.content_id, 0)) is None
    retired = await store.read(lambda tx: tx.retired.get(entry_id))
    assert retired is not None
    assert retired.entry == leased.entry
    assert retired.attempts[0].result == DELIVERED
    assert await store.read(lambda tx: tx.retired.list(RetiredFilter(account="ann", event="delivered"))) == [retired]
    assert await store.read(lambda tx: tx.plugin_data.get("p", "k", entry_id)) == b"v"
    held_clock.move(days=2)
    assert await store.write(lambda tx: tx.retired.purge(tx.now), key="queue") == 1
    assert await store.read(lambda tx: tx.plugin_data.get("p", "k", entry_id)) is None


async def test_content_stays_until_its_last_entry_is_gone(store: Store, make: Any) -> None:
    first, second = await store.write(make.queued("a@example.net", "b@example.net"), key="queue")
    await store.write(lambda tx: tx.queue.remove(first), key="queue")
    entry = await store.read(lambda tx: tx.queue.get(second))
    assert entry is not None
    assert await store.read(lambda tx: tx.content.get(entry.content_id)) is not None


async def test_plugin_data_of_an_entry_that_is_not_kept_goes_with_it(store: Store, make: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    assert await store.write(lambda tx: tx.plugin_data.set("p", "k", b"v", entry_id), key="queue")
    await store.write(lambda tx: tx.queue.remove(entry_id), key="queue")
    assert await store.read(lambda tx: tx.plugin_data.get("p", "k", entry_id)) is None
    assert not await store.write(lambda tx: tx.plugin_data.set("p", "k", b"v", entry_id), key="queue")


async def test_an_old_token_changes_nothing(store: Store, make: Any, held_clock: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (old,) = await begin(store, make)
    held_clock.move(hours=2)
    (new,) = await begin(store, make, worker=Worker("other", "boot 9"))
    before = await store.read(lambda tx: (tx.queue.get(entry_id), tx.queue.attempts(entry_id)))

    def use(transaction: Transaction) -> list[bool]:
        queue = transaction.queue
        return [
            queue.settle(entry_id, old.token, DELIVERED),
            queue.revise(entry_id, old.token, DELIVERED),
            queue.reschedule(entry_id, old.token, transaction.now),
            queue.abandon(entry_id, old.token),
            queue.remove(entry_id, old.token),
            queue.holds(entry_id, old.token),
            bool(queue.renew([(entry_id, old.token)], transaction.now + LEASE)),
        ]

    assert await store.write(use, key="queue") == [False] * 7
    assert await store.read(lambda tx: (tx.queue.get(entry_id), tx.queue.attempts(entry_id))) == before
    assert await store.write(lambda tx: tx.queue.settle(entry_id, new.token, DELIVERED), key="queue")


async def test_a_lease_that_is_renewed_is_not_taken(store: Store, make: Any, held_clock: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (leased,) = await begin(store, make)
    for _ in range(5):
        held_clock.move(minutes=14)
        assert await begin(store, make) == []
        renewed = await store.write(
            lambda tx: tx.queue.renew([(entry_id, leased.token), (99, 1)], tx.now + timedelta(minutes=15)), key="queue"
        )
        assert renewed == {entry_id}
    held_clock.move(minutes=16)
    (again,) = await begin(store, make)
    assert again.entry.attempts == 2
    assert [attempt.result for attempt in await store.read(lambda tx: tx.queue.attempts(entry_id))] == [None, None]


async def test_the_leases_of_a_dead_boot_are_freed_at_start(store: Store, make: Any, held_clock: Any) -> None:
    ids = await store.write(make.queued("a@example.net", "b@example.net", "c@example.net"), key="queue")
    leased = {found.entry.id: found for found in await begin(store, make)}
    await store.write(lambda tx: tx.queue.settle(ids[0], leased[ids[0]].token, DELIVERED), key="queue")
    other = Worker("elsewhere", "boot 7")
    assert await store.write(lambda tx: tx.queue.release_boots(other), key="queue") == 0
    now = Worker(make.worker.machine, "boot 2")
    assert await store.write(lambda tx: tx.queue.release_boots(now), key="queue") == 3
    (settled,) = await store.write(lambda tx: tx.queue.settling(now, tx.now + LEASE, 10), key="queue")
    assert (settled.entry.id, settled.attempt.result) == (ids[0], DELIVERED)
    assert await store.write(lambda tx: tx.queue.settling(now, tx.now + LEASE, 10), key="queue") == []
    assert not await store.write(lambda tx: tx.queue.settle(ids[1], leased[ids[1]].token, DELIVERED), key="queue")
    assert await begin(store, make, worker=now) == []
    held_clock.move(hours=1)
    assert {found.entry.id for found in await begin(store, make, worker=now)} == set(ids[1:])


async def test_an_attempt_that_did_not_reach_its_transport_is_taken_back(store: Store, make: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (leased,) = await begin(store, make)
    assert await store.write(lambda tx: tx.queue.abandon(entry_id, leased.token), key="queue")
    assert await store.read(lambda tx: tx.queue.attempts(entry_id)) == ()
    (again,) = await begin(store, make)
    assert again.entry.attempts == 1


async def test_what_is_taken_back_is_due_as_it_was(store: Store, make: Any, held_clock: Any) -> None:
    due_at = held_clock.at
    (entry_id,) = await store.write(make.queued(), key="queue")
    held_clock.move(seconds=5)
    (leased,) = await begin(store, make)
    assert leased.begun_due_at == due_at
    await store.write(lambda tx: tx.queue.abandon(entry_id, leased.token, due_at=leased.begun_due_at), key="queue")
    entry = await store.read(lambda tx: tx.queue.get(entry_id))
    assert entry is not None
    assert (entry.attempts, entry.last_attempt_at, entry.due_at) == (0, None, due_at)


async def test_the_domain_that_is_due_the_longest_comes_first(store: Store, make: Any, held_clock: Any) -> None:
    await store.write(make.queued("u@second.example"), key="queue")
    await store.write(
        lambda tx: tx.queue.add(
            [make.entry(tx, make.content(tx), "u@first.example", due_at=tx.now - timedelta(seconds=1))]
        ),
        key="queue",
    )
    leased = await begin(store, make)
    assert [found.entry.forward_path.domain for found in leased] == ["first.example", "second.example"]


async def test_domains_are_served_in_turn(store: Store, make: Any, held_clock: Any) -> None:
    for number in range(3):
        await store.write(make.queued(f"u{number}@busy.example"), key="queue")
    held_clock.move(seconds=1)
    await store.write(make.queued("u@calm.example"), key="queue")
    held_clock.move(seconds=1)
    served = []
    for _ in range(4):
        (leased,) = await begin(store, make, limit=1)
        served.append(leased.entry.forward_path.domain)
        held_clock.move(seconds=1)
    assert served == ["busy.example", "calm.example", "busy.example", "busy.example"]


async def test_a_domain_gets_no_more_than_there_is_room_for_and_waits_to_be_looked_at_again(
    store: Store, make: Any, held_clock: Any
) -> None:
    for number in range(4):
        await store.write(make.queued(f"u{number}@busy.example"), key="queue")
    await store.write(make.queued("u@calm.example"), key="queue")
    begun = await begin_deliveries(store, make, room_for=lambda domain, begun: 2)
    assert [found.entry.forward_path.domain for found in begun.leased] == ["busy.example"] * 2 + ["calm.example"]
    assert begun.waiting == {"busy.example"}
    assert await begin(store, make) == []
    assert len(await begin(store, make, look_again={"busy.example"}, room_for=lambda domain, begun: 1)) == 1
    full = await begin_deliveries(store, make, look_again={"busy.example"}, room_for=lambda domain, begun: 0)
    assert full.deliveries == ()
    assert full.waiting == {"busy.example"}
    # Should whoever had no room be gone: soon enough it is found without being named.
    held_clock.move(seconds=61)
    assert len(await begin(store, make)) == 1


async def test_a_start_looks_at_every_domain(store: Store, make: Any) -> None:
    await store.write(make.queued(), key="queue")
    assert await begin(store, make, room_for=lambda domain, begun: 0) == []
    assert await begin(store, make) == []
    await store.write(lambda tx: tx.queue.release_boots(Worker(make.worker.machine, "boot 2")), key="queue")
    assert len(await begin(store, make)) == 1


async def test_a_domain_is_left_alone_until_its_time_is_over(store: Store, make: Any, held_clock: Any) -> None:
    await store.write(make.queued(), key="queue")
    until = held_clock.at + timedelta(seconds=10)
    assert await begin(store, make, left_alone_until=lambda domain: until) == []
    assert await store.read(lambda tx: tx.queue.next_due_at()) == until
    assert await begin(store, make) == []
    held_clock.move(seconds=10)
    assert len(await begin(store, make)) == 1


async def test_entries_that_share_a_delivery_are_leased_together_and_count_as_one(store: Store, make: Any) -> None:
    paths = [f"u{number}@many.example" for number in range(300)]
    first = await store.write(make.queued(*paths), key="queue")
    second = await store.write(make.queued(*paths[:50]), key="queue")
    begun = await begin_deliveries(
        store, make, shares_delivery=lambda entry: entry.base_id, room_for=lambda domain, begun: 1
    )
    assert [[one.entry.id for one in members] for members in begun.deliveries] == [first]
    assert begun.waiting == {"many.example"}
    begun = await begin_deliveries(
        store, make, shares_delivery=lambda entry: entry.base_id, look_again={"many.example"}
    )
    assert [[one.entry.id for one in members] for members in begun.deliveries] == [second]


async def test_more_entries_than_fit_a_delivery_make_several(store: Store, make: Any) -> None:
    await store.write(make.queued(*(f"u{number}@many.example" for number in range(1005))), key="queue")
    begun = await begin_deliveries(store, make, shares_delivery=lambda entry: entry.base_id)
    assert [len(members) for members in begun.deliveries] == [1000]
    begun = await begin_deliveries(store, make, shares_delivery=lambda entry: entry.base_id, look_again=begun.waiting)
    assert [len(members) for members in begun.deliveries] == [5]


async def test_held_entries_wait_until_they_are_released(store: Store, make: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    await store.write(lambda tx: tx.queue.update(entry_id, is_held=True), key="queue")
    assert await begin(store, make) == []
    entry = await store.write(
        lambda tx: tx.queue.update(entry_id, is_held=False, transport="relay", require_tls=True), key="queue"
    )
    assert entry is not None
    assert (entry.transport, entry.require_tls) == ("relay", True)
    assert [found.entry.id for found in await begin(store, make)] == [entry_id]
    assert await store.write(lambda tx: tx.queue.update(99, is_held=True), key="queue") is None


async def test_an_entry_held_during_an_attempt_waits_after_it(store: Store, make: Any, held_clock: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (leased,) = await begin(store, make)
    await store.write(lambda tx: tx.queue.update(entry_id, is_held=True), key="queue")
    assert await store.write(lambda tx: tx.queue.reschedule(entry_id, leased.token, tx.now), key="queue")
    held_clock.move(hours=9)
    assert await begin(store, make) == []
    await store.write(lambda tx: tx.queue.update(entry_id, is_held=False), key="queue")
    assert len(await begin(store, make)) == 1


async def test_entries_are_found_by_what_they_are(store: Store, make: Any) -> None:
    ids = await store.write(make.queued("Ann@example.net", "a%b@example.com"), key="queue")

    async def found(**conditions: Any) -> list[int]:
        filter_ = QueueFilter(**conditions)
        entries = await store.read(lambda tx: tx.queue.list(filter_))
        assert await store.read(lambda tx: tx.queue.count(filter_)) == len(entries)
        return [entry.id for entry in entries]

    assert await found(forward_path_contains="ann@") == [ids[0]]
    assert await found(forward_path_contains="%") == [ids[1]]
    assert await found(reverse_path_contains="EXAMPLE.org") == ids
    assert await found(account="bob") == []
    assert await found(ids=(ids[1], 99), is_held=False, transport="") == [ids[1]]
    assert await found(after_id=ids[0]) == [ids[1]]


async def test_an_id_in_a_reverse_path_is_used_once(store: Store, make: Any, held_clock: Any) -> None:
    def unit(transaction: Transaction) -> list[int]:
        entry = make.entry(transaction, make.content(transaction))
        return transaction.queue.add(
            [
                NewEntry(
                    "ann", entry.reverse_path, entry.forward_path, entry.content_id, 16, transaction.now, from_id="x"
                )
            ]
        )

    (entry_id,) = await store.write(unit, key="queue")
    with pytest.raises(FromIdTaken):
        await store.write(unit, key="queue")

    def retire(transaction: Transaction) -> None:
        entry = transaction.queue.get(entry_id)
        assert entry is not None
        transaction.retired.add(Retired(entry, "failed", False, transaction.now, transaction.now + timedelta(days=1)))
        transaction.queue.remove(entry_id)

    await store.write(retire, key="queue")
    with pytest.raises(FromIdTaken):
        await store.write(unit, key="queue")
    found = await store.read(lambda tx: tx.retired.find_from_id("x"))
    assert found is not None
    assert found.entry.id == entry_id


async def test_an_entry_needs_its_account_and_its_content(store: Store, make: Any) -> None:
    with pytest.raises(UnknownContent):
        await store.write(lambda tx: tx.queue.add([make.entry(tx, 99)]), key="queue")

    def of_nobody(transaction: Transaction) -> list[int]:
        entry = make.entry(transaction, make.content(transaction))
        return transaction.queue.add(
            [NewEntry("nobody", entry.reverse_path, entry.forward_path, entry.content_id, 1, transaction.now)]
        )

    with pytest.raises(UnknownAccount):
        await store.write(of_nobody, key="queue")


async def listed(store: Store, **conditions: Any) -> list[str]:
    entries = await store.read(lambda tx: tx.queue.list(QueueFilter(**conditions)))
    return [entry.forward_path.local_part for entry in entries]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"forward_path_contains": "EXAMPLE.com"}, "c"),
        ({"forward_path_contains": "@example.com", "reverse_path_contains": "ann@"}, "abc"),
        ({"reverse_path_contains": "bob@", "forward_path_contains": "b@"}, "b"),
        ({"recipient_domain": "example.net"}, "ab"),
        ({"sender_domain": "example.org", "recipient_domain": "example.com"}, "c"),
        ({"sender_domain": "example.net"}, ""),
    ],
)
async def test_conditions_must_all_be_met_but_of_the_two_paths_one_is_enough(
    store: Store, make: Any, conditions: dict[str, Any], expected: str
) -> None:
    await store.write(make.queued("a@example.net", "b@example.net", "c@example.com"), key="queue")
    assert "".join(await listed(store, **conditions)) == expected


@pytest.mark.parametrize("sort", list(QueueSort))
@pytest.mark.parametrize("is_descending", [False, True])
async def test_pages_hold_every_entry_once_in_order(
    store: Store, make: Any, sort: QueueSort, is_descending: bool
) -> None:
    ids = await store.write(make.queued(*(f"{number}@example.net" for number in range(9))), key="queue")

    def spread(transaction: Transaction) -> None:
        for place, entry_id in enumerate(ids):
            due_at = transaction.now + timedelta(minutes=(place * 5) % 3)
            transaction.queue.update(entry_id, due_at=due_at)

    await store.write(spread, key="queue")
    pages: list[Any] = []
    last: dict[str, Any] = {}
    while True:
        filter_ = QueueFilter(sort=sort, is_descending=is_descending, limit=2, **last)
        page = await store.read(lambda tx, filter_=filter_: tx.queue.list(filter_))  # type: ignore[misc]
        pages += page
        if not page:
            break
        last = {"after_id": page[-1].id, "after_due_at": page[-1].due_at}
    if sort is QueueSort.QUEUED:
        expected = sorted(pages, key=lambda entry: entry.id, reverse=is_descending)
    else:
        expected = sorted(pages, key=lambda entry: (entry.due_at, entry.id), reverse=is_descending)
    assert pages == expected
    assert {entry.id for entry in pages} == set(ids)
    assert len(pages) == len(ids)


async def test_a_hold_that_begins_during_an_attempt_keeps_the_entry_when_it_is_deferred(
    store: Store, make: Any, held_clock: Any
) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    (leased,) = await begin(store, make)
    await store.write(lambda tx: tx.queue.update(entry_id, is_held=True, hold_rule=7), key="queue")
    await store.write(lambda tx: tx.queue.settle(entry_id, leased.token, DEFERRED), key="queue")
    assert await store.write(lambda tx: tx.queue.reschedule(entry_id, leased.token, held_clock.at), key="queue")
    assert await begin(store, make) == []
    released = await store.write(lambda tx: tx.queue.update(entry_id, is_held=False), key="queue")
    assert released is not None
    assert (released.is_held, released.hold_rule) == (False, 0)
    assert [one.entry.id for one in await begin(store, make)] == [entry_id]
