"""The client against a server that is written out as text."""

from __future__ import annotations

import pytest

from mailcrane.model.address import NULL_REVERSE_PATH, Mailbox, ReversePath
from mailcrane.model.reply import Reply
from mailcrane.smtp.client import (
    NEED_DATA,
    AuthChallenge,
    AuthDone,
    ClientConnection,
    ClientEvent,
    ContentDone,
    EnvelopeDone,
    Greeting,
    HelloDone,
    QuitDone,
    ResetDone,
    StartTLSDone,
)
from mailcrane.smtp.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError

ALICE = ReversePath(Mailbox("alice", "example.net"))
BOB, CAROL = Mailbox("bob", "example.org"), Mailbox("carol", "example.org")
OK = b"250 2.0.0 OK\r\n"


def answer(client: ClientConnection, octets: bytes) -> ClientEvent:
    """Let the server say something, and expect an event of it."""
    client.receive(octets)
    event = client.next_event()
    assert event is not NEED_DATA
    return event


def waits(client: ClientConnection, octets: bytes) -> bytes:
    """Let the server say something that is no event, and return what the client says to it."""
    client.receive(octets)
    assert client.next_event() is NEED_DATA
    return client.data_to_send()


def connected(*extensions: str) -> ClientConnection:
    client = ClientConnection()
    assert isinstance(answer(client, b"220 mx ESMTP\r\n"), Greeting)
    client.hello("client.example")
    lines = ["mx", *extensions]
    answer(client, b"".join(f"250-{line}\r\n".encode() for line in lines[:-1]) + f"250 {lines[-1]}\r\n".encode())
    assert client.data_to_send() == b"EHLO client.example\r\n"
    return client


def begin(client: ClientConnection, *forward_paths: Mailbox) -> bytes:
    client.begin_transaction(ALICE, forward_paths or (BOB, CAROL))
    return client.data_to_send()


def replies(*codes: int) -> bytes:
    return b"".join(f"{code} text {code}\r\n".encode() for code in codes)


def test_ehlo_tells_the_extensions() -> None:
    client = connected("PIPELINING", "SIZE 1000")
    assert client.extensions.max_message_octets == 1000


@pytest.mark.parametrize("code", [500, 501, 502, 503, 504])
def test_helo_is_tried_where_ehlo_is_not_known(code: int) -> None:
    client = ClientConnection()
    answer(client, b"220 mx\r\n")
    client.hello("client.example")
    client.data_to_send()
    assert waits(client, replies(code)) == b"HELO client.example\r\n"
    event = answer(client, b"250 mx\r\n")
    assert isinstance(event, HelloDone)
    assert event.extensions.keywords == {}


@pytest.mark.parametrize("code", [421, 450, 550, 554])
def test_helo_is_not_tried_where_ehlo_is_refused_otherwise(code: int) -> None:
    client = ClientConnection()
    answer(client, b"220 mx\r\n")
    client.hello("client.example")
    event = answer(client, replies(code))
    assert isinstance(event, HelloDone)
    assert event.reply.code == code
    assert client.is_closed is (code == 421)


def test_a_refusing_greeting_is_an_event() -> None:
    client = ClientConnection()
    event = answer(client, b"554 5.7.1 go away\r\n")
    assert event == Greeting(Reply(554, "5.7.1", ("go away",)))
    client.quit()
    assert isinstance(answer(client, b"221 bye\r\n"), QuitDone)
    assert client.is_closed


def test_starttls_forgets_the_extensions() -> None:
    client = connected("STARTTLS", "PIPELINING")
    client.start_tls()
    assert client.data_to_send() == b"STARTTLS\r\n"
    assert isinstance(answer(client, b"220 go\r\n"), StartTLSDone)
    with pytest.raises(LocalProtocolError):
        client.receive(b"x")
    client.tls_started()
    assert "PIPELINING" not in client.extensions
    client.hello("client.example")


def test_plaintext_behind_the_reply_to_starttls_breaks_the_protocol() -> None:
    client = connected("STARTTLS")
    client.start_tls()
    client.receive(b"220 go\r\n250 injected\r\n")
    with pytest.raises(RemoteProtocolError):
        client.next_event()
    assert client.is_closed


