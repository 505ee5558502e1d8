"""What the store needs to know of a message, found in one pass when it arrives."""

from __future__ import annotations

from msgspec import Struct

from mailcrane.message import encoded_word
from mailcrane.message.header import message_id, unfold
from mailcrane.message.scanner import StructureScanner
from mailcrane.message.structure import Structure


class Inspection(Struct, frozen=True):
    """What is known of a message without reading it again.

    Attributes:
        size_octets: Length of the message.
        body_offset: Where the body begins.
        is_terminated: Whether an empty line ends the header.
        message_id: With its angle brackets; empty where there is none.
        subject: Decoded.
        has_8bit: Whether an octet above 127 occurs.
        needs_smtputf8: Whether a header field of any part is not ASCII (RFC 6532).
        structure: To be packed and stored.
    """

    size_octets: int
    body_offset: int
    is_terminated: bool
    message_id: str
    subject: str
    has_8bit: bool
    needs_smtputf8: bool
    structure: Structure


class Inspector:
    """Inspects a message that arrives in chunks: `feed` them in order, then `finish`."""

    def __init__(self) -> None:
        self._scanner = StructureScanner()

    def feed(self, octets: bytes) -> None:
        """Take the next octets, best 64 KB or more."""
        self._scanner.feed(octets)

    def finish(self) -> Inspection:
        """Return what is known. Never raises."""
        scanner = self._scanner
        structure = scanner.finish()
        fields = scanner.top_fields
        raw_id, raw_subject = fields.get(b"message-id"), fields.get(b"subject")
        return Inspection(
            scanner.size_octets,
            structure.root.body_offset,
            scanner.is_terminated,
            "" if raw_id is None else message_id(unfold(raw_id)),
            "" if raw_subject is None else encoded_word.decode(unfold(raw_subject)),
            scanner.has_8bit,
            scanner.has_8bit_header,
            structure,
        )


def inspect(octets: bytes) -> Inspection:
    """Inspect a whole message. Never raises."""
    inspector = Inspector()
    inspector.feed(octets)
    return inspector.finish()
