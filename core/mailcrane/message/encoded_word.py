"""Encoded words: text that is not ASCII in header fields that are (RFC 2047)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from mailcrane.message import charset

_ENCODED_WORD = re.compile(r"=\?([!-)+-<>@-~]+)(?:\*[A-Za-z0-9-]*)?\?([BbQq])\?([!->@-~ ]*?)\?=")

# RFC 2047 section 2 allows 75; shorter, so that the first one fits on a line behind the name of its field.
_MAX_ENCODED_WORD = 64
_PREFIX, _SUFFIX = "=?utf-8?q?", "?="

# RFC 2047 section 5 (3): the characters that stay themselves where a phrase is allowed, which is safe everywhere.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q = [chr(octet) if octet in _PLAIN else "_" if octet == 0x20 else f"={octet:02X}" for octet in range(256)]


def decode(text: str) -> str:
    """Return text with its encoded words decoded; those that cannot be decoded stay as they are."""
    if "=?" not in text:
        return text
    out: list[str] = []
    pending: list[bytes] = []  # adjacent words in one charset: a character may be split between words
    pending_charset = ""
    position = 0
    for match in _ENCODED_WORD.finditer(text):
        name, encoding, payload = match.group(1).lower(), match.group(2), match.group(3)
        between = text[position : match.start()]
        octets = _decode_payload(encoding, payload) if charset.is_known(name) else None
        is_adjacent = bool(pending_charset) and not between.strip(" \t\r\n")
        if octets is None or not is_adjacent or name != pending_charset:
            if pending_charset:
                out.append(charset.decode(b"".join(pending), pending_charset))
            pending, pending_charset = [], ""
        if octets is None:
            out.append(between + match.group(0))
        else:
            if not is_adjacent:
                out.append(between)
            pending.append(octets)
            pending_charset = name
        position = match.end()
    if pending_charset:
        out.append(charset.decode(b"".join(pending), pending_charset))
    out.append(text[position:])
    return "".join(out)


def needs_encoding(word: str) -> bool:
    """Whether a word must be encoded to come out of a decoder as it is."""
    return not word.isascii() or ("=?" in word and "?=" in word)


def encode(text: str) -> Iterator[str]:
    """Yield the Q-encoded UTF-8 words that stand for a text, each of at most 64 characters, no character split."""
    room = _MAX_ENCODED_WORD - len(_PREFIX) - len(_SUFFIX)
    current: list[str] = []
    length = 0
    for character in text:
        piece = "".join([_Q[octet] for octet in character.encode("utf-8", "replace")])
        if length + len(piece) > room:
            yield _PREFIX + "".join(current) + _SUFFIX
            current, length = [], 0
        current.append(piece)
        length += len(piece)
    yield _PREFIX + "".join(current) + _SUFFIX


def _decode_payload(encoding: str, payload: str) -> bytes | None:
    raw = payload.encode("ascii", "replace")
    if encoding in "Bb":
        try:
            return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
        except binascii.Error:
            return None
    return binascii.a2b_qp(raw.replace(b"_", b" "), header=False)
