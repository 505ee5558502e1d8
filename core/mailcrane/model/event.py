"""Events: what happened, as rows, from which notifications, webhooks and timelines are fed."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from msgspec import Struct


class EventKind(enum.StrEnum):
    """Every kind of event, and who is told.

    The last eight are the wire's names (an application sees them in its webhooks); the others are ours.
    """

    MESSAGE_STORED = "message_stored"
    MESSAGE_QUEUED = "message_queued"
    ENTRY_CHANGED = "entry_changed"
    ATTEMPT_FINISHED = "attempt_finished"
    ENTRY_RETIRED = "entry_retired"
    WEBHOOK_RETIRED = "webhook_retired"
    CONFIGURATION_CHANGED = "configuration_changed"
    SUPPRESSION_CHANGED = "suppression_changed"

    DELIVERED = "delivered"
    SUPPRESSED = "suppressed"
    DELAYED = "delayed"
    FAILED = "failed"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    CANCELED = "canceled"
    UNRECOGNIZED = "unrecognized"


OUTGOING_EVENT_KINDS = frozenset(
    {
        EventKind.DELIVERED,
        EventKind.SUPPRESSED,
        EventKind.DELAYED,
        EventKind.FAILED,
        EventKind.RELAYED,
        EventKind.EXPANDED,
        EventKind.CANCELED,
        EventKind.UNRECOGNIZED,
    }
)


class NewEvent(Struct, frozen=True):
    """An event to be recorded in the same commit as what it tells of.

    Attributes:
        entry_id: Of the queue entry that it is about; 0 for none.
        data: JSON-compatible details; its keys per kind are listed in ``docs/reference/events.md``.
    """

    account: str
    kind: EventKind
    entry_id: int = 0
    data: dict[str, Any] = {}


class Event(Struct, frozen=True):
    """A recorded event.

    Attributes:
        account: Name of the account whose feed it is in.
        number: Rises by one in the account's feed; nobody sees number n+1 before n.
        id: Stable text id, ``evt_<account id>_<number>_<time>``; carried by webhooks.
    """

    id: str
    account: str
    number: int
    kind: EventKind
    at: datetime
    entry_id: int = 0
    data: dict[str, Any] = {}
