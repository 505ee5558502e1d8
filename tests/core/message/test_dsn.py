"""Delivery status notifications, as other parsers read them."""

from __future__ import annotations

import base64
import email
import email.policy
import re
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from flufl.bounce import all_failures
from msgspec.structs import replace

from mailcrane.message.dsn import Action, DeliveryStatus, compose_dsn, status_code
from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

STATUS = DeliveryStatus(
    Action.FAILED,
    "5.1.1",
    Mailbox("ann", "here.example"),
    Mailbox("you", "there.example"),
    "Your message was not delivered.\n\nCheck the address.",
    datetime(2026, 3, 1, 11, 0, 0, tzinfo=UTC),
    Reply.make(550, "5.1.1", "no such user\nat all"),
    remote_mta="mx.there.example (192.0.2.1)",
    last_attempt_at=datetime(2026, 3, 1, 11, 59, 0, tzinfo=UTC),
    message_id="<1@here.example>",
    header=b"From: ann@here.example\r\nSubject: news\r\n",
)


def composed(**fields: Any) -> tuple[bytes, EmailMessage]:
    octets = compose_dsn(replace(STATUS, **fields), hostname="mail.here.example", now=NOW)
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return octets, message


def blocks(octets: bytes, message: EmailMessage) -> list[EmailMessage]:
    """The blocks of the machine's part."""
    boundary = message.get_boundary()
    assert boundary is not None
    part = octets.split(f"--{boundary}\r\n".encode())[2].partition(b"\r\n\r\n")[2]
    found = [email.message_from_bytes(block, policy=email.policy.default) for block in part.split(b"\r\n\r\n")]
    return [block for block in found if isinstance(block, EmailMessage) and block.keys()]


def test_a_code_that_no_server_said_is_of_a_type_of_our_own() -> None:
    octets, _ = composed(remote_mta="", reply=Reply.make(556, "5.1.10", "takes no mail"))
    assert b"\r\nDiagnostic-Code: x-mailcrane; 556 5.1.10 takes no mail\r\n" in octets
    assert b"Remote-MTA" not in octets


def test_a_failure_tells_everything_in_its_three_parts() -> None:
    octets, message = composed(future_release="for;3600")
    assert octets.isascii()
    assert [str(message[name]) for name in ("From", "To", "Subject", "Date", "References", "Auto-Submitted")] == [
        "Mail Delivery System <postmaster@mail.here.example>",
        "ann@here.example",
        "Not delivered to you@there.example",
        "Sun, 01 Mar 2026 12:00:00 +0000",
        "<1@here.example>",
        "auto-replied",
    ]
    assert re.fullmatch(r"<[^@]+@mail\.here\.example>", str(message["Message-Id"]))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message.defects == []
    text, report, original = message.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert text.get_content().replace("\r\n", "\n") == "Your message was not delivered.\n\nCheck the address.\n"
    assert (report.get_content_type(), original.get_content_type()) == (
        "message/delivery-status",
        "text/rfc822-headers",
    )
    assert original.get_content().encode() == STATUS.header
    of_message, of_recipient = blocks(octets, message)
    assert dict(of_message.items()) == {
        "Reporting-MTA": "dns; mail.here.example",
        "Arrival-Date": "Sun, 1 Mar 2026 11:00:00 +0000",
        "Future-Release-Request": "for;3600",
    }
    assert dict(of_recipient.items()) == {
        "Final-Recipient": "rfc822; you@there.example",
        "Action": "failed",
        "Status": "5.1.1 (no such user at all)",
        "Remote-MTA": "dns; mx.there.example (192.0.2.1)",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user at all",
        "Last-Attempt-Date": "Sun, 1 Mar 2026 11:59:00 +0000",
    }


def test_bounce_detectors_take_it_for_what_it_is() -> None:
    _, message = composed()
    assert all_failures(message) == (frozenset(), frozenset({b"you@there.example"}))
    _, message = composed(action=Action.DELAYED, status="4.2.2", will_retry_until=NOW)
    assert all_failures(message) == (frozenset({b"you@there.example"}), frozenset())


def test_a_delay_tells_until_when_it_is_tried() -> None:
    until = datetime(2026, 3, 2, 1, 2, 3, tzinfo=UTC)
    octets, message = composed(action=Action.DELAYED, status="4.2.2", will_retry_until=until)
    assert message["Subject"] == "Not delivered yet to you@there.example"
    _, of_recipient = blocks(octets, message)
    assert (of_recipient["Action"], of_recipient["Will-Retry-Until"]) == ("delayed", "Mon, 2 Mar 2026 01:02:03 +0000")


def test_what_is_not_known_is_left_out() -> None:
    octets, message = composed(
        reply=None, error="no route (at all)", remote_mta="", last_attempt_at=None, message_id="odd", header=b""
    )
    assert message["References"] is None
    assert len(list(message.iter_parts())) == 2
    _, of_recipient = blocks(octets, message)
    assert dict(of_recipient.items()) == {
        "Final-Recipient": "rfc822; you@there.example",
        "Action": "failed",
        "Status": "5.1.1 (no route at all)",
    }


def test_an_internationalised_recipient_makes_an_internationalised_report() -> None:
    octets, message = composed(forward_path=Mailbox("jürgen", "xn--bcher-kva.example"))
    assert not octets.isascii()
    assert message["Content-Transfer-Encoding"] == "8bit"
    part = list(message.iter_parts())[1]
    assert part.get_content_type() == "message/global-delivery-status"
    assert "Final-Recipient: utf-8; jürgen@bücher.example\r\n".encode() in octets
    assert "Subject: Not delivered to jürgen@bücher.example\r\n".encode() in octets


