"""What comes out of a server's end of a dialog: commands to answer, slices of content, and what to do next."""

from __future__ import annotations

import enum
from typing import Final

from msgspec import Struct

from mailcrane.model.reply import Reply
from mailcrane.smtp.command import Auth, Data, Hello, Mail, Rcpt, StartTLS


class AuthResponse(Struct, frozen=True):
    """The client's answer to a challenge, decoded. Answered like `Auth`."""

    data: bytes

    def __repr__(self) -> str:
        return "AuthResponse()"


class AuthAborted(Struct, frozen=True):
    """The client cancelled the exchange or sent bad base64, and was told so. Not answered."""


class Content(Struct, frozen=True):
    """A slice of the message, without stuffed dots. Not answered."""

    octets: bytes


class EndOfContent(Struct, frozen=True):
    """The final dot was seen. Answered with the reply that says who is responsible for the message from now on.

    Attributes:
        size_octets: Of the whole message.
        has_8bit: An octet above 127 was seen.
    """

    size_octets: int
    has_8bit: bool


class ContentRefused(Struct, frozen=True):
    """The message was read to its end and refused with this reply; slices given so far are void. Not answered."""

    reply: Reply


class Reset(Struct, frozen=True):
    """RSET ended a transaction. Not answered. (`Hello` and `StartTLS` end one as well.)"""


class Closed(Struct, frozen=True):
    """The dialog is over: send what is left and close.

    Attributes:
        reason: ``quit``, ``eof``, ``protocol`` or ``refused`` (a 421 or `ServerConnection.close`).
    """

    reason: str


class Signal(enum.Enum):
    """What `ServerConnection.next_event` gives when there is no event."""

    NEED_DATA = enum.auto()
    FLUSH = enum.auto()
    PAUSED = enum.auto()


# Send what is there, then receive more.
NEED_DATA: Final = Signal.NEED_DATA
# Send what is there before going on: much has piled up.
FLUSH: Final = Signal.FLUSH
# An event waits for its answer, or STARTTLS for `ServerConnection.tls_started`.
PAUSED: Final = Signal.PAUSED

Event = (
    Hello
    | StartTLS
    | Auth
    | AuthResponse
    | AuthAborted
    | Mail
    | Rcpt
    | Data
    | Content
    | EndOfContent
    | ContentRefused
    | Reset
    | Closed
)
