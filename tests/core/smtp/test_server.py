"""What a server answers to commands, by code; texts are free."""

from __future__ import annotations

from typing import Any

import pytest

from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply
from mailcrane.smtp import replies
from mailcrane.smtp.command import Data, Hello, Mail, Rcpt, StartTLS
from mailcrane.smtp.errors import LocalProtocolError
from mailcrane.smtp.event import (
    FLUSH,
    NEED_DATA,
    PAUSED,
    Closed,
    Content,
    ContentRefused,
    EndOfContent,
    Reset,
)
from mailcrane.smtp.server import ServerConfig, ServerConnection

EHLO = "EHLO client.example.net"
MAIL = "MAIL FROM:<alice@example.net>"
RCPT = "RCPT TO:<bob@example.org>"


def test_a_relaying_server_announces_its_extensions_in_order(dialog: Any) -> None:
    d = dialog(offers_starttls=True)
    assert d.greeting == b"220 mx.example.org ESMTP Mailcrane\r\n"
    assert d.say(EHLO).split("\r\n") == [
        "250-mx.example.org",
        "250-PIPELINING",
        "250-SIZE 104857600",
        "250-STARTTLS",
        "250-ENHANCEDSTATUSCODES",
        "250-8BITMIME",
        "250-LIMITS RCPTMAX=1000",
        "250 SMTPUTF8",
    ]


def test_within_tls_requiretls_takes_the_place_of_starttls(dialog: Any) -> None:
    d = dialog(offers_starttls=True)
    d.say(EHLO)
    assert d.say("STARTTLS").startswith("220 2.0.0 ")
    lines = d.say(EHLO).split("\r\n")
    assert "250-REQUIRETLS" in lines
    assert "250-STARTTLS" not in lines


def test_helo_gets_the_same_lines_as_ehlo(dialog: Any) -> None:
    assert dialog().say(EHLO) == dialog().say("HELO client.example.net")


def test_submission_announces_auth_and_future_release(submission: Any) -> None:
    lines = submission.say(EHLO).split("\r\n")
    assert lines[3:6] == [
        "250-REQUIRETLS",
        "250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN",
        "250-FUTURERELEASE 5184000 2026-04-30T12:00:00Z",
    ]


def test_the_mechanisms_are_a_secret_until_there_is_tls(dialog: Any) -> None:
    d = dialog(is_submission=True, offers_starttls=True, mechanisms=("PLAIN",))
    assert "250-AUTH " in d.say(EHLO).split("\r\n")


