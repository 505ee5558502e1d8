"""Octets in a charset that a stranger named, to text. Never raises; what cannot be read is shown as U+FFFD."""

from __future__ import annotations

import codecs
import functools

# Python codecs that no mail uses, that need quadratic time or that warn.
_REFUSED = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})

# What senders call by one name and mean as its superset (WHATWG Encoding Standard).
_SUPERSETS = {
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "windows-1252",
    "latin1": "windows-1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
}


@functools.lru_cache(maxsize=256)
def _codec_name(charset: str) -> str | None:
    name = charset.strip().strip("\"'").lower()
    name = _SUPERSETS.get(name, name)
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):  # ValueError: a NUL or a surrogate in the name
        return None
    canonical = codec.name.replace("-", "_")
    if canonical in _REFUSED or not getattr(codec, "_is_text_encoding", True):
        return None
    return codec.name


def is_known(charset: str) -> bool:
    """Whether text in a charset can be decoded."""
    return _codec_name(charset) is not None


def decode(octets: bytes, charset: str = "") -> str:
    """Decode octets in a charset; without one that is known as UTF-8, or else as windows-1252."""
    name = _codec_name(charset) if charset else None
    if name is not None and name != "utf-8":
        return octets.decode(name, "replace")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        if charset and name == "utf-8" and charset.lower() != "us-ascii":
            return octets.decode("utf-8", "replace")
        return octets.decode("windows-1252", "replace")
