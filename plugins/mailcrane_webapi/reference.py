"""The reference page of the API, made from the table of methods and their types."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from mailcrane_webapi.decoding import without_none
from mailcrane_webapi.methods import CODES, METHODS, Method

_INTRODUCTION = """\
# The web API

Made from the types of the API, with `make docs`: do not edit. The same as an OpenAPI 3.1 document is at
`/webapi/v0/openapi.json` of a running server, and each method has a page there to try it.
[How to send from an application](../how-to/send-from-an-application.md) has examples.

## A call

`POST /webapi/v0/METHOD` with basic authentication by an email address of the account and its password. The body is a
form, `application/x-www-form-urlencoded` or `multipart/form-data`, whose field `request` holds JSON. Names in it match
in any case; null stands for what is left out; unknown names are refused. An instant is RFC 3339 with an offset.

Files travel in the JSON, as base64, or beside it as parts of a multipart form named `alternativefile`, `inlinefile` and
`attachedfile`, each as often as needed. Fields may have 10 MB together; files are limited by `max_message_octets` of
`[plugin.webapi]`.

| status | body | when |
|---|---|---|
| 200 | JSON | the call is done |
| 400 | JSON with `Code` and `Message` | the method refuses, or failed: see the codes |
| 401 | text | no basic authentication, or it is wrong, or the login is disabled |
| 403 | text | a login without TLS where the listener refuses it |
| 404, 405 | text | no such method; neither GET nor POST |
| 409 | JSON with `Code` and `Message` | see below |
| 429 | text | too many failed logins, or requests, from this network |
| 500 | text | a fault of the server's before the method |

## Doing it once

With the header field `Idempotency-Key: KEY` a call that changes something is carried out once. For 24 hours the same
call with the same key gets the same answer, also after a crash of the server. The same call means: the same method, the
same request, the same files with their names and types; how the form is encoded does not count.

- Another call with the key: 409, `idempotencyKeyReused`.
- The same call is under way: the answer waits for it, up to 30 seconds; then 409, `idempotencyKeyInUse`, with
  `Retry-After`.
- A call that was refused is not remembered: correct it and use the key again.

A key has 1 to 255 visible ASCII characters, with or without quotation marks around it; a UUID is a good one. It is the
account's own. Of more than 500,000 keys of an account in a day the oldest may be forgotten early.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([_INTRODUCTION, *_codes(), *(line for method in METHODS.values() for line in _method(method))])


def _codes() -> Iterator[str]:
    yield "## Codes"
    yield ""
    yield "| code | meaning |"
    yield "|---|---|"
    for code, meaning in CODES.items():
        yield f"| `{code}` | {meaning} |"
    yield ""


def _method(method: Method) -> Iterator[str]:
    yield f"## {method.name}"
    yield ""
    yield method.summary
    yield ""
    shown: dict[type[Struct], None] = {}
    for title, kind in (("Request", method.request), ("Response", method.response)):
        yield f"{title}: {_text_of(kind)}"
        yield ""
        yield from _fields(kind)
        shown |= dict.fromkeys(_named_in(kind))
    for kind in shown:
        yield f"`{kind.__name__}`: {_text_of(kind)}"
        yield ""
        yield from _fields(kind)
    yield f"Codes: {', '.join(f'`{code}`' for code in method.codes)}."
    yield ""


def _fields(kind: type[Struct]) -> Iterator[str]:
    fields = msgspec.structs.fields(kind)
    if not fields:
        return
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for field in fields:
        yield f"| `{field.encode_name}` | {_type_words(field.type)} | {_description(field.type)} |"
    yield ""


def _text_of(kind: type[Struct]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]


def _description(kind: Any) -> str:
    return next((meta.description or "" for meta in typing.get_args(kind) if isinstance(meta, msgspec.Meta)), "")


def _plain(kind: Any) -> Any:
    """Return a type without ``Annotated`` and None."""
    inner = without_none(kind)
    return typing.get_args(inner)[0] if typing.get_origin(inner) is typing.Annotated else inner


def _type_words(kind: Any) -> str:
    inner = _plain(kind)
    if typing.get_origin(inner) is list:
        return f"list of {_type_words(typing.get_args(inner)[0])}"
    if typing.get_origin(inner) is dict:
        return f"object of {_type_words(typing.get_args(inner)[1])}"
    if isinstance(inner, type) and issubclass(inner, Struct):
        return f"`{inner.__name__}`"
    return {str: "text", bool: "true or false", int: "number", datetime: "instant"}[inner]


def _named_in(kind: type[Struct]) -> Iterator[type[Struct]]:
    for field in msgspec.structs.fields(kind):
        inner = _plain(field.type)
        while typing.get_origin(inner) is list:
            inner = _plain(typing.get_args(inner)[0])
        if isinstance(inner, type) and issubclass(inner, Struct):
            yield inner
