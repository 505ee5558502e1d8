"""The body hash of DKIM over a body that comes in chunks, with state of a few octets (RFC 6376 section 3.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Canonicalization = Literal["simple", "relaxed"]

_BLANK_LINES = b"\r\n" * 4096


class BodyHasher:
    """Hashes one body under one or both canonicalizations: `feed` its octets in order, then ask `digest`."""

    def __init__(self, canonicalizations: Iterable[Canonicalization]) -> None:
        self._by_name = {name: _Hash(name) for name in set(canonicalizations)}

    def feed(self, octets: bytes) -> None:
        """Take the next octets of the body, with CRLF line ends."""
        for body_hash in self._by_name.values():
            body_hash.feed(octets)

    def digest(self, canonicalization: Canonicalization) -> bytes:
        """The SHA-256 of the whole canonical body; nothing may be fed after the first call."""
        return self._by_name[canonicalization].digest()


class _Hash:
    """White space in lines first (relaxed only), then empty lines at the end."""

    def __init__(self, name: Canonicalization) -> None:
        self._is_relaxed = name == "relaxed"
        self._sha256 = hashlib.sha256()
        self._held = b""  # the end of what was fed, as long as what follows can change it: space, CR, or both
        self._empty_lines = 0  # seen, and not hashed as long as nothing follows them
        self._has_content = False
        self._digest: bytes | None = None

    def feed(self, octets: bytes) -> None:
        octets = self._held + octets
        self._held = b""
        if self._is_relaxed:
            octets = _reduce_white_space(octets)
            end = len(octets)
            end -= octets.endswith(b"\r")
            end -= octets.endswith(b" ", 0, end)
        else:
            end = len(octets) - octets.endswith(b"\r")
        if end < len(octets):
            self._held = octets[end:]
            octets = octets[:end]
        self._hash(octets)

    def digest(self) -> bytes:
        if self._digest is None:
            # White space at the end of a last line without CRLF is at the end of a line all the same.
            rest = self._held.rstrip(b" ") if self._is_relaxed else self._held
            if rest:
                self._update(rest)
            # RFC 6376 section 3.4.3: an empty body is one CRLF in simple; section 3.4.4: nothing in relaxed.
            if self._has_content or not self._is_relaxed:
                self._sha256.update(b"\r\n")
            self._digest = self._sha256.digest()
        return self._digest

    def _hash(self, octets: bytes) -> None:
        end = len(octets.rstrip(b"\r\n"))
        tail = octets[end:]
        lines = len(tail) // 2
        if tail != b"\r\n" * lines:  # a bare CR or LF among them is content
            lines = 0
            while tail.endswith(b"\r\n", 0, len(tail) - 2 * lines):
                lines += 1
            end = len(octets) - 2 * lines
        if end:
            self._update(octets[:end])
        self._empty_lines += lines

    def _update(self, octets: bytes) -> None:
        while self._empty_lines:
            count = min(self._empty_lines, len(_BLANK_LINES) // 2)
            self._sha256.update(_BLANK_LINES[: 2 * count])
            self._empty_lines -= count
        self._sha256.update(octets)
        self._has_content = True


def _reduce_white_space(octets: bytes) -> bytes:
    """Make every run of white space one space, and none before CRLF; the number of passes grows with the logarithm
    of the longest run."""
    octets = octets.replace(b"\t", b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets.replace(b" \r\n", b"\r\n")