def test_a_transaction_runs_from_mail_to_the_final_dot(dialog: Any) -> None:
    d = dialog()
    assert d.say(EHLO, MAIL).startswith("250 2.1.0 ")
    assert d.say(RCPT).startswith("250 2.1.0 ")
    assert d.say("DATA").startswith("354 ")
    assert d.say("Subject: hi", "", "..dot", ".").startswith("250 2.2.0 ")
    assert d.say("QUIT").startswith("221 2.0.0 ")
    assert d.content == b"Subject: hi\r\n\r\n.dot\r\n"
    assert [event for event in d.events if not isinstance(event, Content)] == [
        Hello("client.example.net", True),
        d.events[1],
        Rcpt(Mailbox("bob", "example.org")),
        Data(),
        EndOfContent(len(d.content), False),
        Closed("quit"),
    ]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([EHLO, "NOOP"], "250 2.0.0"),
        ([EHLO, "NOOP whatever"], "250 2.0.0"),
        ([EHLO, "RSET"], "250 2.0.0"),
        ([EHLO, "VRFY bob"], "252 2.7.0"),
        ([EHLO, "EXPN list"], "252 2.7.0"),
        ([EHLO, "HELP"], "214 2.0.0"),
        ([EHLO, "mail from:<a@b.example>"], "250 2.1.0"),
        ([EHLO, "MAIL FROM: <a@b.example>"], "250 2.1.0"),
        ([EHLO, "MAIL FROM:<>"], "250 2.1.0"),
        ([EHLO, "MAIL FROM:<@x.example,@y.example:a@b.example>"], "250 2.1.0"),
        ([EHLO, "XYZZY"], "500 5.5.1"),
        ([EHLO, ""], "500 5.5.1"),
        ([EHLO, "NOOP \x01"], "500 5.5.2"),
        ([EHLO, "RSET now"], "501 5.5.4"),
        ([EHLO, "QUIT now"], "501 5.5.4"),
        (["EHLO"], "501 5.5.2"),
        (["EHLO -bad-"], "501 5.5.2"),
        (["EHLO [192.0.2.1"], "501 5.5.2"),
        (["HELO b\u00fccher.example"], "501 5.5.2"),
        ([MAIL], "503 5.5.1"),
        ([RCPT], "503 5.5.1"),
        (["DATA"], "503 5.5.1"),
        ([EHLO, RCPT], "503 5.5.1"),
        ([EHLO, "DATA"], "503 5.5.1"),
        ([EHLO, MAIL, MAIL], "503 5.5.1"),
        ([EHLO, MAIL, "DATA"], "503 5.5.1"),
        ([EHLO, MAIL, RCPT, "DATA now"], "501 5.5.4"),
        ([EHLO, MAIL, "RSET", RCPT], "503 5.5.1"),
        ([EHLO, MAIL, EHLO, RCPT], "503 5.5.1"),
        ([EHLO, "AUTH PLAIN"], "503 5.5.1"),
        ([EHLO, "STARTTLS"], "502 5.5.1"),
        ([EHLO, "MAIL FROM:a@b.example"], "501 5.5.2"),
        ([EHLO, "MAIL FROM:<a@b.example"], "501 5.5.2"),
        ([EHLO, "MAIL TO:<a@b.example>"], "501 5.5.2"),
        ([EHLO, "MAIL FROM:<@a.example:>"], "501 5.5.2"),
        ([EHLO, "MAIL FROM:<a..b@b.example>"], "501 5.5.2"),
        ([EHLO, "MAIL FROM:<a@b.example>SIZE=1"], "501 5.5.2"),
        ([EHLO, MAIL + " SIZE=1 SIZE=1"], "501 5.5.4"),
        ([EHLO, MAIL + " SIZE=x"], "501 5.5.4"),
        ([EHLO, MAIL + " SIZE"], "501 5.5.4"),
        ([EHLO, MAIL + " BODY=BINARYMIME"], "501 5.5.4"),
        ([EHLO, MAIL + " SMTPUTF8=1"], "501 5.5.4"),
        ([EHLO, MAIL + " AUTH="], "501 5.5.4"),
        ([EHLO, MAIL + " AUTH=+zz"], "501 5.5.4"),
        ([EHLO, MAIL + " =1"], "501 5.5.4"),
        ([EHLO, MAIL + " AUTH=<>"], "250 2.1.0"),
        ([EHLO, MAIL + " SIZE=104857600 BODY=8BITMIME"], "250 2.1.0"),
        ([EHLO, MAIL + " SIZE=104857601"], "552 5.3.4"),
        ([EHLO, MAIL + " FOO=1"], "555 5.3.3"),
        ([EHLO, MAIL + " HOLDFOR=1"], "555 5.3.3"),
        ([EHLO, MAIL + " REQUIRETLS"], "523 5.7.10"),
        ([EHLO, "MAIL FROM:<j\u00f6@b.example>"], "550 5.6.7"),
        ([EHLO, "MAIL FROM:<j\u00f6@b.example> SMTPUTF8"], "250 2.1.0"),
        ([EHLO, MAIL, "RCPT TO:<j\u00f6@b.example>"], "553 5.6.7"),
        ([EHLO, MAIL, "RCPT TO:<bob@example.org> NOTIFY=NEVER"], "555 5.3.3"),
        ([EHLO, MAIL, "RCPT TO:<>"], "501 5.5.2"),
        ([EHLO, MAIL, "RCPT TO:<PostMaster>"], "250 2.1.0"),
        ([EHLO, MAIL, 'RCPT TO:<"a > b"@example.org>'], "250 2.1.0"),
        ([EHLO, "MAIL FROM:<>", RCPT, RCPT], "452 4.5.3"),
    ],
)
def test_a_relaying_server_answers_with_the_right_code(dialog: Any, lines: list[str], code: str) -> None:
    d = dialog()
    assert d.say(*lines).startswith(code + " ")
    assert not d.is_closed


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("HOLDFOR=5184000", "250 2.1.0"),
        ("HOLDFOR=5184001", "554 5.5.4"),
        ("HOLDFOR=0", "501 5.5.4"),
        ("HOLDFOR=x", "501 5.5.4"),
        ("HOLDUNTIL=2026-03-02T00:00:00Z", "250 2.1.0"),
        ("HOLDUNTIL=2026-03-01T14:30:00+02:00", "250 2.1.0"),
        ("HOLDUNTIL=2026-03-01T11:59:59Z", "554 5.5.4"),
        ("HOLDUNTIL=2026-05-01T00:00:00Z", "554 5.5.4"),
        ("HOLDUNTIL=tomorrow", "501 5.5.4"),
        ("HOLDUNTIL=0001-01-01T00:00:00+23:59", "501 5.5.4"),
        ("HOLDFOR=1 HOLDUNTIL=2026-03-02T00:00:00Z", "501 5.5.4"),
        ("REQUIRETLS", "250 2.1.0"),
        ("REQUIRETLS=1", "501 5.5.4"),
    ],
)
def test_a_submission_server_answers_parameters_with_the_right_code(
    submission: Any, parameters: str, code: str
) -> None:
    submission.say(EHLO, "AUTH PLAIN AGEAYg==")
    assert submission.say(f"{MAIL} {parameters}").startswith(code + " ")


