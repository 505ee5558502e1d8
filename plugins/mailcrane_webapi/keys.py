"""Idempotency keys: how one is written, and what makes two calls the same (draft-ietf-httpapi-idempotency-key-header).

A call is known by its method, its decoded request, and the files beside it. How the form was encoded does not count: an
honest retry has another multipart boundary.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from mailcrane.api.http import Scope
from mailcrane_webapi.form import Form
from mailcrane_webapi.methods import Method
from mailcrane_webapi.wire import APIError

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
KEY_PATTERN = rf"^[\x21-\x7e]{{1,{MAX_KEY_LENGTH}}}$"

_KEY = re.compile(KEY_PATTERN.removesuffix("$") + r"\Z")
# RFC 8941 section 3.3.3: as the draft has it. Most clients send the bare text.
_QUOTED = re.compile(r'"(?P<text>(?:[^"\\]|\\["\\])*)"\Z')
_ESCAPE = re.compile(r"\\(.)")


def idempotency_key(scope: Scope) -> str:
    """Return the key of a request, without the quotes it may have; empty where there is none.

    Raises:
        APIError: with the code ``protocol``.
    """
    values = [value for name, value in scope["headers"] if name == HEADER.lower().encode()]
    if not values:
        return ""
    if len(values) > 1:
        raise APIError("protocol", f"more than one {HEADER}")
    text: str = values[0].strip().decode("latin-1")
    quoted = _QUOTED.match(text)
    if quoted is not None:
        text = _ESCAPE.sub(r"\1", quoted["text"])
    elif text.startswith('"'):
        raise APIError("protocol", f"{HEADER} begins with a quotation mark that is not closed")
    if not _KEY.match(text):
        raise APIError("protocol", f"{HEADER} must have 1 to {MAX_KEY_LENGTH} visible ASCII characters")
    return text


def fingerprint(method: Method, request: msgspec.Struct, form: Form) -> bytes:
    """Return what is equal for equal calls. Reads all files: hand it to a thread where they are large."""
    files = [(file.field, file.name, file.content_type, file.content_id, file.sha256()) for file in form.files]
    return hashlib.sha256(msgspec.json.encode((method.name, request, files), order="deterministic")).digest()