def test_starttls_may_be_refused() -> None:
    client = connected("STARTTLS")
    client.start_tls()
    assert isinstance(answer(client, b"454 not now\r\n"), StartTLSDone)
    begin(client)


def test_auth_goes_through_challenges() -> None:
    client = connected("AUTH LOGIN")
    client.authenticate("LOGIN", None)
    assert client.data_to_send() == b"AUTH LOGIN\r\n"
    assert answer(client, b"334 VXNlcm5hbWU6\r\n") == AuthChallenge(b"Username:")
    client.auth_response(b"")
    assert client.data_to_send() == b"\r\n"
    assert answer(client, b"334 \r\n") == AuthChallenge(b"")
    client.auth_abort()
    assert client.data_to_send() == b"*\r\n"
    assert isinstance(answer(client, b"501 5.5.0 cancelled\r\n"), AuthDone)


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    client = connected("AUTH EXTERNAL")
    client.authenticate("EXTERNAL", b"")
    assert client.data_to_send() == b"AUTH EXTERNAL =\r\n"
    client.receive(b"334 ?\r\n")
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_the_envelope_is_sent_at_once_where_pipelining_is_offered() -> None:
    client = connected("PIPELINING")
    assert begin(client) == (
        b"MAIL FROM:<alice@example.net>\r\nRCPT TO:<bob@example.org>\r\nRCPT TO:<carol@example.org>\r\nDATA\r\n"
    )
    event = answer(client, replies(250, 250, 550, 354))
    assert isinstance(event, EnvelopeDone)
    assert [reply.code for reply in event.recipients] == [250, 550]
    assert event.may_send_content
    assert client.send_content(b".hi") == b"..hi"
    client.end_content()
    assert client.data_to_send() == b"\r\n.\r\n"
    assert client.is_after_content
    assert answer(client, OK) == ContentDone(Reply(250, "2.0.0", ("OK",)))


def test_the_envelope_is_sent_step_by_step_without_pipelining() -> None:
    client = connected("SIZE")
    assert begin(client) == b"MAIL FROM:<alice@example.net>\r\n"
    assert waits(client, OK) == b"RCPT TO:<bob@example.org>\r\n"
    assert waits(client, OK) == b"RCPT TO:<carol@example.org>\r\n"
    assert waits(client, OK) == b"DATA\r\n"
    event = answer(client, b"354 go\r\n")
    assert isinstance(event, EnvelopeDone)
    assert event.may_send_content


def test_parameters_are_sent_as_the_server_knows_them() -> None:
    client = connected("SIZE 1000", "8BITMIME", "SMTPUTF8", "REQUIRETLS")
    path = Mailbox("j\u00f6", "example.org")
    client.begin_transaction(NULL_REVERSE_PATH, [path], size_octets=7, body="8BITMIME", smtputf8=True, require_tls=True)
    assert client.data_to_send() == b"MAIL FROM:<> SIZE=7 BODY=8BITMIME SMTPUTF8 REQUIRETLS\r\n"
    assert waits(client, OK) == "RCPT TO:<j\u00f6@example.org>\r\n".encode()
    client = connected("X")
    client.begin_transaction(ALICE, [BOB], size_octets=7, body="8BITMIME")
    assert client.data_to_send() == b"MAIL FROM:<alice@example.net>\r\n"


def test_extensions_that_are_missing_are_not_used() -> None:
    client = connected("SIZE")
    with pytest.raises(LocalProtocolError):
        client.begin_transaction(ALICE, [BOB], smtputf8=True)
    with pytest.raises(LocalProtocolError):
        client.begin_transaction(ALICE, [BOB], require_tls=True)
    with pytest.raises(LocalProtocolError):
        client.begin_transaction(ALICE, [])
    with pytest.raises(LocalProtocolError):
        client.begin_transaction(ALICE, [Mailbox("x>\r\nRCPT TO:<y", "example.org")])
    begin(client)


def test_a_refused_mail_is_told_for_every_recipient() -> None:
    for pipelining in (True, False):
        client = connected("PIPELINING" if pipelining else "X")
        begin(client)
        event = answer(client, replies(550, 503, 503, 503) if pipelining else replies(550))
        assert isinstance(event, EnvelopeDone)
        assert [reply.code for reply in event.recipients] == [550, 550]
        assert not event.may_send_content


