"""The MIME structure of a message: where every part's header and body stand (RFC 2045, RFC 2046).

Made once by `mailcrane.message.scanner` when a message is stored, and kept with it as octets.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from mailcrane.message.mime_fields import decode_file_name


class Part(Struct, frozen=True, array_like=True):
    """One part; the message itself is the outermost. Offsets count from the start of the message.

    Attributes:
        header_offset: Where the part's header begins.
        body_offset: Where its body begins; equal to `end_offset` for an empty body.
        end_offset: After the last octet of its body. The line end before a boundary belongs to the boundary.
        line_count: Line ends in the body.
        media_type: Lower case; empty without a Content-Type, which stands for text/plain.
        media_subtype: Lower case.
        params: Of the Content-Type; names in lower case, RFC 2231 undone.
        transfer_encoding: Lower case; empty without the field.
        content_id: As written, with angle brackets.
        description: As written.
        disposition: Lower case, without parameters.
        disposition_params: Names in lower case, RFC 2231 undone.
        md5: Of Content-MD5, as written.
        language: Of Content-Language, as written.
        location: Of Content-Location, as written.
        parts: Of a multipart; may be empty when it was cut short.
        message: The message inside a message/rfc822 or message/global.
    """

    header_offset: int
    body_offset: int
    end_offset: int
    line_count: int
    media_type: str = ""
    media_subtype: str = ""
    params: dict[str, str] = {}
    transfer_encoding: str = ""
    content_id: str = ""
    description: str = ""
    disposition: str = ""
    disposition_params: dict[str, str] = {}
    md5: str = ""
    language: str = ""
    location: str = ""
    parts: tuple[Part, ...] = ()
    message: Part | None = None

    @property
    def size_octets(self) -> int:
        """Length of the body as it stands, before its transfer encoding is undone."""
        return self.end_offset - self.body_offset

    @property
    def content_type(self) -> str:
        """``type/subtype`` in lower case; ``/`` without a Content-Type."""
        return f"{self.media_type}/{self.media_subtype}"

    @property
    def is_multipart(self) -> bool:
        """Whether the body consists of parts."""
        return self.media_type == "multipart"

    @property
    def file_name(self) -> str:
        """The name that a file would be stored under, decoded; empty where there is none. Not safe as a path."""
        return decode_file_name(self.disposition_params.get("filename") or self.params.get("name") or "")

    def walk(self) -> Iterator[Part]:
        """Yield this part and all below, parents first, messages inside messages included."""
        pending = [self]
        while pending:
            part = pending.pop()
            yield part
            if part.message is not None:
                pending.append(part.message)
            pending.extend(reversed(part.parts))


class Structure(Struct, frozen=True, array_like=True):
    """The structure of a message.

    Attributes:
        problem: Why the message could not be taken apart and is held for application/octet-stream; empty when it was.
    """

    root: Part
    problem: str = ""

    def pack(self) -> bytes:
        """The structure as octets, to be stored."""
        return _encoder.encode(self)

    @staticmethod
    def unpack(octets: bytes) -> Structure:
        """The structure that `pack` made octets of.

        Raises:
            msgspec.DecodeError: they are no packed structure.
        """
        return _decoder.decode(octets)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Structure)
