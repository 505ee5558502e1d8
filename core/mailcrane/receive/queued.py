"""What is told of entries that were put into the queue: over what they came in, and what holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.session import SessionInfo
from mailcrane.store.records import NewEntry
from mailcrane.store.transaction import Transaction

HOLD_NEW_ENTRIES = "[queue] hold_new_entries"
"""What holds entries where the server is told to hold all new ones."""


def queued_events(
    transaction: Transaction,
    entries: Sequence[NewEntry],
    ids: Sequence[int],
    session: SessionInfo,
    *,
    held_by: str = "",
) -> list[NewEvent]:
    """Return the events of entries that were added in this unit.

    Args:
        transaction: The unit's.
        entries: As they were added.
        ids: Theirs, in the same order.
        session: That they came in with.
        held_by: What holds them if no rule does, in words; empty when they asked for nothing.
    """
    told = []
    for entry, entry_id in zip(entries, ids, strict=True):
        data: dict[str, Any] = {
            "message_id": entry.message_id,
            "reverse_path": str(entry.reverse_path),
            "forward_path": str(entry.forward_path),
            "size_octets": entry.size_octets,
            "protocol": session.protocol,
            "session": session.id,
            "login": session.login_address,
            "remote_ip": session.remote_ip,
        }
        rule = transaction.hold_rules.matching(entry.account, entry.reverse_path.domain, entry.forward_path.domain)
        if rule is not None:
            data["hold_rule"] = rule.id
        if rule is not None or entry.is_held:
            data["held_by"] = held_by if rule is None else str(rule)
        if entry.due_at > transaction.now:
            data["due_at"] = entry.due_at.isoformat()
        told.append(NewEvent(entry.account, EventKind.MESSAGE_QUEUED, entry_id, data))
    return told