def test_future_release_is_told_in_the_form_that_the_queue_keeps(submission: Any) -> None:
    submission.say(EHLO, "AUTH PLAIN AGEAYg==", MAIL + " HOLDUNTIL=2026-03-01T14:30:00+02:00", "RSET")
    submission.say(MAIL + " HOLDFOR=60")
    until, seconds = (event for event in submission.events if isinstance(event, Mail))
    now = submission.connection._clock.now()
    assert (until.future_release, until.release_at(now)) == ("until;2026-03-01T12:30:00Z", until.hold_until)
    assert seconds.future_release == "for;60"
    assert (seconds.release_at(now) - now).total_seconds() == 60


def test_a_declared_size_that_others_would_take_is_told_apart(dialog: Any) -> None:
    d = dialog(max_message_octets=1000)
    assert d.say(EHLO, MAIL + " SIZE=1001").startswith("552 5.2.3 ")


def test_requiretls_is_unknown_where_it_is_not_offered(dialog: Any) -> None:
    assert dialog(is_tls=True, offers_require_tls=False).say(EHLO, MAIL + " REQUIRETLS").startswith("555 5.3.3 ")


def test_postmaster_without_a_domain_is_the_one_of_this_host(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO, MAIL, "RCPT TO:<Postmaster>")
    assert d.events[-1] == Rcpt(Mailbox("Postmaster", "mx.example.org"))


def test_error_replies_end_with_the_session_id(dialog: Any) -> None:
    d = dialog()
    assert d.say(EHLO, "XYZZY").endswith(" (s1)")
    d.answers[Mail] = Reply.make(550, "5.1.0", "One\nTwo")
    assert d.say(MAIL) == "550-5.1.0 One\r\n550 5.1.0 Two (s1)"


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "", "\u00ff"])
def test_an_unknown_first_command_closes(dialog: Any, line: str) -> None:
    d = dialog()
    assert d.say(line).startswith("500 5.5.2 ")
    assert d.is_closed


