"""Replies on the wire, written and read."""

from __future__ import annotations

import pytest

from mailcrane.model.reply import Reply
from mailcrane.smtp.errors import RemoteProtocolError
from mailcrane.smtp.extensions import Extensions
from mailcrane.smtp.replies import encode_reply
from mailcrane.smtp.reply_reader import ReplyReader


def test_a_long_reply_is_wrapped_at_510_octets() -> None:
    octets = encode_reply(Reply.make(550, "5.1.1", "word " * 300), session_id="s1")
    lines = octets.split(b"\r\n")[:-1]
    assert all(len(line) <= 510 for line in lines)
    assert [line[:10] for line in lines] == [b"550-5.1.1 "] * (len(lines) - 1) + [b"550 5.1.1 "]
    assert lines[-1].endswith(b"(s1)")
    assert b" ".join(line[10:] for line in lines) == b"word " * 300 + b" (s1)"


def test_a_word_without_end_is_cut_between_characters() -> None:
    reply = Reply.make(250, "2.0.0", "x" + "\u00fc" * 600)
    lines = encode_reply(reply, allow_utf8=True).split(b"\r\n")[:-1]
    assert all(len(line) <= 510 for line in lines)
    assert "".join(line[10:].decode() for line in lines) == "x" + "\u00fc" * 600


def test_text_cannot_break_out_of_its_line() -> None:
    assert encode_reply(Reply(550, "", ("a\r\n250 b\x00",))) == b"550 a  250 b \r\n"


def test_text_is_ascii_unless_the_transaction_uses_smtputf8() -> None:
    assert encode_reply(Reply.make(250, "", "f\u00fcr")) == b"250 f?r\r\n"
    assert encode_reply(Reply.make(250, "", "f\u00fcr"), allow_utf8=True) == "250 f\u00fcr\r\n".encode()


def test_a_reply_without_text_has_a_code() -> None:
    assert encode_reply(Reply(250)) == b"250 \r\n"


def read(octets: bytes) -> Reply | None:
    reader = ReplyReader()
    reader.receive(octets)
    return reader.next_reply()


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 OK\r\n", Reply(250, "", ("OK",))),
        (b"250\r\n", Reply(250, "", ("",))),
        (b"250 OK\n", Reply(250, "", ("OK",))),
        (b"550 5.1.1 No\r\n", Reply(550, "5.1.1", ("No",))),
        (b"550-5.1.1 No\r\n550 5.1.1 way\r\n", Reply(550, "5.1.1", ("No", "way"))),
        (b"250 a\x00b\xff\r\n", Reply(250, "", ("a b\ufffd",))),
        (b"250-a\r\n", None),
        (b"250 a", None),
    ],
)
def test_replies_are_read(octets: bytes, reply: Reply | None) -> None:
    assert read(octets) == reply


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"25 x\r\n",
        b"2500 x\r\n",
        b"250-a\r\n251 b\r\n",
        b"250 " + b"x" * 2044,
        b"250-x\r\n" * 101,
    ],
)
def test_what_is_no_reply_breaks_the_protocol(octets: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(octets)


def test_a_hundred_lines_are_read_octet_by_octet() -> None:
    reader = ReplyReader()
    for octet in b"250-x\r\n" * 99 + b"250 x\r\n":
        assert reader.next_reply() is None
        reader.receive(bytes([octet]))
    reply = reader.next_reply()
    assert reply is not None
    assert len(reply.lines) == 100
    assert not reader.has_more


def test_extensions_are_read_whatever_their_case() -> None:
    extensions = Extensions.from_reply(
        Reply(250, "", ("mx", "size 1000", "AUTH=LOGIN", "auth Plain login", "LIMITS MAILMAX=5 rcptmax=50", "8BITMIME"))
    )
    assert extensions.max_message_octets == 1000
    assert extensions.mechanisms == ("LOGIN", "PLAIN")
    assert extensions.max_recipients == 50
    assert "8BITMIME" in extensions
    assert "MX" not in extensions


@pytest.mark.parametrize("line", ["SIZE", "SIZE 0", "SIZE x", "SIZE 999999999999999999999"])
def test_a_size_that_says_nothing_is_no_limit(line: str) -> None:
    assert Extensions.from_reply(Reply(250, "", ("mx", line))).max_message_octets is None


@pytest.mark.parametrize(
    ("smtputf8", "require_tls", "size", "code"),
    [(True, False, 1, "5.6.7"), (False, True, 1, "5.7.30"), (False, False, 101, "5.3.4"), (False, False, 100, "")],
)
def test_what_the_next_hop_cannot_take_is_known_before(smtputf8: bool, require_tls: bool, size: int, code: str) -> None:
    extensions = Extensions.from_reply(Reply(250, "", ("mx", "SIZE 100")))
    refusal = extensions.refusal(size_octets=size, needs_smtputf8=smtputf8, require_tls=require_tls)
    assert (refusal.enhanced_status_code if refusal else "") == code
