"""A server's end of a dialog that is driven like a session drives it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mailcrane.model.reply import Reply
from mailcrane.smtp.command import Auth, Data, Hello, Mail, Rcpt, StartTLS
from mailcrane.smtp.event import AuthResponse, Closed, Content, EndOfContent, Event, Signal
from mailcrane.smtp.server import ServerConfig, ServerConnection

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class HeldClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOW


class Dialog:
    """Says lines to a server and collects what it answers; events are accepted unless `answers` has another reply.

    Attributes:
        answers: Event type -> reply.
        events: All events, in order.
        content: What the messages were made of.
    """

    def __init__(self, config: ServerConfig, *, is_tls: bool = False) -> None:
        self.connection = ServerConnection(config, session_id="s1", clock=HeldClock(), is_tls=is_tls)
        self.answers: dict[type[Any], Reply] = {}
        self.events: list[Event] = []
        self.content = b""
        self.connection.greet()
        self.greeting = self.connection.data_to_send()

    def send(self, octets: bytes) -> bytes:
        """Send bytes and return all that comes back."""
        self.connection.receive(octets)
        out = b""
        while True:
            event = self.connection.next_event()
            out += self.connection.data_to_send()
            if isinstance(event, Signal):
                if event is Signal.FLUSH:
                    continue
                return out
            self.events.append(event)
            if isinstance(event, Content):
                self.content += event.octets
            elif isinstance(event, Closed):
                return out
            elif isinstance(event, StartTLS):
                self.connection.tls_started()
            elif isinstance(event, Hello | Mail | Rcpt | Data | EndOfContent | Auth | AuthResponse):
                if type(event) in self.answers:
                    self.connection.reply(self.answers[type(event)])
                else:
                    self.connection.accept()

    def say(self, *lines: str) -> str:
        """Send lines one after another and return the answer to the last, without its CRLF."""
        out = b""
        for line in lines:
            out = self.send(f"{line}\r\n".encode())
        return out.decode().removesuffix("\r\n")

    @property
    def is_closed(self) -> bool:
        return isinstance(self.connection.next_event(), Closed)


MakeDialog = Callable[..., Dialog]


@pytest.fixture
def dialog() -> MakeDialog:
    """Make a dialog with a server that offers what the keywords say."""

    def make(*, is_tls: bool = False, **offers: Any) -> Dialog:
        return Dialog(ServerConfig("mx.example.org", **offers), is_tls=is_tls)

    return make


@pytest.fixture
def submission(dialog: MakeDialog) -> Dialog:
    """A submission dialog in TLS, before EHLO."""
    return dialog(is_tls=True, is_submission=True, mechanisms=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"))