def test_an_internationalised_domain_alone_keeps_the_report_in_ascii() -> None:
    octets, message = composed(forward_path=Mailbox("you", "xn--bcher-kva.example"))
    assert octets.isascii()
    assert b"Final-Recipient: rfc822; you@xn--bcher-kva.example\r\n" in octets
    assert message["Subject"] == "Not delivered to you@bücher.example"


def test_what_a_next_hop_says_beyond_ascii_is_escaped_where_the_report_is_ascii() -> None:
    octets, _ = composed(reply=Reply.make(550, "5.1.1", "unbekannt: Jürgen \ud800 \U0001f600"))
    assert b"J\\x{FC}rgen" in octets
    assert octets.isascii()
    octets, _ = composed(reply=Reply.make(550, "5.1.1", "unbekannt: Jürgen"), reverse_path=Mailbox("ä", "here.example"))
    assert "Diagnostic-Code: smtp; 550 5.1.1 unbekannt: Jürgen\r\n".encode() in octets


HOSTILE = [
    "line\r\nAction: delivered\r\n\r\nFinal-Recipient: rfc822; other@there.example",
    "--boundary\n\x00\x01\x1b[31m\x7f\x85\u2028end",
    "x" * 5000,
    "ü" * 5000,
    "\U0001f600" * 5000,
    ") (\\" * 100,
    " " * 5000,
    "",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("local_part", ["you", "jürgen"])
def test_a_reply_cannot_break_out_of_its_field(text: str, local_part: str) -> None:
    reply = Reply(550, "5.1.1", tuple(text.split("\n")))
    octets, message = composed(reply=reply, remote_mta=text, forward_path=Mailbox(local_part, "there.example"))
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", octets)
    assert len(list(message.iter_parts())) == 3
    of_message, of_recipient = blocks(octets, message)
    assert of_recipient.get_all("Action") == ["failed"]
    assert len(of_recipient.get_all("Final-Recipient", [])) == 1
    assert of_message["Reporting-MTA"] == "dns; mail.here.example"


HEADERS = {
    b"Subject: " + "Grüße".encode() + b"\r\n": ("message/global-headers", "8bit"),
    b"Subject: Gr\xfc\xdfe\r\n": ("text/rfc822-headers", "base64"),
    b"Subject: " + b"x" * 2000 + b"\r\n": ("text/rfc822-headers", "base64"),
    b"Subject: bare\nline feed\r\n": ("text/rfc822-headers", "base64"),
    b"Subject: \x00\r\n": ("text/rfc822-headers", "base64"),
    b"--\r\nFrom: x\r\n": ("text/rfc822-headers", "7bit"),
}


@pytest.mark.parametrize(("header", "expected"), HEADERS.items(), ids=range(len(HEADERS)))
def test_the_originals_header_comes_back_octet_by_octet(header: bytes, expected: tuple[str, str]) -> None:
    octets, message = composed(header=header)
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    part = list(message.iter_parts())[2]
    assert (part.get_content_type(), part["Content-Transfer-Encoding"]) == expected
    encoded = octets.partition(b"Content-Type: " + expected[0].encode())[2].partition(b"\r\n\r\n")[2]
    encoded = encoded.rpartition(b"\r\n--=_")[0]
    if expected[1] == "base64":
        encoded = base64.b64decode(encoded)
    assert encoded == header


def test_a_long_header_is_cut_after_a_whole_field() -> None:
    header = b"".join(b"X-Field-%d: %s\r\n folded\r\n" % (number, b"y" * 500) for number in range(1000))
    _, message = composed(header=header)
    found = list(message.iter_parts())[2].get_content().encode()
    assert header.startswith(found)
    assert 60_000 < len(found) <= 65_536
    assert found.endswith(b" folded\r\n")
    assert header[len(found) :].startswith(b"X-Field-")


def test_a_header_of_one_endless_field_is_left_out() -> None:
    _, message = composed(header=b"X: y" + b"\r\n z" * 100_000 + b"\r\n")
    assert list(message.iter_parts())[2].get_content().strip() == ""


def test_the_time_it_takes_grows_with_what_it_is_made_of() -> None:
    def seconds(size: int) -> float:
        reply = Reply(550, "5.1.1", ("(\\ü " * size,) * 3)
        began = time.perf_counter()
        status = replace(STATUS, reply=reply, header=b"X: y\r\n z\r\n" * size)
        compose_dsn(status, hostname="mail.here.example", now=NOW)
        return time.perf_counter() - began

    seconds(10)
    assert seconds(200_000) < 0.5


@pytest.mark.parametrize(
    ("action", "reply", "expected"),
    [
        (Action.FAILED, Reply(550, "5.1.1"), "5.1.1"),
        (Action.FAILED, Reply(452, "4.2.2"), "5.2.2"),
        (Action.DELAYED, Reply(451, "4.7.1"), "4.7.1"),
        (Action.FAILED, Reply(550), "5.0.0"),
        (Action.FAILED, None, "5.4.7"),
        (Action.DELAYED, Reply(451, "odd"), "4.0.0"),
    ],
)
def test_the_status_is_of_the_actions_class(action: Action, reply: Reply | None, expected: str) -> None:
    assert status_code(action, reply, "4.7") == expected
