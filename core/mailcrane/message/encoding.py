"""Transfer encodings for what we compose: base64 for files, quoted-printable for text (RFC 2045 section 6)."""

from __future__ import annotations

import binascii
from collections.abc import Iterator

from mailcrane.message.draft import OctetSource

_LINE_OCTETS = 57  # become 76 characters
_BLOCK_OCTETS = _LINE_OCTETS * 3000


def pieces_of(octets: bytes | OctetSource, size: int) -> Iterator[bytes]:
    """Yield octets in pieces of so many; the last may be shorter."""
    if not isinstance(octets, bytes):
        return octets.pieces(size)
    return (octets[offset : offset + size] for offset in range(0, len(octets), size))


def base64_size(size_octets: int) -> int:
    """Return how many octets `encode_base64` makes of so many."""
    return 4 * -(-size_octets // 3) + 2 * -(-size_octets // _LINE_OCTETS)


def encode_base64(octets: bytes | OctetSource) -> Iterator[bytes]:
    """Yield base64 in lines of 76 characters that end in CRLF, in pieces of about 230 KB."""
    for piece in pieces_of(octets, _BLOCK_OCTETS):
        encoded = binascii.b2a_base64(piece, newline=False)
        lines = [encoded[at : at + 76] for at in range(0, len(encoded), 76)]
        lines.append(b"")
        yield b"\r\n".join(lines)


def encode_quoted_printable(text: bytes) -> bytes:
    """Encode text whose lines end in CRLF; no line becomes longer than 76 characters, a bare CR or LF is quoted."""
    return b"\r\n".join([_quote_line(line) for line in text.split(b"\r\n")])


def _quote_line(line: bytes) -> bytes:
    # Taken as binary, so that the only line ends in the result are soft ones. White space at the end is quoted: it may
    # be dropped on the way (RFC 2045 section 6.7, rule 3).
    return binascii.b2a_qp(line, istext=False).replace(b"\n", b"\r\n")
