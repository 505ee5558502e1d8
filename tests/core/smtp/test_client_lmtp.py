"""The client's end of an LMTP dialog (RFC 2033)."""

from __future__ import annotations

import pytest

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.reply import Reply
from mailcrane.smtp.client import NEED_DATA, ClientConnection, ContentDone, EnvelopeDone, HelloDone
from mailcrane.smtp.errors import ConnectionLost

PATHS = tuple(Mailbox.parse(f"{name}@there.example") for name in ("one", "two", "three"))


def answer(client: ClientConnection, octets: bytes) -> object:
    client.data_to_send()
    client.receive(octets)
    return client.next_event()


@pytest.fixture
def client() -> ClientConnection:
    """A client that waits for the replies after its final dot; the second of three recipients was refused."""
    client = ClientConnection(is_lmtp=True)
    answer(client, b"220 there.example LMTP\r\n")
    client.hello("here.example")
    assert client.data_to_send() == b"LHLO here.example\r\n"
    assert isinstance(answer(client, b"250-there.example\r\n250 PIPELINING\r\n"), HelloDone)
    client.begin_transaction(ReversePath(), PATHS)
    envelope = answer(client, b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go on\r\n")
    assert isinstance(envelope, EnvelopeDone)
    assert envelope.may_send_content
    client.send_content(b"Subject: x\r\n\r\n")
    client.end_content()
    assert client.is_after_content
    return client


def test_each_recipient_that_was_accepted_has_its_own_reply(client: ClientConnection) -> None:
    assert answer(client, b"250 2.0.0 ok\r\n") is NEED_DATA
    assert client.is_after_content
    full = Reply.make(452, "4.2.2", "full")
    assert answer(client, b"452 4.2.2 full\r\n") == ContentDone(full, (Reply.make(250, "2.0.0", "ok"), full))
    client.begin_transaction(ReversePath(), PATHS[:1])


def test_replies_that_came_before_the_connection_was_lost_are_kept(client: ClientConnection) -> None:
    assert answer(client, b"250 2.0.0 ok\r\n") is NEED_DATA
    with pytest.raises(ConnectionLost) as caught:
        answer(client, b"")
    assert caught.value.is_after_content
    assert client.final_replies == (Reply.make(250, "2.0.0", "ok"),)


def test_421_stands_for_those_who_have_no_reply_yet(client: ClientConnection) -> None:
    closing = Reply.make(421, "4.3.2", "closing")
    assert answer(client, b"421 4.3.2 closing\r\n") == ContentDone(closing, (closing, closing))
    assert client.is_closed


def test_there_is_no_helo_to_fall_back_to() -> None:
    client = ClientConnection(is_lmtp=True)
    answer(client, b"220 there.example\r\n")
    client.hello("here.example")
    event = answer(client, b"500 5.5.1 what\r\n")
    assert isinstance(event, HelloDone)
    assert event.reply.code == 500


def test_a_server_that_wants_content_for_nobody_gets_a_lone_dot_and_answers_nothing() -> None:
    client = ClientConnection(is_lmtp=True)
    answer(client, b"220 there.example\r\n")
    client.hello("here.example")
    answer(client, b"250-there.example\r\n250 PIPELINING\r\n")
    client.begin_transaction(ReversePath(), PATHS[:1])
    envelope = answer(client, b"250 ok\r\n550 5.1.1 no\r\n354 go on\r\n")
    assert isinstance(envelope, EnvelopeDone)
    assert not envelope.may_send_content
    assert client.data_to_send() == b".\r\n"
    client.reset()
