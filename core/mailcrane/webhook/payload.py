"""What is posted, exactly as applications expect it: field names and order, escapes, instants.

The merge functions of the hooks ``select_webhooks`` and ``add_webhook_fields`` stand here too. No I/O.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import urlsplit

from mailcrane.model.event import OUTGOING_EVENT_KINDS, Event
from mailcrane.model.webhook import WebhookFields, WebhookTarget
from mailcrane.observe.log import get_log

log = get_log(__name__)

VERSION = 0

# JSON that stays JSON inside an HTML page; readers that compare text know it so.
_ESCAPES = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))

_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def make_payload(event: Event, *, queued_at: datetime, zone: tzinfo | None = None) -> dict[str, Any]:
    """Make the fields of an outgoing event, in the order of the wire; a plugin's event has ``Data`` besides.

    Args:
        queued_at: When the call is queued.
        zone: What ``WebhookQueued`` is told in; None is the server's own.
    """
    data = event.data
    extra = data.get("extra") or {}
    payload: dict[str, Any] = {
        "Version": VERSION,
        "Event": event.kind.value,
        "DSN": bool(data.get("dsn", False)),
        "Suppressing": bool(data.get("suppressing", False)),
        "QueueMsgID": int(data.get("queue_msg_id", event.entry_id)),
        "FromID": str(data.get("from_id", "")),
        "MessageID": str(data.get("message_id", "")),
        "Subject": str(data.get("subject", "")),
        "WebhookQueued": format_instant(queued_at, zone),
        "SMTPCode": int(data.get("smtp_code", 0)),
        "SMTPEnhancedCode": str(data.get("smtp_enhanced_code", "")),
        "Error": str(data.get("error", "")),
        "Extra": {str(key): str(extra[key]) for key in sorted(extra)},
    }
    if event.kind not in OUTGOING_EVENT_KINDS:
        payload["Data"] = data.get("data", {})
    return payload


def encode_payload(payload: Mapping[str, Any]) -> str:
    """Return the text that is posted: compact, without a newline, ``<``, ``>`` and ``&`` escaped.

    Raises:
        TypeError, ValueError: a value is not JSON.
    """
    text = _json.encode(payload)
    # What is not Unicode text, which a header may hold, cannot be posted.
    text = text.encode("utf-8", "replace").decode()
    for character, escaped in _ESCAPES:
        text = text.replace(character, escaped)
    return text


@functools.lru_cache(maxsize=16)
def format_instant(instant: datetime, zone: tzinfo | None = None) -> str:
    """Return an aware instant as RFC 3339, with the digits of the second that there are."""
    local = instant.astimezone(zone)
    text = local.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    if local.microsecond:
        text += f".{local.microsecond:06d}".rstrip("0")
    offset = local.utcoffset()
    if not offset:
        return text + "Z"
    minutes = round(offset.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    return f"{text}{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def merge_targets(answers: Iterable[tuple[str, WebhookTarget]]) -> tuple[WebhookTarget, ...]:
    """Put targets together, in order; the first of equal URLs counts, because a URL is told of an event once.

    Args:
        answers: Pairs of plugin and target; the account's own comes first, with an empty name.
    """
    merged: dict[str, WebhookTarget] = {}
    for plugin, target in answers:
        problem = _target_problem(target)
        if problem:
            log.warning("a webhook target is left out", plugin=plugin, problem=problem)
        else:
            merged.setdefault(target.url, target)
    return tuple(merged.values())


def is_wanted(target: WebhookTarget, event: Event) -> bool:
    """Whether a target is told of an event of that kind; of a plugin's only where it names it."""
    return event.kind in target.events or (not target.events and event.kind in OUTGOING_EVENT_KINDS)


def merge_fields(payload: Mapping[str, Any], answers: Iterable[tuple[str, WebhookFields]]) -> dict[str, Any]:
    """Return a payload with the fields of plugins behind its own, in the order of the plugins.

    A name that is there already, in any case, cannot be replaced: readers match names without regard to case. A value
    that is not JSON is left out as well.
    """
    merged = dict(payload)
    taken = {name.lower() for name in payload}
    for plugin, answer in answers:
        for name, value in answer.fields.items():
            problem = _field_problem(name, value, taken)
            if problem:
                log.warning("a field of a webhook is left out", plugin=plugin, field=name, problem=problem)
                continue
            taken.add(name.lower())
            merged[name] = value
    return merged


def _field_problem(name: object, value: object, taken: set[str]) -> str:
    if not isinstance(name, str) or not name:
        return "its name is not a text"
    if name.lower() in taken:
        return "its name is taken"
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return "its value is not JSON"
    return ""


def _target_problem(target: WebhookTarget) -> str:
    try:
        parts = urlsplit(target.url)
    except ValueError:
        return "its URL is not one"
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return "its URL is neither http nor https"
    if not target.authorization.isprintable():
        return "its authorization has control characters"
    return ""
