"""The media type of octets that came without one, by their first octets (WHATWG MIME Sniffing)."""

from __future__ import annotations

import struct
from typing import NamedTuple

MAX_SNIFFED_OCTETS = 512

_WHITE_SPACE = b"\t\n\x0c\r "
_TAG_ENDS = frozenset(b" >")

# WHATWG MIME Sniffing section 7.1: matched without regard to case, after white space, and followed by a tag's end.
_HTML_TAGS = (
    b"<!DOCTYPE HTML", b"<HTML", b"<HEAD", b"<SCRIPT", b"<IFRAME", b"<H1", b"<DIV", b"<FONT", b"<TABLE", b"<A",
    b"<STYLE", b"<TITLE", b"<B", b"<BODY", b"<BR", b"<P", b"<!--",
)  # fmt: skip


class _Signature(NamedTuple):
    """A pattern at the start; the mask, where there is one, says which bits count."""

    pattern: bytes
    content_type: str
    mask: bytes = b""

    def matches(self, octets: bytes) -> bool:
        if not self.mask:
            return octets.startswith(self.pattern)
        if len(octets) < len(self.pattern):
            return False
        return all(octet & bits == wanted for octet, bits, wanted in zip(octets, self.mask, self.pattern, strict=False))


_RIFF_MASK = b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff"

_BEFORE_MP4 = (
    _Signature(b"%PDF-", "application/pdf"),
    _Signature(b"%!PS-Adobe-", "application/postscript"),
    _Signature(b"\xfe\xff\x00\x00", "text/plain; charset=utf-16be", b"\xff\xff\x00\x00"),
    _Signature(b"\xff\xfe\x00\x00", "text/plain; charset=utf-16le", b"\xff\xff\x00\x00"),
    _Signature(b"\xef\xbb\xbf\x00", "text/plain; charset=utf-8", b"\xff\xff\xff\x00"),
    _Signature(b"\x00\x00\x01\x00", "image/x-icon"),
    _Signature(b"\x00\x00\x02\x00", "image/x-icon"),
    _Signature(b"BM", "image/bmp"),
    _Signature(b"GIF87a", "image/gif"),
    _Signature(b"GIF89a", "image/gif"),
    _Signature(b"RIFF\x00\x00\x00\x00WEBPVP", "image/webp", _RIFF_MASK + b"\xff\xff"),
    _Signature(b"\x89PNG\r\n\x1a\n", "image/png"),
    _Signature(b"\xff\xd8\xff", "image/jpeg"),
    _Signature(b"FORM\x00\x00\x00\x00AIFF", "audio/aiff", _RIFF_MASK),
    _Signature(b"ID3", "audio/mpeg"),
    _Signature(b"OggS\x00", "application/ogg"),
    _Signature(b"MThd\x00\x00\x00\x06", "audio/midi"),
    _Signature(b"RIFF\x00\x00\x00\x00AVI ", "video/avi", _RIFF_MASK),
    _Signature(b"RIFF\x00\x00\x00\x00WAVE", "audio/wave", _RIFF_MASK),
)
_AFTER_MP4 = (
    _Signature(b"\x1aE\xdf\xa3", "video/webm"),
    _Signature(b"\x00" * 34 + b"LP", "application/vnd.ms-fontobject", b"\x00" * 34 + b"\xff\xff"),
    _Signature(b"\x00\x01\x00\x00", "font/ttf"),
    _Signature(b"OTTO", "font/otf"),
    _Signature(b"ttcf", "font/collection"),
    _Signature(b"wOFF", "font/woff"),
    _Signature(b"wOF2", "font/woff2"),
    _Signature(b"\x1f\x8b\x08", "application/x-gzip"),
    _Signature(b"PK\x03\x04", "application/zip"),
    _Signature(b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
    _Signature(b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    _Signature(b"\x00asm", "application/wasm"),
)

# WHATWG MIME Sniffing section 3: octets that do not occur in text.
_BINARY = bytes([*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)])


def sniff(octets: bytes) -> str:
    """Return the Content-Type of octets by looking at the first 512; ``application/octet-stream`` when in doubt."""
    octets = octets[:MAX_SNIFFED_OCTETS]
    text = octets.lstrip(_WHITE_SPACE)
    if _is_html(text):
        return "text/html; charset=utf-8"
    if text.startswith(b"<?xml"):
        return "text/xml; charset=utf-8"
    for signature in _BEFORE_MP4:
        if signature.matches(octets):
            return signature.content_type
    if _is_mp4(octets):
        return "video/mp4"
    for signature in _AFTER_MP4:
        if signature.matches(octets):
            return signature.content_type
    if len(text.translate(None, _BINARY)) == len(text):
        return "text/plain; charset=utf-8"
    return "application/octet-stream"


def _is_html(text: bytes) -> bool:
    if not text.startswith(b"<"):
        return False
    upper = text[:20].upper()
    return any(upper.startswith(tag) and len(text) > len(tag) and text[len(tag)] in _TAG_ENDS for tag in _HTML_TAGS)


def _is_mp4(octets: bytes) -> bool:
    """WHATWG MIME Sniffing section 6.2.1: a file type box that names an mp4 brand."""
    if len(octets) < 12:
        return False
    (size,) = struct.unpack_from(">I", octets)
    if size % 4 or len(octets) < size or octets[4:8] != b"ftyp":
        return False
    return any(octets[at : at + 3] == b"mp4" for at in range(8, size, 4) if at != 12)
