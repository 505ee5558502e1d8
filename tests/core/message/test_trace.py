from __future__ import annotations

from datetime import UTC, datetime

from mailcrane.message import trace
from mailcrane.message.content import BytesContent
from mailcrane.message.header import parse_header
from mailcrane.model.address import NULL_REVERSE_PATH, Mailbox, ReversePath
from mailcrane.model.session import SessionInfo, TLSInfo

_AT = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
_BOB = Mailbox.parse("bob@b.example")
_TLS = TLSInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
_SESSION = SessionInfo(
    "c1d2", "smtp", "mx", "192.0.2.1", local_ip="2001:db8::1", ehlo="mail.a.example", is_extended=True
)
_PLAIN = SessionInfo("c1d2", "smtp", "mx", "192.0.2.1", ehlo="a b;c")
_SUBMISSION = SessionInfo(
    "c1d2", "submissions", "s", "192.0.2.1", ehlo="laptop", is_extended=True, tls=_TLS, account="ann"
)


def test_a_received_field_tells_who_handed_over() -> None:
    field = trace.received(_SESSION, hostname="mx.b.example", at=_AT, forward_path=_BOB, from_name="host.a.example")
    value = parse_header(bytes(field)).get("Received")
    assert value is not None
    assert value.replace("\t", " ") == (
        "from mail.a.example (host.a.example [192.0.2.1]) by mx.b.example ([IPv6:2001:db8::1]) via tcp with ESMTP "
        "id c1d2 for <bob@b.example>; Fri, 20 Nov 2026 12:00:00 +0000"
    )
    assert all(len(line) <= 78 for line in bytes(field).split(b"\r\n"))


def test_a_received_field_has_no_for_clause_for_several_recipients() -> None:
    value = trace.received(_PLAIN, hostname="mx.b.example", at=_AT, forward_path=None).value
    assert " for " not in value
    assert "with SMTP id" in value
    assert value.startswith("from unknown ([192.0.2.1])")


def test_the_protocol_tells_of_tls_authentication_and_utf8() -> None:
    field = trace.received_submission(
        _SUBMISSION, hostname="mx.b.example", at=_AT, forward_path=_BOB, is_smtputf8=True, is_require_tls=True
    )
    text = field.value.replace("\r\n\t", " ")
    assert "with UTF8SMTPSA (requiretls) id c1d2 (TLSv1.3 TLS_AES_128_GCM_SHA256) for <bob@b.example>;" in text


def test_a_submission_does_not_tell_where_the_author_is() -> None:
    for make in (trace.received_submission, trace.received_http):
        value = make(_SUBMISSION, hostname="mx.b.example", at=_AT, forward_path=_BOB).value
        assert "laptop" not in value
        assert "192.0.2.1" not in value


def test_a_submission_over_http_has_no_with_clause_and_an_empty_for_clause_for_several() -> None:
    value = trace.received_http(_SUBMISSION, hostname="mx.b.example", at=_AT, forward_path=None).value
    assert "with" not in value
    assert "for <>;" in value


def test_a_local_part_that_is_not_ascii_is_not_shown_in_an_ascii_message() -> None:
    value = trace.received_submission(
        _SUBMISSION, hostname="mx.b.example", at=_AT, forward_path=Mailbox.parse("é@b.example")
    ).value
    assert value.isascii()


def test_fields_of_final_delivery() -> None:
    assert bytes(trace.return_path(NULL_REVERSE_PATH)) == b"Return-Path: <>\r\n"
    assert bytes(trace.return_path(ReversePath(_BOB))) == b"Return-Path: <bob@b.example>\r\n"
    assert bytes(trace.delivered_to(_BOB)) == b"Delivered-To: bob@b.example\r\n"
    assert bytes(trace.date(_AT)) == b"Date: Fri, 20 Nov 2026 12:00:00 +0000\r\n"


def test_authentication_results_are_folded() -> None:
    field = trace.authentication_results_submission(hostname="mx.b.example", reverse_path=ReversePath(_BOB))
    assert field.value == "mx.b.example; auth=pass smtp.mailfrom=bob@b.example"
    many = trace.authentication_results(
        hostname="mx.b.example", results=[f"dkim=pass header.d=domain{n}.example" for n in range(5)]
    )
    assert all(len(line) <= 78 for line in bytes(many).split(b"\r\n"))
    assert many.value.count(";") == 5
    assert trace.authentication_results(hostname="h", results=()).value == "h; none"


def test_the_result_of_a_submission_with_the_null_reverse_path_names_no_mailbox() -> None:
    # RFC 8601 section 2.2: a property has a value.
    field = trace.authentication_results_submission(hostname="mx.b.example", reverse_path=NULL_REVERSE_PATH)
    assert field.value == "mx.b.example; auth=pass"


async def test_content_in_memory_comes_in_chunks() -> None:
    octets = b"A: b\r\n\r\n" + b"x" * 600_000
    content = BytesContent(octets)
    chunks = [chunk async for chunk in content.chunks()]
    assert b"".join(chunks) == octets
    assert max(map(len, chunks)) <= 256 * 1024
    assert content.header == b"A: b\r\n"
    assert content.size_octets == len(octets)
    assert BytesContent(b"\r\nbody").header == b""
    assert BytesContent(b"A: b\r\n").header == b"A: b\r\n"
    assert [chunk async for chunk in BytesContent(b"A: b\r\n").chunks()] == [b"A: b\r\n"]
