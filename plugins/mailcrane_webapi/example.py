"""Requests to look at, made from their types."""

from __future__ import annotations

import typing
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from mailcrane_webapi.decoding import without_none
from mailcrane_webapi.wire import SendRequest

# A header is a list of two texts, which its type does not say.
_BY_HAND: dict[tuple[type[Struct], str], Any] = {(SendRequest, "Headers"): [["", ""]]}


def example_of(kind: Any) -> Any:
    """Return a value of a type as JSON has it, with everything that may be left out filled in once."""
    kind = without_none(kind)
    origin = typing.get_origin(kind)
    if origin is list:
        return [example_of(typing.get_args(kind)[0])]
    if origin is dict:
        return {"example": example_of(typing.get_args(kind)[1])}
    if origin is typing.Annotated:
        return example_of(typing.get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, Struct):
        return {
            known.encode_name: _BY_HAND.get((kind, known.encode_name)) or example_of(known.type)
            for known in msgspec.structs.fields(kind)
        }
    if kind is datetime:
        return "0001-01-01T00:00:00Z"
    return kind()
