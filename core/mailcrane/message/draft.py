"""What a message is composed of, before it is one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from mailcrane.message.addresses import NamedMailbox
from mailcrane.model.message import HeaderField


class OctetSource(Protocol):
    """Octets that need not be held in memory, such as a temporary file."""

    @property
    def size_octets(self) -> int:
        """How many there are."""
        ...

    def pieces(self, octets: int) -> Iterator[bytes]:
        """Yield all from the start, in pieces of exactly so many; the last may be shorter. One reader at a time."""
        ...


class DraftFile(Struct, frozen=True):
    """A file that travels with a message.

    Attributes:
        octets: Its content; a source is read while the message is written.
        name: As people read it; may be empty.
        content_type: Empty means: found out from the octets.
        content_id: With or without angle brackets; empty for none.
    """

    octets: bytes | OctetSource
    name: str = ""
    content_type: str = ""
    content_id: str = ""


class Draft(Struct, frozen=True, kw_only=True):
    """A message to be composed. ``Bcc`` is not in it: those recipients are in the envelope alone.

    Attributes:
        message_id: With angle brackets; empty makes a new one.
        references: Message ids with angle brackets, oldest first; the last is the one replied to.
        date: None is now.
        text: Lines end in LF or CRLF; empty for none.
        html: As `text`; at least one of the two must be there.
        headers: Further fields, written in order behind the message's own.
        alternative_files: Other forms of the text.
        inline_files: Files that the HTML shows.
    """

    author: NamedMailbox
    to: tuple[NamedMailbox, ...] = ()
    cc: tuple[NamedMailbox, ...] = ()
    reply_to: tuple[NamedMailbox, ...] = ()
    message_id: str = ""
    references: tuple[str, ...] = ()
    date: datetime | None = None
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: tuple[HeaderField, ...] = ()
    alternative_files: tuple[DraftFile, ...] = ()
    inline_files: tuple[DraftFile, ...] = ()
    attached_files: tuple[DraftFile, ...] = ()


class CompositionError(ValueError):
    """A draft cannot become a message; the text is safe to show to the caller.

    Attributes:
        code: ``user``, ``malformedMessageID`` or ``missingBody``.
        field: Which part of the draft it is, in words.
    """

    def __init__(self, code: str, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.code = code
        self.field = field
