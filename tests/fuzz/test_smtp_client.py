"""The client's end of a dialog against a server that says anything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.smtp.client import (
    NEED_DATA,
    AuthChallenge,
    ClientConnection,
    ClientEvent,
    ContentDone,
    EnvelopeDone,
    Greeting,
    HelloDone,
    StartTLSDone,
)
from mailcrane.smtp.errors import RemoteProtocolError
from mailcrane.smtp.reply_reader import MAX_LINE_OCTETS, ReplyReader

PATH = Mailbox("a", "b.example")
TEXTS = st.sampled_from(
    ["OK", "5.1.1 No", "PIPELINING", "AUTH LOGIN", "STARTTLS", "SIZE 10", "LIMITS RCPTMAX=2", "", "VXNlcg==", "\xff"]
)
CODES = st.sampled_from([220, 221, 235, 250, 334, 354, 421, 450, 500, 550, 199, 600])
REPLIES = st.builds(
    lambda code, texts, last: (
        b"".join(f"{code}-{t}\r\n".encode("latin-1") for t in texts) + f"{code} {last}\r\n".encode("latin-1")
    ),
    CODES,
    st.lists(TEXTS, max_size=3),
    TEXTS,
)
NICE = st.sampled_from([b"250 OK\r\n", b"354 go\r\n", b"220 go\r\n", b"250-mx\r\n250 PIPELINING\r\n"])


def act(client: ClientConnection, event: ClientEvent) -> None:
    """Do the next thing that a transport would do."""
    if isinstance(event, Greeting):
        client.hello("client.example")
    elif isinstance(event, StartTLSDone) and event.reply.code == 220:
        client.tls_started()
        client.hello("client.example")
    elif isinstance(event, HelloDone) and "STARTTLS" in event.extensions:
        client.start_tls()
    elif isinstance(event, HelloDone) and event.extensions.mechanisms:
        client.authenticate("LOGIN", None)
    elif isinstance(event, AuthChallenge):
        client.auth_response(b"x")
    elif isinstance(event, EnvelopeDone):
        assert len(event.recipients) == 2
        if event.may_send_content:
            assert any(reply.is_positive for reply in event.recipients)
            client.send_content(b"hi")
            client.end_content()
        else:
            assert not any(reply.is_positive for reply in event.recipients)
            client.reset()
    elif isinstance(event, ContentDone):
        client.quit()
    else:
        client.begin_transaction(ReversePath(PATH), [PATH, PATH])


def drive(slices: list[bytes]) -> tuple[list[ClientEvent], bytes, str]:
    client = ClientConnection()
    events: list[ClientEvent] = []
    sent = b""
    for octets in slices:
        client.receive(octets)
        while True:
            try:
                event = client.next_event()
            except RemoteProtocolError as error:
                return events, sent, type(error).__name__
            sent += client.data_to_send()
            if event is NEED_DATA:
                break
            events.append(event)
            if client.is_closed:
                return events, sent, "closed"
            act(client, event)
            sent += client.data_to_send()
    return events, sent, "waits"


def one_by_one(octets: bytes) -> list[bytes]:
    return [octets[i : i + 1] for i in range(len(octets))]


@settings(max_examples=300, deadline=None)
@given(st.lists(NICE | REPLIES, max_size=15))
def test_replies_one_after_another_never_raise_anything_else(replies: list[bytes]) -> None:
    drive(replies)
    drive([octets for reply in replies for octets in one_by_one(reply)])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20))
def test_random_bytes_never_raise_anything_else(slices: list[bytes]) -> None:
    drive(slices)


@settings(max_examples=200, deadline=None)
@given(st.lists(REPLIES, max_size=8), st.lists(st.integers(1, 20), max_size=30))
def test_replies_are_the_same_however_they_are_cut(replies: list[bytes], sizes: list[int]) -> None:
    octets = b"".join(replies)

    def read(slices: list[bytes]) -> list[object]:
        reader = ReplyReader()
        found: list[object] = []
        for piece in slices:
            reader.receive(piece)
            try:
                while (reply := reader.next_reply()) is not None:
                    found.append(reply)
            except RemoteProtocolError:
                return [*found, "error"]
            assert len(reader._buffer) - reader._position < MAX_LINE_OCTETS
        return found

    cut = [octets[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    assert read([*cut, octets[sum(sizes) :]]) == read([octets]) == read(one_by_one(octets))
