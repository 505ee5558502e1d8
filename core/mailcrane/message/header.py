"""The header section: its fields with where they stand, unfolded and decoded (RFC 5322 section 2.2, RFC 6532).

Tolerant where the world is: bare LF ends a line, white space may stand before the colon. Addresses are read by
`mailcrane.message.addresses`, dates by `mailcrane.message.date`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from mailcrane.message import charset, encoded_word
from mailcrane.model.address import AddressError, Mailbox

MAX_HEADER_OCTETS = 1024 * 1024
MAX_HEADER_FIELDS = 10_000

# One field with its folded lines (RFC 5322 section 2.2.3). Where the last line has no end, the input ended there.
FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")
_LINE_ENDS = re.compile(r"\r?\n")


class HeaderError(ValueError):
    """A header section, or a field of it, is not what RFC 5322 says; the message is safe to show to a peer."""


class Field(Struct, frozen=True):
    """One header field.

    Attributes:
        name: As written.
        raw: The octets of the value, after the colon, with folding and without the final line end.
        offset: Of the name, from the start of the octets that were parsed.
        end: After the field's final line end.
    """

    name: str
    raw: bytes
    offset: int
    end: int

    @property
    def value(self) -> str:
        """The value unfolded and without white space around it; octets that are not UTF-8 are read as windows-1252."""
        return unfold(self.raw)

    @property
    def decoded(self) -> str:
        """The value with its encoded words decoded (RFC 2047)."""
        return encoded_word.decode(self.value)


class Header:
    """The fields of a header section, in order; looked up by name without regard to case.

    Attributes:
        fields: All fields.
        offset: Where the section begins.
        end: After the CRLF of the last field.
        body_offset: Where the body begins: after the empty line, or `end` without one.
        is_terminated: Whether the empty line is there.
    """

    __slots__ = ("_by_name", "body_offset", "end", "fields", "is_terminated", "offset")

    def __init__(self, fields: tuple[Field, ...], offset: int, end: int, body_offset: int) -> None:
        self.fields = fields
        self.offset = offset
        self.end = end
        self.body_offset = body_offset
        self.is_terminated = body_offset > end
        self._by_name: dict[str, list[Field]] = {}
        for field in fields:
            self._by_name.setdefault(field.name.lower(), []).append(field)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._by_name

    def all(self, name: str) -> tuple[Field, ...]:
        """All fields of a name, from the top."""
        return tuple(self._by_name.get(name.lower(), ()))

    def first(self, name: str) -> Field | None:
        """The topmost field of a name."""
        fields = self._by_name.get(name.lower())
        return fields[0] if fields else None

    def get(self, name: str) -> str | None:
        """The unfolded value of the topmost field of a name."""
        field = self.first(name)
        return None if field is None else field.value

    def get_all(self, name: str) -> tuple[str, ...]:
        """The unfolded values of all fields of a name, from the top."""
        return tuple(field.value for field in self.all(name))

    def decoded(self, name: str) -> str:
        """The value of the topmost field of a name with encoded words decoded; empty where there is none."""
        field = self.first(name)
        return "" if field is None else field.decoded


def parse_header(
    octets: bytes,
    offset: int = 0,
    *,
    is_strict: bool = True,
    max_octets: int = MAX_HEADER_OCTETS,
    max_fields: int = MAX_HEADER_FIELDS,
) -> Header:
    """Parse the header section that begins at an offset.

    Args:
        is_strict: Whether a line that is neither a field nor a continuation is an error; otherwise it is passed over.

    Raises:
        HeaderError: a line is not a field, or the section is longer than a limit.
    """
    fields: list[Field] = []
    position, length, limit = offset, len(octets), offset + max_octets
    match_field = FIELD.match
    while True:
        if position >= length:
            body_offset = position
            break
        if octets.startswith(b"\r\n", position):
            body_offset = position + 2
            break
        if octets.startswith(b"\n", position):
            body_offset = position + 1
            break
        match = match_field(octets, position)
        if match is None:
            if is_strict:
                raise HeaderError("a line of the header is not a header field")
            after = octets.find(b"\n", position)
            position = length if after < 0 else after + 1
        else:
            name, raw = match.groups()
            end = match.end()
            fields.append(Field(name.decode("ascii"), raw.removesuffix(b"\r"), position, end))
            position = end
        if position > limit or len(fields) > max_fields:
            raise HeaderError("the header is too long")
    return Header(tuple(fields), offset, position, body_offset)


def unfold(raw: bytes) -> str:
    """Return a raw value as one line of text, without white space around it (RFC 5322 section 2.2.3)."""
    text = raw.decode("ascii") if raw.isascii() else charset.decode(raw)
    if "\n" in text:
        text = _LINE_ENDS.sub("", text)
    return text.strip(" \t\r")


def message_id(value: str) -> str:
    """Return the message id in a field's value with its angle brackets, or an empty string."""
    start = value.find("<")
    end = value.find(">", start + 1)
    if start < 0 or end < 0:
        return ""
    inside = value[start + 1 : end].strip()
    return f"<{inside}>" if inside else ""


def canonical_message_id(value: str) -> str:
    """Return a message id in the form in which ids are compared: without brackets, lower case, quoting normalised.

    What does not read as ``local@domain`` is compared as it is, in lower case.
    """
    start = value.find("<")
    inside = value[start + 1 :] if start >= 0 else value
    end = inside.find(">")
    if end >= 0:
        inside = inside[:end]
    inside = inside.strip().lower()
    try:
        return str(Mailbox.parse(inside)).lower()
    except AddressError:
        return inside
