"""Transfer encodings for what we compose: base64 for files, quoted-printable for text (RFC 2045 section 6)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

_LINE_OCTETS = 57  # become 76 characters
_BLOCK_OCTETS = _LINE_OCTETS * 3000

_MAX_QUOTED_LINE = 76
_TO_QUOTE = re.compile(rb"[^\t\x20-<>-~]")
_WHITE_SPACE_AT_END = re.compile(rb"[ \t]\Z")


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
    quoted = _TO_QUOTE.sub(lambda match: b"=%02X" % match.group()[0], line)
    # RFC 2045 section 6.7 (3): white space at the end of a line may be dropped on the way.
    quoted = _WHITE_SPACE_AT_END.sub(lambda match: b"=%02X" % match.group()[0], quoted)
    if len(quoted) <= _MAX_QUOTED_LINE:
        return quoted
    pieces: list[bytes] = []
    start = 0
    while len(quoted) - start > _MAX_QUOTED_LINE:
        end = start + _MAX_QUOTED_LINE - 1
        escape = quoted.rfind(b"=", end - 2, end)  # never inside =XX
        if escape >= 0:
            end = escape
        pieces.append(quoted[start:end])
        start = end
    pieces.append(quoted[start:])
    return b"=\r\n".join(pieces)
