"""Webhook calls as the server makes them, with the same code, and not sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mailcrane.model.event import Event
from mailcrane.model.webhook import WebhookCall, WebhookTarget
from mailcrane.testing.receiver import Posted
from mailcrane.webhook.attempt import request_headers
from mailcrane.webhook.payload import encode_payload, make_payload


def made_call(
    event: Event,
    url: str,
    *,
    secrets: tuple[str, ...] = (),
    authorization: str = "",
    at: datetime,
    call_id: int = 1,
    attempt: int = 1,
    fields: Mapping[str, Any] | None = None,
    body: bytes | None = None,
) -> Posted:
    """Make the call that tells a receiver of an event.

    Args:
        event: Of a kind that applications are told of.
        secrets: The newest first; without any it is not signed.
        at: When it is made; it is the timestamp that is signed.
        attempt: From 1.
        fields: Fields that a plugin adds to the payload, behind the wire's own, or in their place.
        body: Signed and posted in the place of the payload.
    """
    payload = encode_payload({**make_payload(event, queued_at=at), **(fields or {})})
    target = WebhookTarget(url, authorization, secrets)
    call = WebhookCall(
        call_id, event.account, event.id, event.kind.value, event.entry_id, target, payload, at, at, attempt
    )
    body = payload.encode() if body is None else body
    return Posted(url, request_headers(call, body, at=at), body)
