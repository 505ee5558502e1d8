"""The story of a queue entry, one step for each event, in words that need nothing beside them.

It is made of what was recorded, so it is the same for an entry that is queued, retired or not kept any more. What has
no event yet stands at the end: an attempt under way, and webhook calls that are still to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from mailcrane.model.delivery import Attempt
from mailcrane.model.event import OUTGOING_EVENT_KINDS, Event, EventKind
from mailcrane.model.webhook import WebhookCall


class TimelineStep(Struct, frozen=True):
    """Something that happened to the entry.

    Attributes:
        kind: Of the event; ``attempt_begun`` and ``webhook_waiting`` for what has none yet.
        text: In words, one line.
        id: Of the event; empty for what has none yet.
        data: As it was recorded.
    """

    at: datetime
    kind: str
    text: str
    id: str = ""
    data: dict[str, Any] = {}


def tell(
    events: Sequence[Event], attempts: Sequence[Attempt] = (), calls: Sequence[WebhookCall] = ()
) -> tuple[TimelineStep, ...]:
    """Return the steps, the first one first.

    Args:
        events: Of the entry.
        attempts: Of the entry; one without a result is under way.
        calls: Webhook calls of the entry that are still queued.
    """
    steps = [TimelineStep(event.at, event.kind.value, _words(event), event.id, event.data) for event in events]
    told = {event.data.get("attempt") for event in events if event.kind is EventKind.ATTEMPT_FINISHED}
    for attempt in attempts:
        if attempt.number not in told:
            state = "is under way" if attempt.result is None else "has ended, and what it means is being asked"
            steps.append(TimelineStep(attempt.started_at, "attempt_begun", f"attempt {attempt.number} {state}"))
    steps += [TimelineStep(call.submitted_at, "webhook_waiting", _waiting(call)) for call in calls]
    return tuple(sorted(steps, key=lambda step: step.at))


def _words(event: Event) -> str:
    if event.kind in OUTGOING_EVENT_KINDS:
        return _outgoing(event.kind, event.data)
    words = _WORDS.get(event.kind)
    return words(event.data) if words is not None else _other(event)


def _queued(data: dict[str, Any]) -> str:
    text = f"queued for {data.get('forward_path')} from {data.get('reverse_path') or '<>'}"
    if data.get("protocol"):
        text += f", over {data['protocol']}"
        if data.get("login"):
            text += f" by {data['login']}"
        text += f" from {data.get('remote_ip')}, session {data.get('session')}"
    if data.get("held_by"):
        text += f"; held by {data['held_by']}"
    if data.get("due_at"):
        text += f"; not before {_at(data['due_at'])}"
    return text


def _changed(data: dict[str, Any]) -> str:
    by, before, after = data["by"], data["before"], data["after"]
    match data["change"]:
        case "held":
            rule = f" because of {data['held_by']}" if data.get("held_by") else ""
            return f"held by {by}{rule}"
        case "released":
            return f"released by {by}"
        case "rescheduled":
            return f"next attempt moved from {_at(before)} to {_at(after)} by {by}"
        case "transport_set":
            return f"transport set to {after} by {by}" if after else f"transport left to routes again by {by}"
        case "require_tls_set":
            return f"TLS {_TLS[after]} by {by}"
        case other:
            return f"{other} by {by}: {before} → {after}"


_TLS = {True: "required", False: "made optional", None: "left to policies again"}


def _attempted(data: dict[str, Any]) -> str:
    text = f"attempt {data['attempt']}"
    if data.get("transport"):
        text += f" over transport {data['transport']}"
    if data.get("route"):
        text += f" ({data['route']})"
    if data.get("remote_mta"):
        text += f" to {data['remote_mta']}"
    if data.get("tls"):
        text += f", {data['tls']}"
    text += f": {data['outcome']}"
    if data.get("duration_seconds") is not None:
        text += f" after {data['duration_seconds']:.2f} s"
    reason = data.get("error") or " ".join(str(data[key]) for key in ("code", "enhanced_code") if data.get(key))
    if reason:
        text += f": {reason}"
    if data.get("is_maybe_delivered"):
        text += "; the connection was lost after the final dot, so the next hop may have it"
    if data.get("notes"):
        text += f"; {'; '.join(data['notes'])}"
    if data.get("due_at"):
        text += f"; next attempt not before {_at(data['due_at'])}"
    return text


def _retired(data: dict[str, Any]) -> str:
    attempts = "1 attempt" if data["attempts"] == 1 else f"{data['attempts']} attempts"
    return f"left the queue as {data['event']} after {attempts}, {'' if data['is_kept'] else 'not '}kept"


def _outgoing(kind: EventKind, data: dict[str, Any]) -> str:
    text, error = f"the application is told: {kind}", data.get("error", "")
    if error.startswith(f"{kind} by "):
        # Ended by hand: the error says all of it.
        text = f"the application is told: {error}"
    elif error:
        text += f": {error}"
    if data.get("dsn"):
        text += ", known from a delivery status notification"
    if data.get("suppressing"):
        text += "; the recipient is put on the suppression list"
    return text


def _stored(data: dict[str, Any]) -> str:
    return f"a notification for the sender is put into the folder {data['folder']}"


def _suppression(data: dict[str, Any]) -> str:
    if data["change"] == "removed":
        return f"{data['address']} taken off the suppression list by {data['by'] or data['origin']}"
    return f"{data['address']} put on the suppression list by {data['by'] or 'the ' + data['origin']}: {data['reason']}"


def _webhook_retired(data: dict[str, Any]) -> str:
    attempts = "1 attempt" if data["attempts"] == 1 else f"{data['attempts']} attempts"
    text = f"webhook call {data['call_id']} for {data['event']} to {data['url']}: "
    if data["is_success"]:
        return text + f"taken with {data['code']} after {attempts}"
    if data.get("canceled_by"):
        return text + f"canceled by {data['canceled_by']} after {attempts}"
    if data["superseded_by"]:
        return text + f"superseded by the call for event {data['superseded_by']} after {attempts}"
    if data["is_disabling"]:
        return text + f"the receiver is gone for good ({data['code']}), after {attempts}"
    return text + f"given up after {attempts}" + (f", the last answered with {data['code']}" if data["code"] else "")


def _waiting(call: WebhookCall) -> str:
    text = f"webhook call {call.id} for {call.event} to {call.target.url}: next attempt not before "
    text += _at(call.due_at.isoformat())
    if call.results:
        last = call.results[-1]
        text += f"; {call.attempts} made, the last: {last.error or last.code}"
    return text


def _at(text: str) -> str:
    """Return an instant to the second: what comes after it is noise for people, and the data has it."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _other(event: Event) -> str:
    details = ", ".join(f"{key} {value}" for key, value in event.data.items() if value not in ("", None, [], {}))
    name = event.kind.replace("_", " ")
    return f"{name}: {details}" if details else name


_WORDS: dict[EventKind, Callable[[dict[str, Any]], str]] = {
    EventKind.MESSAGE_QUEUED: _queued,
    EventKind.ENTRY_CHANGED: _changed,
    EventKind.ATTEMPT_FINISHED: _attempted,
    EventKind.ENTRY_RETIRED: _retired,
    EventKind.MESSAGE_STORED: _stored,
    EventKind.SUPPRESSION_CHANGED: _suppression,
    EventKind.WEBHOOK_RETIRED: _webhook_retired,
}
