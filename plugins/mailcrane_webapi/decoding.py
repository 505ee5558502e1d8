"""From the JSON of a request to its type.

Applications use clients made for Go's ``encoding/json``. So names match without regard to case, null stands for
nothing, what follows the first value is ignored, and unknown names are refused. JSON that needs none of this is decoded
by msgspec alone.
"""

from __future__ import annotations

import json
import typing
from functools import cache
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Struct

from mailcrane_webapi.wire import APIError

_JSON_WHITE_SPACE = " \t\r\n"
_MAX_DIGITS = 20

T = typing.TypeVar("T", bound=Struct)


@cache
def _strict_decoder(kind: type[Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode_request(octets: bytes, kind: type[T]) -> T:
    """Decode the request of a method.

    Raises:
        APIError: with the code ``protocol``.
    """
    try:
        return typing.cast(T, _strict_decoder(kind).decode(octets))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return decode_loosely(octets, kind)


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


def without_none(kind: Any) -> Any:
    """Return a type without ``Annotated`` and without the None that it may be instead."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
    is_union = type(None) in typing.get_args(kind)
    return choices[0] if is_union and len(choices) == 1 else kind


class _Object(list[tuple[str, Any]]):
    """The members of a JSON object, as they stand."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid value {name}")


def _parse_integer(digits: str) -> int:
    # No field of ours is a number; Python refuses to read very long ones, in words for Python programmers.
    return int(digits[:_MAX_DIGITS])


_decoder = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse_constant, parse_int=_parse_integer)


def _with_canonical_names(value: Any, kind: Any) -> Any:
    """Return plain values with the names that msgspec knows, for a type of `mailcrane_webapi.wire`."""
    if value is None and isinstance(kind, type) and issubclass(kind, Struct):
        return {}
    if isinstance(value, str):
        # A lone surrogate can be escaped in JSON, but is no text.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    inner = without_none(kind)
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
