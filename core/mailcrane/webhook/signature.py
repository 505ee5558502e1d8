"""Signatures of webhook calls (Standard Webhooks 1.0.0): receivers know who called, and when."""

from __future__ import annotations

import binascii
import functools
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime

_PREFIX = "whsec_"


def signature_headers(event_id: str, body: bytes, secrets: Sequence[str], *, at: datetime) -> dict[str, str]:
    """Return the header fields that identify and sign one attempt.

    Args:
        event_id: Equal over all attempts of all calls of one event, so that receivers notice repetition.
        secrets: One signature is made with each, so that a receiver can change over; without any nothing is signed.
        at: When the attempt is made; receivers refuse old ones.
    """
    timestamp = str(int(at.timestamp()))
    headers = {"webhook-id": event_id, "webhook-timestamp": timestamp}
    if secrets:
        signed = f"{event_id}.{timestamp}.".encode() + body
        headers["webhook-signature"] = " ".join([_sign(secret, signed) for secret in secrets])
    return headers


def _sign(secret: str, signed: bytes) -> str:
    digest = hmac.digest(_key(secret), signed, "sha256")
    return "v1," + b64encode(digest).decode()


@functools.lru_cache(maxsize=1024)
def _key(secret: str) -> bytes:
    """The octets of a secret; one that is not base64 stands for itself, which is better than no signature."""
    text = secret.removeprefix(_PREFIX)
    try:
        return b64decode(text, validate=True) or text.encode()
    except (binascii.Error, ValueError):
        return text.encode()
