"""What goes wrong in a dialog: our own misuse, and promises that the peer broke."""

from __future__ import annotations


class LocalProtocolError(RuntimeError):
    """The driver asked for something that the state of the dialog does not allow: a bug on our side."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol, so that the connection cannot go on."""


class ConnectionLost(RemoteProtocolError):
    """The peer closed the connection while an answer of it was due.

    Attributes:
        is_after_content: The final dot was sent, so the peer may have taken the message.
    """

    def __init__(self, text: str, *, is_after_content: bool = False) -> None:
        super().__init__(text)
        self.is_after_content = is_after_content
