"""Changes of entries in the queue by an operator or a hold rule, each with the event that tells of it.

Changes of many are made in small units: entries are found by reading, which holds nobody up, and a unit changes those
of them that still meet the conditions. What came into the queue after the beginning is left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from mailcrane.model.delivery import Entry
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.hold_rule import HoldRule
from mailcrane.store.records import QueueFilter
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

UNIT_ENTRIES = 200
"""The most entries of one unit: some ten milliseconds of the writer's time."""


class EntryChange(Struct, frozen=True):
    """What is changed of one entry.

    Attributes:
        name: As the event ``entry_changed`` has it.
        before: JSON-compatible.
        after: JSON-compatible.
        values: For `QueueRepository.update`.
    """

    name: str
    before: Any
    after: Any
    values: dict[str, Any]
    rule: HoldRule | None = None


Edit = Callable[[Entry, datetime], EntryChange | None]
"""Says what is changed of an entry at an instant; None leaves it alone."""


def hold(entry: Entry, now: datetime, *, rule: HoldRule | None = None) -> EntryChange | None:
    """Hold an entry that is not held."""
    if entry.is_held:
        return None
    return EntryChange("held", False, True, {"is_held": True, "hold_rule": 0 if rule is None else rule.id}, rule)


def release(entry: Entry, now: datetime) -> EntryChange | None:
    """Release an entry that is held."""
    return EntryChange("released", True, False, {"is_held": False}) if entry.is_held else None


def reschedule(entry: Entry, due_at: datetime) -> EntryChange | None:
    """Give an entry another due time."""
    if due_at == entry.due_at:
        return None
    return EntryChange("rescheduled", entry.due_at.isoformat(), due_at.isoformat(), {"due_at": due_at})


def set_transport(entry: Entry, transport: str) -> EntryChange | None:
    """Set an entry's transport; the empty name leaves it to routes."""
    if transport == entry.transport:
        return None
    return EntryChange("transport_set", entry.transport, transport, {"transport": transport})


def set_require_tls(entry: Entry, require_tls: bool | None) -> EntryChange | None:
    """Set whether TLS is required, for good or bad, or as policies have it."""
    if require_tls == entry.require_tls:
        return None
    return EntryChange("require_tls_set", entry.require_tls, require_tls, {"require_tls": require_tls})


def change_entries(transaction: Transaction, ids: Sequence[int], conditions: QueueFilter, edit: Edit, by: str) -> int:
    """Change those of some entries that meet the conditions; returns how many were changed."""
    wanted = msgspec.structs.replace(conditions, ids=tuple(ids), after_id=0, limit=len(ids))
    told = []
    for entry in transaction.queue.list(wanted):
        change = edit(entry, transaction.now)
        if change is None:
            continue
        transaction.queue.update(entry.id, **change.values)
        data = {"by": by, "change": change.name, "before": change.before, "after": change.after}
        if change.rule is not None:
            data |= {"held_by": str(change.rule), "hold_rule": change.rule.id}
        told.append(NewEvent(entry.account, EventKind.ENTRY_CHANGED, entry.id, data))
    transaction.events.record(told)
    return len(told)


async def for_each_unit(ids: Sequence[int], act: Callable[[Sequence[int]], Awaitable[int]]) -> int:
    """Do something for entries, as many at once as a unit takes; returns the sum of what it returns."""
    total = 0
    for start in range(0, len(ids), UNIT_ENTRIES):
        total += await act(ids[start : start + UNIT_ENTRIES])
    return total


def changing(store: Store, conditions: QueueFilter, edit: Edit, by: str) -> Callable[[Sequence[int]], Awaitable[int]]:
    """Return what `for_each_unit` does to make a change."""

    async def act(ids: Sequence[int]) -> int:
        unit = functools.partial(change_entries, ids=ids, conditions=conditions, edit=edit, by=by)
        return await store.write(unit, key="queue")

    return act
