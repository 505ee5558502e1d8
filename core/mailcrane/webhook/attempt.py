"""One attempt of one call: the request as it is made, and what its answer means."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Protocol

import mailcrane
from mailcrane.http.client import HTTPResponse
from mailcrane.model.webhook import CallResult, WebhookCall
from mailcrane.webhook.schedule import is_exhausted
from mailcrane.webhook.signature import signature_headers

TIMEOUT_SECONDS = 60.0
RESPONSE_OCTETS = 512
# What a receiver answers is its status. What it says besides is kept as far as it says it at once.
RESPONSE_SECONDS = 2.0

_USER_AGENT = f"mailcrane/{mailcrane.__version__} (webhook)"
_KNOWN_CODES = frozenset(int(status) for status in HTTPStatus)


class HTTPPoster(Protocol):
    """What posts: `mailcrane.http.client.GuardedClient`, or a test."""

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float = 60.0,  # noqa: ASYNC109 - the client bounds the whole request and has an error for it
        max_response_octets: int = 65536,
        body_seconds: float = math.inf,
    ) -> HTTPResponse:
        """Post a body; raises `HTTPClientError` when there is no response."""
        ...


class Ending(enum.Enum):
    """What becomes of a call after an attempt."""

    RETRY = "retry"
    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"  # failed, and the receiver wants no more


def request_headers(call: WebhookCall, body: bytes, *, at: datetime) -> dict[str, str]:
    """Make the header of the attempt that begins, which `call` counts already."""
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": _USER_AGENT,
        "X-Mox-Webhook-ID": str(call.id),
        "X-Mox-Webhook-Attempt": str(call.attempts),
    }
    if call.target.authorization:
        headers["Authorization"] = call.target.authorization
    headers.update(signature_headers(call.event_id, body, call.target.secrets, at=at))
    return headers


def result_of(call: WebhookCall, response: HTTPResponse, *, started_at: datetime, duration: timedelta) -> CallResult:
    """Make the result of an attempt that was answered: 200 is success; to a receiver that is signed to, any 2xx."""
    is_success = response.status == 200 or (bool(call.target.secrets) and 200 <= response.status < 300)
    error = "" if is_success else f"the receiver answered {response.status}"
    text = response.body[:RESPONSE_OCTETS].decode("utf-8", "replace")
    return CallResult(started_at, duration, is_success, response.status, error, text)


def ending_of(call: WebhookCall, result: CallResult) -> Ending:
    """Tell what becomes of a call."""
    if result.is_success:
        return Ending.DELIVERED
    # Standard Webhooks: 410 Gone asks to be told no more. Without a secret, the reference retries all the same.
    if result.code == 410 and call.target.secrets:
        return Ending.GONE
    return Ending.FAILED if is_exhausted(call) else Ending.RETRY


def metric_label(result: CallResult) -> str:
    """The status for counters: exact where it is a registered one, so that receivers cannot make up labels."""
    if not result.code:
        return "error"
    return str(result.code) if result.code in _KNOWN_CODES else f"{result.code // 100}xx"