def test_without_an_accepted_recipient_there_is_no_data() -> None:
    client = connected("X")
    begin(client)
    waits(client, OK)
    waits(client, replies(550))
    event = answer(client, replies(451))
    assert isinstance(event, EnvelopeDone)
    assert [reply.code for reply in event.recipients] == [550, 451]
    assert client.data_to_send() == b""
    client.reset()
    assert isinstance(answer(client, OK), ResetDone)


def test_a_server_that_asks_for_content_nobody_gets_is_given_a_lone_dot() -> None:
    client = connected("PIPELINING")
    begin(client)
    assert waits(client, replies(250, 550, 550, 354)) == b".\r\n"
    event = answer(client, replies(554))
    assert isinstance(event, EnvelopeDone)
    assert [reply.code for reply in event.recipients] == [550, 550]
    assert not event.may_send_content
    client.quit()


def test_a_refused_data_is_told_for_the_accepted_recipients() -> None:
    client = connected("PIPELINING")
    begin(client)
    event = answer(client, replies(250, 250, 550, 452))
    assert isinstance(event, EnvelopeDone)
    assert [reply.code for reply in event.recipients] == [452, 550]
    assert not event.may_send_content


def test_a_reply_to_data_that_makes_no_sense_defers() -> None:
    client = connected("PIPELINING")
    begin(client)
    event = answer(client, replies(250, 250, 250, 250))
    assert isinstance(event, EnvelopeDone)
    assert [reply.code for reply in event.recipients] == [451, 451]


def test_421_within_the_envelope_is_the_last_word_for_who_was_not_refused() -> None:
    client = connected("PIPELINING")
    begin(client, BOB, CAROL, BOB)
    event = answer(client, replies(250, 550, 250, 421))
    assert isinstance(event, EnvelopeDone)
    assert [reply.code for reply in event.recipients] == [550, 421, 421]
    assert client.is_closed
    with pytest.raises(LocalProtocolError):
        client.next_event()


def test_a_server_that_answers_content_before_it_was_sent_breaks_the_protocol() -> None:
    client = connected("PIPELINING")
    begin(client)
    client.receive(replies(250, 250, 250, 354, 250))
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_a_thousand_recipients_are_sent_a_window_at_a_time() -> None:
    client = connected("PIPELINING")
    paths = [Mailbox(f"user{number}", "example.org") for number in range(1000)]
    sent = begin(client, *paths).count(b"\r\n")
    assert sent == 100
    answered = 0
    while sent < 1002:
        sent += waits(client, OK * 50).count(b"\r\n")
        answered += 50
        assert sent - answered <= 100
    event = answer(client, OK * (1001 - answered) + b"354 go\r\n")
    assert isinstance(event, EnvelopeDone)
    assert len(event.recipients) == 1000


def test_a_connection_lost_after_the_final_dot_is_told_apart() -> None:
    for ends in (False, True):
        client = connected("PIPELINING")
        begin(client)
        answer(client, replies(250, 250, 250, 354))
        if ends:
            client.end_content()
        client.receive(b"")
        with pytest.raises(ConnectionLost) as lost:
            client.next_event()
        assert lost.value.is_after_content is ends


def test_a_server_that_speaks_or_leaves_unasked_is_lost() -> None:
    for octets in (b"421 4.4.2 idle\r\n", b""):
        client = connected("X")
        client.receive(octets)
        with pytest.raises(ConnectionLost):
            client.next_event()


def test_a_positive_reply_before_the_final_dot_is_not_believed() -> None:
    client = connected("PIPELINING")
    begin(client)
    answer(client, replies(250, 250, 250, 354))
    event = answer(client, OK)
    assert event == ContentDone(Reply.make(451, "4.5.0", "Next hop answered out of place: 250"))
    assert client.is_closed


def test_steps_are_taken_one_at_a_time() -> None:
    client = ClientConnection()
    for step in (
        client.start_tls,
        client.reset,
        client.quit,
        client.end_content,
        client.tls_started,
        client.auth_abort,
    ):
        with pytest.raises(LocalProtocolError):
            step()
    with pytest.raises(LocalProtocolError):
        client.send_content(b"x")