@pytest.mark.parametrize("octets", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP \xff\r\n", b"NOOP\0\r\n", b"NOOP\t\r\n", b"\n"])
def test_a_line_that_is_no_proper_line_is_refused(dialog: Any, octets: bytes) -> None:
    d = dialog()
    d.say(EHLO)
    assert d.send(octets).startswith(b"500 5.5.2 ")
    assert d.say("NOOP").startswith("250 ")


def test_a_line_may_have_2048_octets_and_not_one_more(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO)
    assert d.send(b"NOOP " + b"x" * 2041 + b"\r\n").startswith(b"250 ")
    assert d.send(b"NOOP " + b"x" * 2042 + b"\r\n").startswith(b"500 5.5.0 ")
    assert d.is_closed


def test_a_line_without_an_end_is_not_waited_for(dialog: Any) -> None:
    d = dialog()
    assert d.send(b"x" * 2048) == b""
    assert d.send(b"x").startswith(b"500 5.5.0 ")
    assert d.is_closed


def test_the_1001st_recipient_is_one_too_many(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO, MAIL, *[RCPT] * 999)
    assert d.say(RCPT).startswith("250 ")
    assert d.say(RCPT).startswith("452 4.5.3 ")
    assert d.say("DATA").startswith("354 ")


def test_refused_recipients_do_not_count(dialog: Any) -> None:
    d = dialog(max_recipients=1)
    d.answers[Rcpt] = Reply.make(550, "5.1.1", "No")
    d.say(EHLO, MAIL, RCPT, RCPT)
    assert d.say("DATA").startswith("503 5.5.1 ")
    del d.answers[Rcpt]
    assert d.say(RCPT).startswith("250 ")


def test_plaintext_rcpt_is_refused_where_tls_is_required(dialog: Any) -> None:
    d = dialog(offers_starttls=True, requires_starttls=True)
    assert d.say(EHLO, MAIL, RCPT).startswith("530 5.7.0 ")
    assert d.say("RSET", "STARTTLS", EHLO, MAIL, RCPT).startswith("250 ")


def test_after_eleven_bad_transactions_and_no_good_one_the_session_ends(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO, *[MAIL, "RSET"] * 11)
    assert d.say(MAIL).startswith("550 5.1.0 ")
    assert d.is_closed


def test_one_good_transaction_forgives_bad_ones(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO, MAIL, RCPT, "DATA", ".", *[MAIL, "RSET"] * 20)
    assert d.say(MAIL).startswith("250 ")


def test_starttls_forgets_everything(dialog: Any) -> None:
    d = dialog(offers_starttls=True)
    assert d.say(EHLO, MAIL, "STARTTLS").startswith("220 ")
    assert d.say(MAIL).startswith("503 ")
    assert d.say(EHLO, RCPT).startswith("503 ")
    assert d.say("STARTTLS").startswith("503 ")


def test_starttls_comes_after_ehlo_and_takes_no_argument(dialog: Any) -> None:
    d = dialog(offers_starttls=True)
    assert d.say("STARTTLS").startswith("503 ")
    assert d.say(EHLO, "STARTTLS now").startswith("501 5.5.4 ")


def test_plaintext_behind_starttls_closes(dialog: Any) -> None:
    d = dialog(offers_starttls=True)
    d.say(EHLO)
    assert d.send(b"STARTTLS\r\nMAIL FROM:<>\r\n").startswith(b"503 5.5.1 ")
    assert d.is_closed
    assert not any(isinstance(event, StartTLS | Mail) for event in d.events)


def test_nothing_is_received_between_starttls_and_the_handshake(dialog: Any) -> None:
    connection = dialog(offers_starttls=True).connection
    connection.receive(f"{EHLO}\r\nSTARTTLS\r\n".encode())
    connection.next_event()
    connection.accept()
    assert connection.next_event() == StartTLS()
    assert connection.next_event() is PAUSED
    with pytest.raises(LocalProtocolError):
        connection.receive(b"x")


@pytest.mark.parametrize("message", [b"a\nb\r\n", b"a\rb\r\n", b"\n.\n\r\n", b"a\r\n.\rb\r\n", b"a\r\r\n"])
def test_a_bare_line_end_refuses_the_message_at_its_real_end(dialog: Any, message: bytes) -> None:
    d = dialog()
    d.say(EHLO, MAIL, RCPT, "DATA")
    assert d.send(message) == b""
    assert d.send(b"MAIL FROM:<smuggled@example.net>\r\n") == b""
    assert d.send(b".\r\n").startswith(b"500 5.5.2 ")
    assert d.events[-1] == ContentRefused(replies.BARE_LINE_END)
    assert d.say(MAIL).startswith("250 ")


def test_a_message_that_is_too_large_is_read_to_its_end_and_the_session_goes_on(dialog: Any) -> None:
    d = dialog(max_message_octets=10)
    d.say(EHLO, MAIL, RCPT, "DATA")
    assert d.send(b"12345678\r\n1\r\n.\r\n").startswith(b"552 5.3.4 ")
    assert d.say(MAIL, RCPT, "DATA", "12345678", ".").startswith("250 2.2.0 ")


def test_a_message_far_too_large_ends_the_session(dialog: Any) -> None:
    d = dialog(max_message_octets=10)
    d.say(EHLO, MAIL, RCPT, "DATA")
    out = b"".join(d.send(b"x" * 65536) for _ in range(17))
    assert out.startswith(b"552 5.3.4 ")
    assert d.is_closed


def test_the_driver_may_give_up_a_message_and_the_rest_is_thrown_away(dialog: Any) -> None:
    for ends_at_once in (True, False):
        c = dialog().connection
        c.receive(f"{EHLO}\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        for _ in range(4):
            c.next_event()
            c.accept()
        c.receive(b"one\r\n" + (b".\r\n" if ends_at_once else b"two\r\n"))
        assert c.next_event() == Content(b"one\r\n" if ends_at_once else b"one\r\ntwo"[: len(b"one\r\ntwo")])
        c.data_to_send()
        c.refuse_content(replies.STORAGE_FULL)
        if not ends_at_once:
            assert c.next_event() is NEED_DATA
            c.receive(b".\r\n")
        assert c.next_event() == ContentRefused(replies.STORAGE_FULL)
        assert c.data_to_send().startswith(b"452 4.3.1 ")
        assert c.next_event() is NEED_DATA
        assert c.mail is None


def test_a_refused_data_command_leaves_the_transaction_as_it_is(dialog: Any) -> None:
    d = dialog()
    d.answers[Data] = replies.STORAGE_FULL
    assert d.say(EHLO, MAIL, RCPT, "DATA").startswith("452 4.3.1 ")
    assert d.say(MAIL).startswith("503 ")


def test_eight_bit_content_is_noticed(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO, MAIL, RCPT, "DATA", "\u00fc", ".")
    assert d.events[-1] == EndOfContent(4, True)


def test_a_refused_helo_leaves_the_state_as_it_was(dialog: Any) -> None:
    d = dialog()
    d.answers[Hello] = Reply.make(550, "5.5.0", "Unknown host")
    assert d.say("HELO nowhere.example").startswith("550 5.5.0 ")
    assert d.say(MAIL).startswith("503 ")


def test_421_as_an_answer_ends_the_dialog(dialog: Any) -> None:
    d = dialog()
    d.answers[Mail] = replies.SHUTTING_DOWN
    assert d.say(EHLO, MAIL).startswith("421 4.3.2 ")
    assert d.events[-1] == Closed("refused")


def test_the_driver_closes_with_a_last_word(dialog: Any) -> None:
    connection = dialog().connection
    connection.close(replies.TIMEOUT)
    connection.close(replies.TIMEOUT)
    assert connection.data_to_send().startswith(b"421 4.4.2 ")
    assert connection.next_event() == Closed("refused")


def test_the_end_of_the_stream_closes_after_what_was_complete(dialog: Any) -> None:
    connection = dialog().connection
    connection.receive(f"{EHLO}\r\nNOOP\r\nMAIL".encode())
    connection.receive(b"")
    connection.next_event()
    connection.accept()
    assert connection.next_event() == Closed("eof")
    assert connection.data_to_send().endswith(b"250 2.0.0 OK\r\n")


def test_the_end_of_the_stream_within_content_closes(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO, MAIL, RCPT, "DATA")
    d.send(b"half a mess")
    d.send(b"")
    assert d.events[-1] == Closed("eof")


def test_rset_tells_the_driver_only_within_a_transaction(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO, "RSET", MAIL, "RSET")
    assert [event for event in d.events if isinstance(event, Reset)] == [Reset()]


def test_transactions_are_numbered_from_one(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO)
    assert d.connection.transaction == 0
    d.say(MAIL, "RSET", MAIL)
    assert d.connection.transaction == 2


def test_pipelined_commands_are_answered_in_one_piece(dialog: Any) -> None:
    d = dialog()
    d.say(EHLO)
    out = d.send(f"{MAIL}\r\n{RCPT}\r\n{RCPT}\r\nDATA\r\n".encode())
    assert [line[:3] for line in out.split(b"\r\n") if line] == [b"250", b"250", b"250", b"354"]


def test_output_behind_many_pipelined_commands_is_handed_over_in_between(dialog: Any) -> None:
    connection = dialog().connection
    connection.receive(f"{EHLO}\r\n".encode() + b"NOOP\r\n" * 5000)
    connection.next_event()
    connection.accept()
    assert connection.next_event() is FLUSH
    assert 16384 < len(connection.data_to_send()) < 20000
    assert connection.next_event() is FLUSH


def test_an_event_waits_for_its_answer(dialog: Any) -> None:
    connection = dialog().connection
    with pytest.raises(LocalProtocolError):
        connection.accept()
    with pytest.raises(LocalProtocolError):
        connection.reply(replies.OK)
    with pytest.raises(LocalProtocolError):
        connection.tls_started()
    with pytest.raises(LocalProtocolError):
        connection.refuse_content(replies.LOCAL_ERROR)
    with pytest.raises(LocalProtocolError):
        connection.challenge(b"")
    connection.receive(f"{EHLO}\r\n".encode())
    connection.next_event()
    assert connection.next_event() is PAUSED


def test_a_submission_client_may_call_itself_anything(submission: Any) -> None:
    assert submission.say("EHLO my laptop!").startswith("250-")
    assert submission.events == [Hello("", True)]


def test_trusted_networks_submit_without_auth(dialog: Any) -> None:
    assert dialog(is_submission=True, requires_auth=False).say(EHLO, MAIL).startswith("250 ")


def test_config_has_the_documented_defaults() -> None:
    config = ServerConfig("mx.example.org")
    assert (config.max_message_octets, config.max_recipients) == (104_857_600, 1000)
    assert ServerConnection(config, session_id="x", clock=None).next_event() is NEED_DATA  # type: ignore[arg-type]
