"""Replies of a server, read from bytes that may be hostile (RFC 5321 section 4.2)."""

from __future__ import annotations

import re

from mailcrane.model.reply import Reply
from mailcrane.smtp.errors import RemoteProtocolError

# RFC 5321 section 4.5.3.1.5 allows 512 octets a line; servers in the wild write longer ones.
MAX_LINE_OCTETS = 2048
MAX_LINES = 100

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ReplyReader:
    """Takes bytes and gives replies.

    Lines may end with a bare LF. Control characters become spaces and what is not UTF-8 becomes U+FFFD, so that the
    text is safe to log and to store.
    """

    __slots__ = ("_buffer", "_code", "_lines", "_position", "_searched")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._searched = 0
        self._code = 0
        self._lines: list[str] = []

    @property
    def has_more(self) -> bool:
        """Whether there are bytes behind the last reply that was given."""
        return self._position < len(self._buffer) or bool(self._lines)

    def receive(self, octets: bytes) -> None:
        """Take what was read from the peer."""
        self._searched = max(self._searched - self._position, 0)
        self._buffer = self._buffer[self._position :] + octets
        self._position = 0

    def next_reply(self) -> Reply | None:
        """Return the next reply once all of its lines are there.

        Raises:
            RemoteProtocolError: a line is malformed or too long, or there are too many.
        """
        while True:
            start = self._position
            end = self._buffer.find(b"\n", max(start, self._searched))
            if (len(self._buffer) if end < 0 else end) - start >= MAX_LINE_OCTETS:
                raise RemoteProtocolError("reply line is too long")
            if end < 0:
                self._searched = len(self._buffer)
                return None
            self._position = end + 1
            if self._take_line(self._buffer[start:end].removesuffix(b"\r")):
                reply = Reply.from_lines(self._code, tuple(self._lines))
                self._code, self._lines = 0, []
                return reply

    def _take_line(self, octets: bytes) -> bool:
        """Take a line without its end; True if it is the last of its reply."""
        found = _LINE.match(octets)
        if found is None:
            raise RemoteProtocolError(f"malformed reply line {octets[:80]!r}")
        code = int(found.group(1))
        if self._lines and code != self._code:
            raise RemoteProtocolError(f"reply has the codes {self._code} and {code}")
        if len(self._lines) >= MAX_LINES:
            raise RemoteProtocolError("reply has too many lines")
        self._code = code
        text = (found.group(3) or b"").decode("utf-8", "replace")
        self._lines.append(text if text.isprintable() else _NOT_TEXT.sub(" ", text))
        return found.group(2) != b"-"
