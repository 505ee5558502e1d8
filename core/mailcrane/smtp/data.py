"""The content after DATA: finding its end, taking dots off and putting them on (RFC 5321 section 4.5.2).

Only CRLF "." CRLF ends content. A bare CR or LF is never a line end; content that has one is consumed to its real end
and refused by the caller, so that no two servers can disagree about where a message stops (SMTP smuggling).

The work is done by searches over whole slices, not line by line; each octet is passed over a fixed number of times
however the input is cut.
"""

from __future__ import annotations

import enum

_END = b"\r\n.\r\n"


class ContentFault(enum.Enum):
    """Why content is not accepted."""

    BARE_LINE_END = enum.auto()
    TOO_LARGE = enum.auto()


class ContentReader:
    """Takes the wire form of one message in slices and gives back the message.

    Attributes:
        size_octets: Of the message so far, without stuffed dots.
        has_8bit: An octet above 127 was seen.
        fault: Why the message is not accepted; known for good at its end, where a bare line end outweighs the size.
            Nothing more is given back once there is one.
        passed_octets: Wire octets consumed, with those that were thrown away.
    """

    __slots__ = ("_carry", "_max_octets", "_skip", "fault", "has_8bit", "passed_octets", "size_octets")

    def __init__(self, max_octets: int) -> None:
        self.size_octets = 0
        self.has_8bit = False
        self.fault: ContentFault | None = None
        self.passed_octets = 0
        self._max_octets = max_octets
        # As if a line had just ended: a dot alone on the first line ends an empty message.
        self._carry = b"\r\n"
        self._skip = 2

    def feed(self, octets: bytes) -> tuple[bytes, bytes | None]:
        """Take a slice of the wire.

        Returns:
            The octets of the message that are certain now, and what follows the end; None in its place while the end
            was not seen.
        """
        data = self._carry + octets if self._carry else octets
        end = data.find(_END)
        rest: bytes | None = None
        if end >= 0:
            rest = data[end + 5 :]
            piece = data[: end + 2]
        else:
            held = _held_back(data)
            piece = data[:-held] if held else data
            self._carry = data[-held:] if held else b""
        self.passed_octets += len(piece)
        if self.fault is ContentFault.BARE_LINE_END:
            return b"", rest
        # No piece ends between a CR and its LF, so that counting finds every bare one.
        line_ends = piece.count(b"\r\n")
        if piece.count(b"\n") != line_ends or piece.count(b"\r") != line_ends:
            self.fault = ContentFault.BARE_LINE_END
            return b"", rest
        if self.fault is not None:
            return b"", rest
        piece = piece.replace(b"\r\n.", b"\r\n")
        if self._skip and len(piece) >= 2:
            piece = piece[2:]
            self._skip = 0
        self.size_octets += len(piece)
        if self.size_octets > self._max_octets:
            self.fault = ContentFault.TOO_LARGE
            return b"", rest
        if not self.has_8bit and not piece.isascii():
            self.has_8bit = True
        return piece, rest


def _held_back(data: bytes) -> int:
    """How many octets at the end may be the start of the end of content, and wait for the next slice."""
    if data.endswith(b"\r"):
        return 4 if data.endswith(b"\r\n.\r") else 1
    if data.endswith(b"\r\n"):
        return 2
    return 3 if data.endswith(b"\r\n.") else 0


class DotStuffer:
    """Puts a message into its wire form, slice by slice.

    Content is expected with CRLF line ends. A dot behind a bare LF is stuffed as well: a next hop that takes a bare LF
    for a line end must not see the end of content there.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"

    def stuff(self, octets: bytes) -> bytes:
        """Return the wire form of the next slice."""
        if not octets:
            return b""
        starts_line = self._tail.endswith(b"\n")
        self._tail = octets[-2:] if len(octets) > 1 else self._tail[-1:] + octets
        stuffed = octets.replace(b"\n.", b"\n..")
        return b"." + stuffed if starts_line and octets.startswith(b".") else stuffed

    def finish(self) -> bytes:
        """Return what ends the content, with a CRLF in front where the last line has none."""
        if self._tail == b"\r\n":
            return b".\r\n"
        return b"\n.\r\n" if self._tail.endswith(b"\r") else _END
