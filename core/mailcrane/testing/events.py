"""Made-up data of events: every key that a kind is documented with."""

from __future__ import annotations

from typing import Any

from mailcrane.model.event import EventKind
from mailcrane.model.event_kinds import EVENT_KINDS

_NUMBERS = frozenset(
    {"attempt", "attempts", "call_id", "code", "hold_rule", "more_changes", "queue_msg_id", "size_octets"}
)
_MORE_NUMBERS = frozenset({"smtp_code", "uid", "version"})
_CLAIMS = frozenset({"dsn", "suppressing"})
_ADDRESSES = {"forward_path": "you@example.org", "reverse_path": "me@localhost", "address": "you@example.org"}


def made_data(kind: EventKind) -> dict[str, Any]:
    """Make the data of an event, with all keys of ``docs/reference/events.md``."""
    description = EVENT_KINDS.get(kind)
    return {} if description is None else {key: _made(key) for key in description.keys}


def _made(key: str) -> Any:
    if key in _NUMBERS or key in _MORE_NUMBERS:
        return 1
    if key in _CLAIMS or key.startswith("is_"):
        return False
    if key == "extra":
        return {"made": "up"}
    if key in ("notes", "changes"):
        return ["made up"]
    if key == "due_at":
        return "2026-01-01T12:00:00Z"
    if key == "duration_seconds":
        return 0.5
    return _ADDRESSES.get(key, "made up")
