"""Content-Type and Content-Disposition: a value and its parameters (RFC 2045 section 5.1, RFC 2183, RFC 2231)."""

from __future__ import annotations

import functools
import re
import urllib.parse

from mailcrane.message import charset, encoded_word
from mailcrane.message.header import HeaderError

MAX_PARAMETERS = 100

_TOKEN = r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"
_MEDIA_TYPE = re.compile(rf"[ \t]*({_TOKEN})/({_TOKEN})[ \t]*(?=;|\(|\Z)")
_VALUE = re.compile(rf"[ \t]*({_TOKEN})[ \t]*(?=;|\(|\Z)")
# Senders leave out quotes where they are needed; an unquoted value ends at the semicolon.
_PARAMETER = re.compile(
    rf';[ \t\r\n]*(?:({_TOKEN})[ \t\r\n]*=[ \t\r\n]*(?:"((?:[^"\\]|\\.)*)"[ \t\r\n]*|([^;"]*)))?', re.DOTALL
)
_COMMENT = re.compile(r"\([^()]*\)[ \t]*")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_CONTINUATION = re.compile(r"(.+?)\*(?:([0-9]{1,3})(\*?))?\Z")


@functools.lru_cache(maxsize=1024)
def _simple_media_type(value: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return _parse_media_type(value)


def parse_media_type(value: str) -> tuple[str, str, dict[str, str]]:
    """Parse an unfolded Content-Type: type and subtype in lower case, parameters with lower-case names.

    Raises:
        HeaderError: it is none.
    """
    parse = _simple_media_type if len(value) < 60 and "boundary" not in value else _parse_media_type
    major, minor, parameters = parse(value)
    return major, minor, dict(parameters)


def parse_disposition(value: str) -> tuple[str, dict[str, str]]:
    """Parse an unfolded Content-Disposition: its value in lower case and its parameters; empty for what is none."""
    match = _VALUE.match(value)
    if match is None:
        return "", {}
    try:
        return match.group(1).lower(), dict(_parameters(value, match.end()))
    except HeaderError:
        return match.group(1).lower(), {}


def salvage_media_type(value: str) -> tuple[str, str]:
    """Return the type before the first semicolon of a bad Content-Type where that is a pair of tokens and not
    multipart; application/octet-stream otherwise."""
    match = _MEDIA_TYPE.match(value.partition(";")[0])
    if match is None or match.group(1).lower() == "multipart":
        return "application", "octet-stream"
    return match.group(1).lower(), match.group(2).lower()


def decode_file_name(text: str) -> str:
    """Return a file name parameter as people read it; encoded words are not allowed there and common."""
    return encoded_word.decode(text)


def _parse_media_type(value: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    match = _MEDIA_TYPE.match(value)
    if match is None:
        raise HeaderError("bad Content-Type")
    return match.group(1).lower(), match.group(2).lower(), tuple(_parameters(value, match.end()).items())


def _parameters(value: str, position: int) -> dict[str, str]:
    found: dict[str, str] = {}
    position = _skip_comments(value, position)
    count = 0
    while position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None:
            raise HeaderError("bad parameters in a Content-Type or Content-Disposition")
        name, quoted, plain = match.groups()
        if name is not None:
            count += 1
            if count > MAX_PARAMETERS:
                raise HeaderError("too many parameters in a Content-Type or Content-Disposition")
            text = _QUOTED_PAIR.sub(r"\1", quoted) if quoted is not None else plain.strip()
            if quoted is None and text.endswith(")"):
                text = _COMMENT.sub("", text).strip()
            # The first of equal names counts.
            found.setdefault(name.lower(), text)
        position = _skip_comments(value, match.end())
    return _join_continuations(found) if any("*" in name for name in found) else found


def _skip_comments(value: str, position: int) -> int:
    while (match := _COMMENT.match(value, position)) is not None:
        position = match.end()
    return position


def _join_continuations(found: dict[str, str]) -> dict[str, str]:
    """Put ``name*0``, ``name*1*`` and ``name*`` together and decode them (RFC 2231 sections 3 and 4)."""
    joined: dict[str, str] = {}
    pieces: dict[str, list[tuple[int, bool, str]]] = {}
    for name, text in found.items():
        match = _CONTINUATION.match(name)
        if match is None:
            joined[name] = text
        else:
            number, star = match.group(2), match.group(3)
            pieces.setdefault(match.group(1), []).append((int(number or 0), number is None or star == "*", text))
    for name, parts in pieces.items():
        parts.sort()
        charset_name = ""
        octets: list[bytes] = []
        for index, (_, is_extended, text) in enumerate(parts):
            rest = text
            if index == 0 and is_extended and text.count("'") >= 2:
                charset_name, _, rest = text.split("'", 2)
            raw = rest.encode("utf-8", "replace")
            octets.append(urllib.parse.unquote_to_bytes(raw) if is_extended else raw)
        # The extended form is preferred over a plain one of the same name (RFC 6266 section 4.3).
        joined[name] = charset.decode(b"".join(octets), charset_name)
    return joined
