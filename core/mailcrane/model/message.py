"""Content as it travels and as it is stored (RFC 5322)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct


class HeaderField(Struct, frozen=True):
    """One header field to be written (RFC 5322 section 2.2).

    Attributes:
        name: ASCII, without the colon.
        value: May hold CRLF followed by white space where it is folded; no other control characters.
    """

    name: str
    value: str

    def __bytes__(self) -> bytes:
        return f"{self.name}: {self.value}\r\n".encode()


class Content(Protocol):
    """A message's octets: one header, an empty line, a body. Immutable, and never held whole when it is large."""

    @property
    def size_octets(self) -> int:
        """Length in octets, with CRLF line ends."""
        ...

    @property
    def header(self) -> bytes:
        """The header section as octets, up to and with the CRLF of its last field, without the empty line."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield all octets from the start in chunks of at most 256 KB; nothing is locked between chunks."""
        ...


class ContentInfo(Struct, frozen=True):
    """What is known of stored content without reading it.

    Attributes:
        id: Of the stored content.
        size_octets: Length of the content.
        body_offset: Where the body begins: after the empty line that ends the header section.
        message_id: With its angle brackets; empty where there is none.
        subject: Decoded, for people to read.
        has_8bit: Whether an octet above 127 occurs.
        needs_smtputf8: Whether a header field is not ASCII (RFC 6532), in any part.
    """

    id: int
    size_octets: int
    body_offset: int
    message_id: str = ""
    subject: str = ""
    has_8bit: bool = False
    needs_smtputf8: bool = False
