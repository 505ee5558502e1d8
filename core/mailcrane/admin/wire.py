"""What goes over the control socket: one JSON object a line, bounded, no I/O here.

The server greets with ``{"mailcrane": VERSION, "control": 1}``. A request is ``{"op": NAME, "args": {…}}``, an answer
``{"result": {…}}`` or ``{"error": {"code": …, "message": …}}``. One connection may carry several, one after another.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

import mailcrane
from mailcrane.config.convert import encode_json

CONTROL_VERSION = 1
MAX_LINE_OCTETS = 64 * 1024 * 1024


class Greeting(Struct, frozen=True):
    """The first line of the server."""

    mailcrane: str
    control: int


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """An operation with its arguments."""

    op: str
    args: dict[str, Any] = {}


class ErrorAnswer(Struct, frozen=True):
    """Why an operation was refused."""

    code: str
    message: str


class Answer(Struct, frozen=True, omit_defaults=True):
    """The answer to a request: one of both."""

    result: Raw = Raw()
    error: ErrorAnswer | None = None


def greeting() -> bytes:
    """Return the server's first line."""
    return encode_json(Greeting(mailcrane.__version__, CONTROL_VERSION)) + b"\n"


def result_line(result: Struct) -> bytes:
    """Return the line that answers a result."""
    return encode_json(Answer(result=Raw(encode_json(result)))) + b"\n"


def error_line(code: str, message: str) -> bytes:
    """Return the line that answers an error."""
    return msgspec.json.encode(Answer(error=ErrorAnswer(code, message))) + b"\n"
