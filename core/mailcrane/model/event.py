"""Events: what happened, as rows, from which notifications, webhooks and timelines are fed."""

from __future__ import annotations

import enum
import re
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

EVENT_FORMAT = 1
"""The format of kinds and data; what may change within one is said in ``docs/reference/events.md``."""


class EventKind(enum.StrEnum):
    """Every kind of event, and who is told.

    The last eight are the wire's names (an application sees them in its webhooks); the others are ours. The kinds of
    plugins, ``<plugin>.<name>``, are members too, made when they are met; they are compared with ``==``.
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

    @classmethod
    def _missing_(cls, value: object) -> EventKind | None:
        if not isinstance(value, str) or not is_plugin_kind(value):
            return None
        kind = str.__new__(cls, value)
        kind._name_ = kind._value_ = value
        return kind


_PLUGIN_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.[a-z0-9][a-z0-9_.-]{0,63}\Z")


def is_plugin_kind(name: str) -> bool:
    """Whether a name is that of a plugin's kind of event: the plugin's name, a dot, and its own."""
    return _PLUGIN_KIND.match(name) is not None


def is_outgoing(kind: EventKind) -> bool:
    """Whether webhooks may be made of events of a kind."""
    return kind in OUTGOING_EVENT_KINDS or is_plugin_kind(kind)


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


class EventType(Struct, frozen=True):
    """A kind of event that a plugin records.

    Attributes:
        name: ``<plugin>.<name>``: the plugin's own name, a dot, and lower case letters, digits and ``_.-``.
        description: When it is recorded, for people.
    """

    name: str
    description: str = ""


class EventService(Protocol):
    """Records events of plugins; plugins reach it through their context."""

    async def record(self, kind: str, *, account: str, entry_id: int, data: dict[str, Any]) -> Event:
        """Record an event; when this returns it survives a power cut.

        Args:
            kind: The whole name, ``<plugin>.<name>``.
            account: In whose feed; may be empty where there is an entry, whose account it is then.
            entry_id: The queue entry that it is about, queued or kept; 0 for none.
            data: JSON-compatible.

        Raises:
            LookupError: there is no such kind, account or entry.
            ValueError: the data is not JSON.
        """
        ...
