"""The events that an attempt causes; what the data of each holds is said in `mailcrane.model.event_kinds`.

The kinds of `OUTGOING_EVENT_KINDS` become webhooks, so their data has exactly what a payload is made of.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mailcrane.model.delivery import Attempt, Entry, RecipientResult
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.suppression import Suppression


def outgoing_data(
    entry: Entry, result: RecipientResult | None, *, is_dsn: bool = False, is_suppressing: bool = False
) -> dict[str, Any]:
    """Return the data of an event that becomes a webhook.

    Args:
        entry: The entry that it is about.
        result: What its code and error are taken from; None for a delivered message and where there is nothing.
        is_dsn: Whether a delivery status notification tells of it.
        is_suppressing: Whether it put the recipient on the suppression list.
    """
    reply = None if result is None else result.reply
    return {
        "queue_msg_id": entry.id,
        "from_id": entry.from_id,
        "message_id": entry.message_id,
        "subject": entry.subject,
        "smtp_code": 0 if reply is None else reply.code,
        "smtp_enhanced_code": "" if reply is None else reply.enhanced_status_code,
        "error": "" if result is None else result.error,
        "extra": dict(entry.extra),
        "dsn": is_dsn,
        "suppressing": is_suppressing,
    }


def outgoing(
    entry: Entry, kind: EventKind, result: RecipientResult | None, *, is_suppressing: bool = False
) -> NewEvent:
    """Return the event of one of the kinds that become webhooks, for an attempt's result."""
    told = None if kind is EventKind.DELIVERED else result
    return NewEvent(entry.account, kind, entry.id, outgoing_data(entry, told, is_suppressing=is_suppressing))


def attempt_finished(entry: Entry, attempt: Attempt, due_at: datetime | None) -> NewEvent:
    """Return the event of an attempt that came to an end.

    Args:
        entry: The entry that was attempted.
        attempt: With its result.
        due_at: When the next attempt may begin; None when this was the last.
    """
    result = attempt.result
    reply = None if result is None else result.reply
    data: dict[str, Any] = {
        "attempt": attempt.number,
        "transport": attempt.transport,
        "route": attempt.route,
        "outcome": "" if result is None else str(result.outcome),
        "code": 0 if reply is None else reply.code,
        "enhanced_code": "" if reply is None else reply.enhanced_status_code,
        "error": "" if result is None else result.error,
        "remote_mta": "" if result is None else result.remote_mta,
        "tls": "" if result is None or result.tls is None else str(result.tls),
        "is_maybe_delivered": result is not None and result.is_maybe_delivered,
        "notes": [] if result is None else list(result.notes),
        "duration_seconds": None if attempt.duration is None else attempt.duration.total_seconds(),
        "forward_path": str(entry.forward_path),
    }
    if due_at is not None:
        data["due_at"] = due_at.isoformat()
    return NewEvent(entry.account, EventKind.ATTEMPT_FINISHED, entry.id, data)


def entry_retired(entry: Entry, event: str, *, is_success: bool, is_kept: bool) -> NewEvent:
    """Return the event of an entry that left the queue; ``is_kept`` tells whether a retired row exists."""
    data = {
        "event": event,
        "is_success": is_success,
        "attempts": entry.attempts,
        "is_kept": is_kept,
        "forward_path": str(entry.forward_path),
    }
    return NewEvent(entry.account, EventKind.ENTRY_RETIRED, entry.id, data)


def suppression_changed(suppression: Suppression, change: str, *, by: str = "") -> NewEvent:
    """Return the event of a list that was changed; ``change`` is ``added`` or ``removed``."""
    evidence = suppression.evidence
    data = {
        "change": change,
        "address": suppression.original_address,
        "base_address": suppression.base_address,
        "reason": suppression.reason,
        "origin": str(suppression.origin),
        "is_manual": suppression.is_manual,
        "code": evidence.code,
        "enhanced_code": evidence.enhanced_status_code,
        "by": by,
    }
    # In the timeline of the entry that failed stands that it did this, not that it was undone.
    entry_id = evidence.entry_id if change == "added" else 0
    return NewEvent(suppression.account, EventKind.SUPPRESSION_CHANGED, entry_id, data)
