"""AUTH on the server (RFC 4954), by code."""

from __future__ import annotations

from typing import Any

import pytest

from mailcrane.smtp import replies
from mailcrane.smtp.command import Auth
from mailcrane.smtp.event import AuthAborted, AuthResponse

EHLO = "EHLO client.example.net"
MAIL = "MAIL FROM:<alice@example.net>"
PLAIN = "AUTH PLAIN AGEAYg=="


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([PLAIN], "503 5.5.1"),
        ([EHLO, PLAIN], "235 2.7.0"),
        ([EHLO, "auth plain ="], "235 2.7.0"),
        ([EHLO, PLAIN, PLAIN], "503 5.5.1"),
        ([EHLO, PLAIN, MAIL, PLAIN], "503 5.5.1"),
        ([EHLO, "AUTH"], "501 5.5.2"),
        ([EHLO, "AUTH PLAIN a b"], "501 5.5.2"),
        ([EHLO, "AUTH PLAIN ?"], "501 5.5.2"),
        ([EHLO, "AUTH PLAIN abc"], "501 5.5.2"),
        ([EHLO, "AUTH GSSAPI"], "504 5.5.4"),
        ([EHLO, "AUTH CRAM-MD5"], "504 5.5.4"),
        ([EHLO, MAIL], "530 5.7.0"),
        ([EHLO, "RCPT TO:<a@b.example>"], "530 5.7.0"),
        ([EHLO, "DATA"], "530 5.7.0"),
        ([EHLO, PLAIN, MAIL], "250 2.1.0"),
        ([EHLO, PLAIN, "STARTTLS"], "503 5.5.1"),
    ],
)
def test_auth_is_answered_with_the_right_code(submission: Any, lines: list[str], code: str) -> None:
    assert submission.say(*lines).startswith(code + " ")


def test_auth_needs_tls_where_that_is_required(dialog: Any) -> None:
    d = dialog(is_submission=True, offers_starttls=True, mechanisms=("SCRAM-SHA-256", "PLAIN"))
    assert d.say(EHLO, PLAIN).startswith("538 5.7.11 ")
    assert d.say("AUTH SCRAM-SHA-256").startswith("538 5.7.11 ")
    assert d.say("STARTTLS", EHLO, PLAIN).startswith("235 ")


def test_channel_binding_needs_tls_even_where_auth_does_not(dialog: Any) -> None:
    d = dialog(is_submission=True, requires_tls_for_auth=False, mechanisms=("SCRAM-SHA-256-PLUS", "PLAIN"))
    assert d.say(EHLO, "AUTH SCRAM-SHA-256-PLUS").startswith("538 5.7.11 ")
    assert d.say(PLAIN).startswith("235 ")


def test_starttls_after_auth_in_plaintext_is_refused(dialog: Any) -> None:
    d = dialog(is_submission=True, offers_starttls=True, requires_tls_for_auth=False, mechanisms=("PLAIN",))
    assert d.say(EHLO, PLAIN, "STARTTLS").startswith("503 5.5.1 ")


def test_a_failed_login_may_be_tried_again(submission: Any) -> None:
    submission.answers[Auth] = replies.BAD_CREDENTIALS
    assert submission.say(EHLO, PLAIN).startswith("535 5.7.8 ")
    assert submission.say(MAIL).startswith("530 ")
    del submission.answers[Auth]
    assert submission.say(PLAIN).startswith("235 ")


def test_challenges_are_asked_and_answered_in_base64(submission: Any) -> None:
    c = submission.connection
    submission.say(EHLO)
    c.receive(b"AUTH LOGIN\r\n")
    assert c.next_event() == Auth("LOGIN", None)
    c.challenge(b"Username:")
    assert c.data_to_send() == b"334 VXNlcm5hbWU6\r\n"
    c.receive(b"YQ==\r\n")
    assert c.next_event() == AuthResponse(b"a")
    c.challenge(b"Password:")
    c.receive(b"\r\n")
    assert c.next_event() == AuthResponse(b"")
    c.accept()
    assert c.is_authenticated


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"*\r\n", b"501 5.5.0"), (b"?\r\n", b"501 5.5.2"), (b"YQ==\n", b"500 5.5.2"), (b"\xff\r\n", b"501 5.5.2")],
)
def test_an_exchange_can_be_aborted(submission: Any, line: bytes, code: bytes) -> None:
    c = submission.connection
    submission.say(EHLO)
    c.receive(b"AUTH LOGIN\r\n")
    c.next_event()
    c.challenge(b"Username:")
    c.data_to_send()
    c.receive(line)
    assert c.next_event() == AuthAborted()
    assert c.data_to_send().startswith(code + b" ")
    assert submission.say("NOOP").startswith("250 ")
    assert submission.say(PLAIN).startswith("235 ")


def test_responses_do_not_show_in_logs() -> None:
    assert "secret" not in repr(Auth("PLAIN", b"secret")) + repr(AuthResponse(b"secret"))
