"""The operation that calls a URL once to try it: directly, not queued, not repeated, with a payload that is made up."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import trio
from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.http.client import GuardedClient, HTTPClientError
from mailcrane.model.webhook import WebhookCall, WebhookTarget
from mailcrane.observe.secret import NO_SECRET, Secret
from mailcrane.webhook.attempt import (
    RESPONSE_OCTETS,
    RESPONSE_SECONDS,
    TIMEOUT_SECONDS,
    HTTPPoster,
    request_headers,
    result_of,
)
from mailcrane.webhook.examples import EXAMPLES

_EVENT_ID = "evt_test"


class TryWebhook(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Post a payload to a URL. Neither has to be configured anywhere."""

    url: Annotated[str, Meta(description="An http or https URL.")]
    authorization: Annotated[Secret, Meta(description="Value of the Authorization header; empty sends none.")] = (
        NO_SECRET
    )
    secrets: Annotated[tuple[Secret, ...], Meta(description="Signing secrets, `whsec_…`.")] = ()
    example: Annotated[
        str, Meta(description="Which made-up payload: " + ", ".join(f"`{name}`" for name in EXAMPLES) + ".")
    ] = "outgoing-delivered"
    payload: Annotated[dict[str, Any] | None, Meta(description="A payload to be posted in place of the example.")] = (
        None
    )


class Tried(Struct, frozen=True):
    """What came back.

    Attributes:
        is_success: Whether a call of an event would have succeeded with it.
        code: HTTP status; 0 without a response.
        response: The first 512 octets of the body.
        error: Why it would not have succeeded; empty otherwise.
        body: What was posted.
    """

    is_success: bool
    code: int
    response: str
    error: str
    seconds: float
    body: str


async def try_webhook(administration: Administration, request: TryWebhook) -> Tried:
    """Post a payload to a URL as call 1, attempt 1. That the receiver refuses it is an answer, not an error."""
    if urlsplit(request.url).scheme not in {"http", "https"}:
        raise AdminError("bad_value", f'"{request.url}" is not an http or https URL')
    authorization = request.authorization.reveal()
    if not (authorization.isascii() and authorization.isprintable()):
        raise AdminError("bad_value", "the authorization is not printable ASCII")
    payload = request.payload
    if payload is None:
        payload = EXAMPLES.get(request.example)
    if payload is None:
        raise AdminError("bad_value", f'there is no example "{request.example}"; there are {", ".join(EXAMPLES)}')
    if administration.poster is not None:
        return await _post(administration, administration.poster, request, payload)
    client = GuardedClient(allow_networks=administration.static.webhooks.allow_networks)
    try:
        return await _post(administration, client, request, payload)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await client.aclose()


async def _post(
    administration: Administration, client: HTTPPoster, request: TryWebhook, payload: dict[str, Any]
) -> Tried:
    # For people to look at: with tabs, and characters as they are.
    text = json.dumps(payload, ensure_ascii=False, indent="\t") + "\n"
    body = text.encode("utf-8", "replace")
    now = await administration.store.read(lambda transaction: transaction.now)
    secrets = tuple(secret.reveal() for secret in request.secrets)
    target = WebhookTarget(request.url, request.authorization.reveal(), secrets)
    call = WebhookCall(1, "", _EVENT_ID, str(payload.get("Event", "")), 0, target, text, now, now, attempts=1)
    begun = trio.current_time()
    try:
        response = await client.post(
            request.url,
            headers=request_headers(call, body, at=now),
            body=body,
            timeout=TIMEOUT_SECONDS,
            max_response_octets=RESPONSE_OCTETS,
            body_seconds=RESPONSE_SECONDS,
        )
    except HTTPClientError as error:
        return Tried(False, 0, "", str(error), trio.current_time() - begun, text)
    duration = timedelta(seconds=trio.current_time() - begun)
    result = result_of(call, response, started_at=now, duration=duration)
    return Tried(result.is_success, result.code, result.response, result.error, duration.total_seconds(), text)
