"""Transfer encodings for what we compose: base64 for files, quoted-printable for text (RFC 2045 section 6)."""

from __future__ import annotations

import binascii
from collections.abc import Iterator

_LINE_OCTETS = 57  # become 76 characters
_BLOCK_OCTETS = _LINE_OCTETS * 3000


def encode_base64(octets: bytes) -> Iterator[bytes]:
    """Yield base64 in lines of 76 characters that end in CRLF, in pieces of about 230 KB."""
    for offset in range(0, len(octets), _BLOCK_OCTETS):
        encoded = binascii.b2a_base64(octets[offset : offset + _BLOCK_OCTETS], newline=False)
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
