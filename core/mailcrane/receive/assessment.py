"""Merges what plugins answer on a message: evidence and header fields. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mailcrane.model.message import HeaderField
from mailcrane.model.receive import Assessment

# RFC 5322 section 2.2: a field name is printable ASCII without the colon. Shorter than a line may be.
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}\Z")

# A line end in a value must be the start of a fold, or it would end the field and smuggle in another one.
_BROKEN_FOLD = re.compile(r"\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# RFC 5322 section 2.1.1: a line has at most 998 octets without its CRLF.
_MAX_LINE_OCTETS = 998


def merge_assessments(answers: Iterable[tuple[str, Assessment | Sequence[Assessment]]]) -> tuple[Assessment, ...]:
    """Put the evidence of all plugins together, in the order of the plugins.

    Evidence of the same name is kept beside each other: a judge sees what each plugin found. Items that are no
    `Assessment` are left out.
    """
    merged: list[Assessment] = []
    for _, answer in answers:
        items = (answer,) if isinstance(answer, Assessment) else answer
        merged.extend(item for item in items if isinstance(item, Assessment))
    return tuple(merged)


def merge_header_fields(answers: Iterable[tuple[str, HeaderField | Sequence[HeaderField]]]) -> tuple[HeaderField, ...]:
    """Put the header fields of all plugins together, in the order of the plugins.

    A field that would break the header (`header_field_problem`), and items that are no `HeaderField`, are left out.
    """
    merged: list[HeaderField] = []
    for _, answer in answers:
        items = (answer,) if isinstance(answer, HeaderField) else answer
        merged.extend(item for item in items if isinstance(item, HeaderField) and not header_field_problem(item))
    return tuple(merged)


def header_field_problem(field: HeaderField) -> str:
    """Say why a field cannot be written as it is; empty when it can."""
    if not _FIELD_NAME.match(field.name):
        return "the name is not printable ASCII without a colon"
    if _BROKEN_FOLD.search(field.value):
        return "the value has a control character, or a line end that is not followed by white space"
    try:
        octets = bytes(field)
    except UnicodeEncodeError:
        return "the value is not valid Unicode"
    if any(len(line) > _MAX_LINE_OCTETS for line in octets.split(b"\r\n")):
        return "a line is longer than 998 octets"
    return ""
