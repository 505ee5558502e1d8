"""Operations on the queue: which entries a filter finds, what is changed, and what the events say of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from mailcrane.admin import queue_changes
from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.hold_rules import (
    AddHoldRule,
    ApplyHoldRule,
    ListHoldRules,
    RemoveHoldRule,
    add_hold_rule,
    apply_hold_rule,
    list_hold_rules,
    remove_hold_rule,
)
from mailcrane.admin.queue import CountQueue, ListQueue, QueueEntry, ShowEntry, count_queue, list_queue, show_entry
from mailcrane.admin.queue_changes import (
    ChangedMany,
    Schedule,
    SetHold,
    SetRequireTLS,
    SetTransport,
    schedule,
    set_hold,
    set_require_tls,
    set_transport,
)
from mailcrane.admin.queue_filter import EntryFilter
from mailcrane.config.rows import Account, Domain
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.event import EventKind
from mailcrane.store.records import ContentDraft, NewEntry, QueueSort
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Fill = Callable[..., Awaitable[list[int]]]


@pytest.fixture
async def fill(administration: Administration, store: Store) -> Fill:
    await administration.change(
        "test",
        lambda old: replace(
            old,
            domains=(Domain("example.org"),),
            accounts=(Account("ann", "example.org"), Account("bob", "example.org")),
        ),
    )

    async def add(*paths: str, account: str = "ann", due_in: timedelta = timedelta(0), **values: Any) -> list[int]:
        def unit(transaction: Transaction) -> list[int]:
            content = transaction.content.add(b"Subject: x\r\n\r\n", ContentDraft(14))
            sender = ReversePath(Mailbox.parse(f"{account}@example.org"))
            return transaction.queue.add(
                [
                    NewEntry(account, sender, Mailbox.parse(path), content.id, 14, transaction.now + due_in, **values)
                    for path in paths
                ]
            )

        return await store.write(unit, key="queue")

    return add


async def changes_of(store: Store, entry_id: int) -> list[dict[str, Any]]:
    events = await store.read(lambda transaction: transaction.events.for_entry(entry_id))
    return [event.data for event in events if event.kind is EventKind.ENTRY_CHANGED]


async def shown(administration: Administration, entry_id: int) -> QueueEntry:
    entry = (await show_entry(administration, ShowEntry(entry_id))).entry
    assert entry is not None
    return entry


async def found(administration: Administration, **conditions: Any) -> list[int]:
    listed = await list_queue(administration, ListQueue(EntryFilter(**conditions)))
    counted = await count_queue(administration, CountQueue(EntryFilter(**conditions)))
    assert counted.count == len(listed.entries)
    return [entry.id for entry in listed.entries]


async def test_entries_are_listed_page_by_page(administration: Administration, fill: Fill) -> None:
    ids = await fill("a@example.net", "b@example.net", "c@example.net")
    page = await list_queue(administration, ListQueue(limit=2))
    assert [entry.id for entry in page.entries] == ids[:2]
    rest = await list_queue(administration, ListQueue(limit=2, after_id=page.next_after_id))
    assert ([entry.id for entry in rest.entries], rest.next_after_id) == (ids[2:], 0)


async def test_pages_by_next_attempt_go_on_at_its_due_time(administration: Administration, fill: Fill) -> None:
    (late,) = await fill("a@example.net", due_in=timedelta(hours=2))
    (soon,) = await fill("b@example.net", due_in=timedelta(hours=1))
    page = await list_queue(administration, ListQueue(sort=QueueSort.NEXT_ATTEMPT, limit=1))
    assert [entry.id for entry in page.entries] == [soon]
    following = ListQueue(sort=QueueSort.NEXT_ATTEMPT, after_id=page.next_after_id, after_due_at=page.next_after_due_at)
    assert [entry.id for entry in (await list_queue(administration, following)).entries] == [late]
    with pytest.raises(AdminError, match="needs its due time"):
        await list_queue(administration, ListQueue(sort=QueueSort.NEXT_ATTEMPT, after_id=page.next_after_id))


async def test_every_condition_of_a_filter_counts(administration: Administration, fill: Fill) -> None:
    (first,) = await fill("a@example.net", transport="out")
    (second,) = await fill("b@example.com", account="bob", due_in=timedelta(minutes=45), is_held=True)
    assert await found(administration) == [first, second]
    assert await found(administration, ids=(second, 999)) == [second]
    assert await found(administration, account="bob") == [second]
    assert await found(administration, reverse_path="ann@") == [first]
    assert await found(administration, forward_path="example.com") == [second]
    assert await found(administration, reverse_path="ann@", forward_path="b@") == [first, second]
    assert await found(administration, account="bob", reverse_path="ann@", forward_path="b@") == [second]
    assert await found(administration, is_held=True) == [second]
    assert await found(administration, is_held=False) == [first]
    assert await found(administration, transport="out") == [first]
    assert await found(administration, transport="") == [second]
    assert await found(administration, next_attempt="<1h") == [first, second]
    assert await found(administration, next_attempt=">30m") == [second]
    assert await found(administration, next_attempt="<30m") == [first]
    assert await found(administration, submitted=">-1m") == [first, second]
    assert await found(administration, submitted="<-1m") == []


async def test_entries_are_held_and_released_once_and_an_event_says_by_whom(
    administration: Administration, store: Store, fill: Fill
) -> None:
    first, second = await fill("a@example.net", "b@example.com")
    held = SetHold(is_held=True, filter=EntryFilter(forward_path="example.net"))
    assert await set_hold(administration, held) == ChangedMany(1, 1)
    assert await set_hold(administration, held) == ChangedMany(1, 0)
    assert await found(administration, is_held=True) == [first]
    assert await set_hold(administration, SetHold(is_held=False, is_all=True)) == ChangedMany(2, 1)
    assert await changes_of(store, first) == [
        {"by": "uid 0", "change": "held", "before": False, "after": True},
        {"by": "uid 0", "change": "released", "before": True, "after": False},
    ]
    assert await changes_of(store, second) == []


async def test_a_change_of_everything_has_to_be_asked_for(administration: Administration, fill: Fill) -> None:
    await fill("a@example.net")
    with pytest.raises(AdminError, match="--all") as caught:
        await set_hold(administration, SetHold(is_held=True))
    assert caught.value.code == "no_filter"
    assert await found(administration, is_held=True) == []


async def test_the_next_attempt_is_moved_from_when_it_is_due_or_from_now(
    administration: Administration, store: Store, fill: Fill
) -> None:
    (entry_id,) = await fill("a@example.net", due_in=timedelta(hours=1))
    only = EntryFilter(ids=(entry_id,))

    async def due_at() -> datetime:
        return (await shown(administration, entry_id)).due_at

    await schedule(administration, Schedule(duration="30m", filter=only))
    assert await due_at() == NOW + timedelta(minutes=90)
    await schedule(administration, Schedule(duration="-45m", filter=only))
    assert await due_at() == NOW + timedelta(minutes=45)
    await schedule(administration, Schedule(duration="0s", is_from_now=True, filter=only))
    assert await due_at() == NOW
    assert await store.read(lambda transaction: transaction.queue.next_due_at()) == NOW
    assert [(change["change"], change["after"]) for change in await changes_of(store, entry_id)][-1] == (
        "rescheduled",
        NOW.isoformat(),
    )


async def test_transport_and_tls_are_set_and_taken_back(
    administration: Administration, store: Store, fill: Fill
) -> None:
    (entry_id,) = await fill("a@example.net")
    only = EntryFilter(ids=(entry_id,))
    await set_transport(administration, SetTransport(transport="out", filter=only))
    await set_require_tls(administration, SetRequireTLS(require_tls=True, filter=only))
    entry = await shown(administration, entry_id)
    assert (entry.transport, entry.require_tls) == ("out", True)
    await set_transport(administration, SetTransport(transport="", filter=only))
    await set_require_tls(administration, SetRequireTLS(require_tls=None, filter=only))
    entry = await shown(administration, entry_id)
    assert (entry.transport, entry.require_tls) == ("", None)
    assert [(one["change"], one["before"], one["after"]) for one in await changes_of(store, entry_id)] == [
        ("transport_set", "", "out"),
        ("require_tls_set", None, True),
        ("transport_set", "out", ""),
        ("require_tls_set", True, None),
    ]
    with pytest.raises(AdminError, match=r'no transport "missing"; mailcrane\.toml has: out'):
        await set_transport(administration, SetTransport(transport="missing", filter=only))


async def test_a_change_of_many_goes_on_in_pieces_and_leaves_newer_entries_alone(
    administration: Administration, store: Store, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_changes, "_PIECE_ENTRIES", 2)
    ids = await fill(*(f"{number}@example.net" for number in range(5)))
    request = SetHold(is_held=True, filter=EntryFilter(next_attempt="<1m"))
    answer = await set_hold(administration, request)
    newer = await fill("new@example.net")
    pieces = [answer.changed]
    while answer.position is not None:
        # As it travels over the control socket.
        position = msgspec.json.decode(msgspec.json.encode(answer.position), type=queue_changes.Position)
        answer = await set_hold(administration, replace(request, position=position))
        pieces.append(answer.changed)
    assert pieces == [2, 2, 1]
    assert await found(administration, is_held=True) == ids
    assert await found(administration, is_held=False) == newer


async def test_a_new_hold_rule_holds_what_fits_in_the_queue_and_says_so(
    administration: Administration, store: Store, fill: Fill
) -> None:
    ids = await fill(*(f"{number}@bücher.example" for number in range(450)), "other@example.net")
    (bobs,) = await fill("x@bücher.example", account="bob")
    added = await add_hold_rule(administration, AddHoldRule(account="ann", recipient_domain="Bücher.example"))
    applied = await apply_hold_rule(administration, ApplyHoldRule(id=added.rule.id))
    assert (added.is_new, applied) == (True, ChangedMany(450, 450))
    assert (added.rule.account, added.rule.recipient_domain) == ("ann", "bücher.example")
    assert await found(administration, is_held=False) == [ids[-1], bobs]
    (change,) = await changes_of(store, ids[0])
    assert (change["change"], change["hold_rule"], change["held_by"], change["by"]) == (
        "held",
        added.rule.id,
        f"hold rule {added.rule.id} (of account ann, to bücher.example)",
        "uid 0",
    )
    (later,) = await fill("later@bücher.example")
    assert (await shown(administration, later)).hold_rule == added.rule.id


async def test_hold_rules_are_listed_removed_and_not_added_twice(
    administration: Administration, store: Store, fill: Fill
) -> None:
    (entry_id,) = await fill("a@example.net")
    added = await add_hold_rule(administration, AddHoldRule())
    assert await add_hold_rule(administration, AddHoldRule()) == replace(added, is_new=False)
    assert (await apply_hold_rule(administration, ApplyHoldRule(id=added.rule.id))).changed == 1
    with pytest.raises(AdminError, match="no hold rule 99"):
        await apply_hold_rule(administration, ApplyHoldRule(id=99))
    with pytest.raises(AdminError, match='no account "nobody"'):
        await add_hold_rule(administration, AddHoldRule(account="nobody"))
    with pytest.raises(AdminError, match="is not a domain"):
        await add_hold_rule(administration, AddHoldRule(recipient_domain="no domain"))
    assert (await list_hold_rules(administration, ListHoldRules())).rules == (added.rule,)
    await remove_hold_rule(administration, RemoveHoldRule(added.rule.id))
    assert await found(administration, is_held=True) == [entry_id]
    with pytest.raises(AdminError, match="no hold rule 1"):
        await remove_hold_rule(administration, RemoveHoldRule(added.rule.id))


async def test_what_is_not_there_is_not_shown(administration: Administration) -> None:
    with pytest.raises(AdminError, match="no entry 999"):
        await show_entry(administration, ShowEntry(999))
