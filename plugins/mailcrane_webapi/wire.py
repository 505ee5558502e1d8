"""The types of the JSON that travels, and its decoding.

Applications use clients made for Go's ``encoding/json``. So names match without regard to case, null stands for
nothing, what follows the first value is ignored, and unknown names are refused. JSON that needs none of this is decoded
by msgspec alone.
"""

from __future__ import annotations

import json
import typing
from datetime import datetime
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta, Struct, field

Instant = Annotated[datetime, Meta(tz=True)]

_JSON_WHITE_SPACE = " \t\r\n"
_MAX_DIGITS = 20


class APIError(Exception):
    """A call that failed, as the application is told.

    Attributes:
        code: A word for programs.
        message: For people; safe to show.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ErrorBody(Struct, frozen=True):
    """The body of a response with status 400."""

    code: str = field(name="Code")
    message: str = field(name="Message")


class NameAddress(Struct, frozen=True, forbid_unknown_fields=True):
    """An address with the name that is shown for it."""

    name: str | None = field(name="Name", default=None)
    address: str | None = field(name="Address", default=None)


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file in JSON; `data` is standard base64."""

    name: str | None = field(name="Name", default=None)
    content_type: str | None = field(name="ContentType", default=None)
    content_id: str | None = field(name="ContentID", default=None)
    data: str | None = field(name="Data", default=None)


Addresses = list[NameAddress | None] | None
Files = list[File | None] | None


class SendRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request of Send."""

    author: Addresses = field(name="From", default=None)
    to: Addresses = field(name="To", default=None)
    cc: Addresses = field(name="CC", default=None)
    bcc: Addresses = field(name="BCC", default=None)
    reply_to: Addresses = field(name="ReplyTo", default=None)
    message_id: str | None = field(name="MessageID", default=None)
    references: list[str | None] | None = field(name="References", default=None)
    date: Instant | None = field(name="Date", default=None)
    subject: str | None = field(name="Subject", default=None)
    text: str | None = field(name="Text", default=None)
    html: str | None = field(name="HTML", default=None)
    extra: dict[str, str | None] | None = field(name="Extra", default=None)
    headers: list[list[str | None] | None] | None = field(name="Headers", default=None)
    alternative_files: Files = field(name="AlternativeFiles", default=None)
    inline_files: Files = field(name="InlineFiles", default=None)
    attached_files: Files = field(name="AttachedFiles", default=None)
    require_tls: bool | None = field(name="RequireTLS", default=None)
    future_release: Instant | None = field(name="FutureRelease", default=None)
    save_sent: bool | None = field(name="SaveSent", default=None)


class SubmissionAnswer(Struct, frozen=True):
    """What one recipient became; the address is as it stood in the request."""

    address: str = field(name="Address")
    queue_message_id: int = field(name="QueueMsgID")
    from_id: str = field(name="FromID")


class SendResponse(Struct, frozen=True):
    """The response of Send."""

    message_id: str = field(name="MessageID")
    submissions: list[SubmissionAnswer] = field(name="Submissions")


_encoder = msgspec.json.Encoder()
_send_decoder = msgspec.json.Decoder(SendRequest)


def encode(value: Struct) -> bytes:
    """Encode a response: compact JSON and a line feed."""
    return _encoder.encode(value) + b"\n"


def decode_send(octets: bytes) -> SendRequest:
    """Decode the request of Send.

    Raises:
        APIError: with the code ``protocol``.
    """
    try:
        return _send_decoder.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return decode_loosely(octets, SendRequest)


T = typing.TypeVar("T", bound=Struct)


def decode_loosely(octets: bytes, kind: type[T]) -> T:
    """Decode as Go does: the first value only, names in any case, text that is not UTF-8 replaced.

    Raises:
        APIError: with the code ``protocol``.
    """
    text = octets.decode("utf-8", "replace").lstrip(_JSON_WHITE_SPACE)
    try:
        value, _ = _decoder.raw_decode(text)
        return msgspec.convert(_with_canonical_names(value, kind), kind)
    except (ValueError, RecursionError) as error:
        # msgspec's errors are ValueErrors too.
        words = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise APIError("protocol", f"parsing request: {words}") from None


class _Object(list[tuple[str, Any]]):
    """The members of a JSON object, as they stand."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid value {name}")


def _parse_integer(digits: str) -> int:
    # No field of ours is a number; Python refuses to read very long ones, in words for Python programmers.
    return int(digits[:_MAX_DIGITS])


_decoder = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse_constant, parse_int=_parse_integer)


def _with_canonical_names(value: Any, kind: Any) -> Any:
    """Return plain values with the names that msgspec knows, for a type of this module."""
    if value is None and isinstance(kind, type) and issubclass(kind, Struct):
        return {}
    if isinstance(value, str):
        # A lone surrogate can be escaped in JSON, but is no text.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    inner = _without_none(kind)
    if isinstance(value, _Object):
        if isinstance(inner, type) and issubclass(inner, Struct):
            return _members(value, inner)
        element = typing.get_args(inner)[-1] if typing.get_origin(inner) is dict else Any
        return {_with_canonical_names(name, str): _with_canonical_names(member, element) for name, member in value}
    if isinstance(value, list):
        element = typing.get_args(inner)[0] if typing.get_origin(inner) is list else Any
        return [_with_canonical_names(item, element) for item in value]
    return value


def _members(members: _Object, kind: type[Struct]) -> dict[str, Any]:
    fields = {known.encode_name: known.type for known in msgspec.structs.fields(kind)}
    by_folded = {name.casefold(): name for name in fields}
    found: dict[str, Any] = {}
    for name, value in members:
        known = name if name in fields else by_folded.get(name.casefold())
        if known is None:
            raise ValueError(f"unknown field {json.dumps(name)}")
        found[known] = _with_canonical_names(value, fields[known])
    return found


def _without_none(kind: Any) -> Any:
    choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
    is_union = type(None) in typing.get_args(kind)
    return choices[0] if is_union and len(choices) == 1 else kind
