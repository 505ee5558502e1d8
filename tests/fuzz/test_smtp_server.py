"""The server's end of a dialog against made-up input."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mailcrane.model.reply import Reply
from mailcrane.smtp.command import Auth, Data, Hello, Mail, Rcpt, StartTLS
from mailcrane.smtp.event import (
    FLUSH,
    NEED_DATA,
    PAUSED,
    AuthResponse,
    Closed,
    Content,
    ContentRefused,
    EndOfContent,
    Event,
)
from mailcrane.smtp.server import MAX_LINE_OCTETS, ServerConfig, ServerConnection

CONFIG = ServerConfig(
    "mx.example.org",
    is_submission=True,
    mechanisms=("PLAIN", "LOGIN"),
    requires_tls_for_auth=False,
    offers_starttls=True,
    max_message_octets=300,
    max_recipients=3,
)


class Still:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)


Question = Hello | Auth | AuthResponse | Mail | Rcpt | Data | EndOfContent


def answer(connection: ServerConnection, event: Question) -> None:
    """Answer in a way that depends on the event alone."""
    if isinstance(event, Auth) and event.initial_response is None:
        connection.challenge(b"Username:")
    elif isinstance(event, Rcpt) and event.forward_path.local_part.startswith("no"):
        connection.reply(Reply.make(550, "5.1.1", "No such mailbox"))
    else:
        connection.accept()


def drive(slices: list[bytes]) -> tuple[list[Event], bytes, bytes]:
    """Return events (content joined apart), content and output of a session."""
    connection = ServerConnection(CONFIG, session_id="s", clock=Still())
    events: list[Event] = []
    content = slices_of_message = out = b""
    for octets in slices:
        connection.receive(octets)
        while (event := connection.next_event()) is not NEED_DATA:
            assert event is not PAUSED
            out += connection.data_to_send()
            if event is FLUSH:
                continue
            if isinstance(event, Content):
                slices_of_message += event.octets
                continue
            if isinstance(event, EndOfContent):
                content += slices_of_message
            if isinstance(event, EndOfContent | ContentRefused):
                slices_of_message = b""
            assert not isinstance(event, type(NEED_DATA))
            events.append(event)
            if isinstance(event, Closed):
                return events, content, out
            if isinstance(event, StartTLS):
                connection.tls_started()
            elif isinstance(event, Question):
                answer(connection, event)
        out += connection.data_to_send()
    return events, content, out


LINES = st.sampled_from(
    [
        b"EHLO client.example",
        b"HELO [192.0.2.1]",
        b"EHLO",
        b"AUTH PLAIN AGEAYg==",
        b"AUTH LOGIN",
        b"dXNlcg==",
        b"*",
        b"MAIL FROM:<a@b.example>",
        b"MAIL FROM:<> SIZE=301",
        b"MAIL FROM:<\xc3\xbc@b.example> SMTPUTF8 HOLDFOR=3",
        b"RCPT TO:<c@d.example>",
        b"RCPT TO:<nobody@d.example>",
        b"RCPT TO:<Postmaster>",
        b"DATA",
        b".",
        b"..",
        b"Subject: x",
        b"x" * 200,
        b"a\nb",
        b"\r",
        b"\xff\x00",
        b"RSET",
        b"NOOP",
        b"VRFY x",
        b"HELP",
        b"QUIT",
        b"",
    ]
)
OPENING = [
    b"EHLO client.example",
    b"AUTH PLAIN AGEAYg==",
    b"MAIL FROM:<a@b.example>",
    b"RCPT TO:<c@d.example>",
    b"DATA",
]
SESSIONS = st.tuples(st.integers(0, len(OPENING)), st.lists(LINES, max_size=25)).map(
    lambda made: b"".join(line + b"\r\n" for line in OPENING[: made[0]] + made[1])
)


def cut(octets: bytes, sizes: list[int]) -> list[bytes]:
    slices = []
    for size in sizes:
        slices.append(octets[:size])
        octets = octets[size:]
    return [piece for piece in [*slices, octets] if piece]


@settings(max_examples=300, deadline=None)
@given(SESSIONS, st.lists(st.integers(1, 40), max_size=40))
def test_a_session_means_the_same_however_it_is_cut(session: bytes, sizes: list[int]) -> None:
    whole = drive(cut(session, []))
    assert drive(cut(session, sizes)) == whole
    assert drive([session[i : i + 1] for i in range(len(session))]) == whole


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=20))
def test_random_bytes_never_raise(slices: list[bytes]) -> None:
    drive([piece for piece in slices if piece])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["EHLO ", "HELO ", "AUTH ", "MAIL FROM:", "RCPT TO:", "MAIL FROM:<a@b.example> "]),
    st.text(st.characters(codec="utf-8"), max_size=80) | st.text('<>@":,.=[]\\ abAB+019', max_size=80),
)
def test_random_arguments_never_raise(verb: str, argument: str) -> None:
    opening = b"".join(line + b"\r\n" for line in OPENING[: 3 if verb.startswith("RCPT") else 2])
    events, _, out = drive([opening + f"{verb}{argument}\r\nNOOP\r\n".encode()])
    assert events
    for line in out.split(b"\r\n")[:-1]:
        assert len(line) <= 510
        assert line[:3].isdigit()
        assert line[3:4] in b" -"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b"x", b"NOOP\r\n", b"x" * 700, b"EHLO a\r\n", b"\r\n"]), max_size=40))
def test_what_is_kept_of_unfinished_lines_is_bounded(slices: list[bytes]) -> None:
    connection = ServerConnection(CONFIG, session_id="s", clock=Still())
    for octets in slices:
        connection.receive(octets)
        while isinstance(event := connection.next_event(), Hello):
            connection.accept()
        connection.data_to_send()
        if isinstance(event, Closed):
            return
        assert len(connection._buffer) - connection._position <= MAX_LINE_OCTETS


class CountedBytes(bytes):
    """Counts the octets that its searches may look at."""

    looked_at = 0

    def find(self, *args: Any) -> int:
        start = args[1] if len(args) > 1 and isinstance(args[1], int) else 0
        CountedBytes.looked_at += max(len(self) - start, 0)
        return super().find(*args)

    def __add__(self, other: Any) -> CountedBytes:
        return CountedBytes(super().__add__(other))

    def __getitem__(self, key: slice) -> CountedBytes:  # type: ignore[override]
        found = super().__getitem__(key)
        return CountedBytes(found) if isinstance(found, bytes) else found


def test_a_line_that_comes_octet_by_octet_is_searched_once() -> None:
    connection = ServerConnection(CONFIG, session_id="s", clock=Still())
    CountedBytes.looked_at = 0
    for _ in range(2000):
        connection.receive(CountedBytes(b"x"))
        assert connection.next_event() is NEED_DATA
    assert CountedBytes.looked_at <= 2 * 2000
