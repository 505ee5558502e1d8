"""What a part's body says once its transfer encoding is undone (RFC 2045 section 6), and which part people read.

Tolerant: what a sender broke is read as far as it goes.
"""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from mailcrane.message import charset
from mailcrane.message.structure import Part

_NOT_BASE64 = bytes(sorted(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")))
_SPACE_AT_LINE_END = re.compile(rb"[ \t]\r?\n")


def decode_transfer(octets: bytes, transfer_encoding: str) -> bytes:
    """Undo a transfer encoding; an unknown one is passed through. Never raises."""
    if transfer_encoding == "base64":
        return _decode_base64(octets)
    if transfer_encoding == "quoted-printable":
        return _decode_quoted_printable(octets)
    return octets


def decoded_body(message: bytes, part: Part) -> bytes:
    """The decoded body of a part of a message."""
    return decode_transfer(message[part.body_offset : part.end_offset], part.transfer_encoding)


def decoded_size(message: bytes, part: Part) -> int:
    """Length of the decoded body in octets."""
    if part.transfer_encoding in {"base64", "quoted-printable"}:
        return len(decoded_body(message, part))
    return part.size_octets


def decoded_text(message: bytes, part: Part, *, max_octets: int = 1024 * 1024) -> str:
    """The text of a part with LF line ends, cut after so many decoded octets."""
    octets = decoded_body(message, part)[:max_octets]
    return charset.decode(octets, part.params.get("charset", "")).replace("\r\n", "\n")


class ReadableParts(NamedTuple):
    """The parts that people read; None where there is none."""

    text: Part | None
    html: Part | None


def readable_parts(root: Part) -> ReadableParts:
    """Choose the text/plain and the text/html part that stand for a message.

    A part that is itself text is chosen. Of a multipart/alternative all direct parts count, a later one replacing an
    earlier of its kind; of any other multipart only the first that is readable. Only where no direct part is readable
    are they searched in turn, and the first hit wins.
    """
    if not root.is_multipart:
        return ReadableParts(*_as_readable(root))
    return _search(root)


def written_parts(root: Part) -> ReadableParts:
    """Choose the text/plain and the text/html part that the author wrote: the first of each, however deep.

    Unlike `readable_parts` it finds HTML that stands in a multipart/related beside the text, and never takes a file
    that is attached, or a message that is attached, for what was written.
    """
    found: list[Part | None] = [None, None]
    pending = [root]
    while pending:
        part = pending.pop()
        pending.extend(reversed(part.parts))
        if part.disposition != "attachment":
            found = [before or now for before, now in zip(found, _as_readable(part), strict=True)]
    return ReadableParts(*found)


def _search(part: Part) -> ReadableParts:
    text: Part | None = None
    html: Part | None = None
    is_alternative = part.media_subtype == "alternative"
    for child in part.parts:
        child_text, child_html = _as_readable(child)
        text, html = child_text or text, child_html or html
        if (text or html) and not is_alternative:
            break
    if text or html:
        return ReadableParts(text, html)
    for child in part.parts:
        if child.is_multipart:
            found = _search(child)
            if found.text or found.html:
                return found
    return ReadableParts(None, None)


def _as_readable(part: Part) -> tuple[Part | None, Part | None]:
    if part.content_type in {"text/plain", "/"}:
        return part, None
    if part.content_type == "text/html":
        return None, part
    return None, None


def _decode_base64(octets: bytes) -> bytes:
    digits = octets.translate(None, _NOT_BASE64)
    if b"=" not in digits.rstrip(b"="):
        return _decode_base64_run(digits.rstrip(b"="))
    # Several encoded runs were put one after another; each ends at its padding.
    return b"".join([_decode_base64_run(run) for run in digits.split(b"=") if run])


def _decode_base64_run(digits: bytes) -> bytes:
    if len(digits) % 4 == 1:  # a digit alone says nothing
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _decode_quoted_printable(octets: bytes) -> bytes:
    if _SPACE_AT_LINE_END.search(octets):
        # RFC 2045 section 6.7 (3): white space at the end of a line was added on the way.
        octets = b"\n".join([_strip_line_end(line) for line in octets.split(b"\n")])
    return binascii.a2b_qp(octets)


def _strip_line_end(line: bytes) -> bytes:
    if line.endswith(b"\r"):
        return line[:-1].rstrip(b" \t") + b"\r"
    return line.rstrip(b" \t")
