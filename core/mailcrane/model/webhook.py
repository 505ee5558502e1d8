"""Webhooks: where events are posted to, and the calls that do it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

WebhookMode = Literal["latest", "all", "changes"]


class WebhookTarget(Struct, frozen=True):
    """Where an event is posted to.

    Attributes:
        url: http or https.
        authorization: Value of the ``Authorization`` header; empty for none.
        secrets: Standard Webhooks signing secrets, ``whsec_<base64>``; the first is the newest; empty does not sign.
        events: Names of the events that are posted; empty means all of the wire's own. Events of plugins are posted
            only where they are named.
        mode: ``latest``: a newer event of the same entry ends calls that were not successful yet; ``all``: every
            event is posted, those of one entry one after another; ``changes``: like ``all``, without events of the
            kind that was posted last of the same entry.
    """

    url: str
    authorization: str = ""
    secrets: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    mode: WebhookMode = "latest"


class WebhookFields(Struct, frozen=True):
    """Top-level fields that a plugin adds to a payload; the wire's own names cannot be replaced."""

    fields: dict[str, Any]


class CallResult(Struct, frozen=True):
    """One try of a call.

    Attributes:
        code: HTTP status; 0 when there was no response.
        response: The first 512 octets of the body, decoded.
    """

    started_at: datetime
    duration: timedelta
    is_success: bool
    code: int = 0
    error: str = ""
    response: str = ""


class WebhookCall(Struct, frozen=True):
    """A call that is queued, with where it goes frozen when it was queued.

    Attributes:
        id: Sent as ``X-Mox-Webhook-ID``.
        event_id: Of the event; sent as ``webhook-id`` and equal over retries and replays.
        event: The wire's name of the event.
        payload: The exact JSON text that is posted.
        attempts: How many were begun.
        is_under_way: Whether one is being made, as far as the store knows.
    """

    id: int
    account: str
    event_id: str
    event: str
    entry_id: int
    target: WebhookTarget
    payload: str
    submitted_at: datetime
    due_at: datetime
    attempts: int = 0
    results: tuple[CallResult, ...] = ()
    is_under_way: bool = False


class RetiredCall(Struct, frozen=True):
    """A call that succeeded, failed for the last time, was canceled or was superseded.

    Attributes:
        superseded_by: Id of the call that took its place; 0 for none.
        has_authorization: Whether it carried an ``Authorization`` header, whose value is not kept.
        is_dead: Whether it was given up after its last attempt, and neither replayed nor acknowledged since.
    """

    call: WebhookCall
    is_success: bool
    superseded_by: int
    retired_at: datetime
    keep_until: datetime
    has_authorization: bool = False
    is_dead: bool = False
