"""Header fields as we write them: folded, with encoded words where the message has no SMTPUTF8."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Sequence

from mailcrane.message import encoded_word
from mailcrane.message.addresses import NamedMailbox, format_address, quote_phrase

# RFC 5322 section 2.1.1.
_WIDTH = 77
_MAX_LINE = 998
# What is longer cannot be folded; as encoded words it can.
_MAX_WORD = 800

_TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+\Z")
# RFC 2231 section 7, attribute-char.
_ATTRIBUTE_SAFE = "!#$&+-.^_`{|}~"


def unstructured(name: str, text: str, *, is_utf8: bool) -> str:
    """Return a text as the value of a field such as Subject, folded at its spaces.

    Words are encoded one by one. White space between two encoded words means nothing to a reader (RFC 2047 section
    6.2), so the space in front of a word that follows an encoded one is put into it.
    """
    return _fold(len(name) + 2, _words(text, is_utf8=is_utf8))


def verbatim(name: str, text: str, *, is_utf8: bool) -> str:
    """Return a value that a caller wrote as it is, unless it has to be encoded or is too long for a line."""
    if len(name) + 2 + len(text.encode()) <= _MAX_LINE and (is_utf8 or text.isascii()):
        return text
    return unstructured(name, text, is_utf8=is_utf8)


def address_list(name: str, addresses: Sequence[NamedMailbox], *, is_utf8: bool) -> str:
    """Return an address list, folded between addresses and between encoded words of a display name."""
    pieces: list[str] = []
    for index, address in enumerate(addresses):
        comma = "," if index + 1 < len(addresses) else ""
        mailbox = format_address(address.mailbox, is_utf8=is_utf8)
        if not address.name:
            pieces.append(mailbox + comma)
            continue
        if is_utf8 or not encoded_word.needs_encoding(address.name):
            pieces.append(quote_phrase(address.name))
        else:
            pieces.extend(encoded_word.encode(address.name))
        pieces.append(f"<{mailbox}>{comma}")
    return _fold(len(name) + 2, pieces)


def parameter(name: str, value: str, *, is_utf8: bool) -> str:
    """Return ``name=value``: a token, a quoted string, or percent-encoded where it is not ASCII (RFC 2231)."""
    if _TOKEN.match(value):
        return f"{name}={value}"
    if value.isascii() or is_utf8:
        return f'{name}="' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{name}*=utf-8''{urllib.parse.quote(value, safe=_ATTRIBUTE_SAFE)}"


def parameters(name: str, value: str, items: Sequence[str]) -> str:
    """Return a value with parameters, each on a line of its own where they do not fit."""
    pieces = [piece + ";" for piece in (value, *items)]
    pieces[-1] = pieces[-1][:-1]
    return _fold(len(name) + 2, pieces)


def _words(text: str, *, is_utf8: bool) -> Iterator[str]:
    follows_encoded = False
    held = 0  # spaces after an encoded word, of which it is not yet known what follows
    for word in text.split(" "):
        if follows_encoded and not word:
            held += 1
        elif (is_utf8 or not encoded_word.needs_encoding(word)) and len(word.encode()) <= _MAX_WORD:
            yield from [""] * held
            yield word
            follows_encoded, held = False, 0
        else:
            yield from encoded_word.encode(" " * (1 + held) + word if follows_encoded else word)
            follows_encoded, held = True, 0
    yield from [""] * held


def _fold(column: int, pieces: Iterator[str] | Sequence[str]) -> str:
    """Join pieces with spaces; where a line would pass the width, the space is folded.

    Folded with CRLF before a space that was there, never with a tab in its place: a reader takes away the CRLF only
    (RFC 5322 section 2.2.3). White space alone on a line is avoided, it is obsolete.
    """
    out: list[str] = []
    for index, piece in enumerate(pieces):
        if index and piece and out[-1] and column + 1 + len(piece) > _WIDTH:
            out.append("\r\n " + piece)
            column = 1 + len(piece)
        else:
            out.append(" " + piece if index else piece)
            column += len(piece) + 1
    return "".join(out)
