"""Content on the wire: its end, its dots, and what must not end it."""

from __future__ import annotations

import pytest

from mailcrane.smtp.data import ContentFault, ContentReader, DotStuffer


def read(*slices: bytes, limit: int = 1 << 20) -> tuple[bytes, bytes | None, ContentReader]:
    reader = ContentReader(limit)
    message = b""
    rest: bytes | None = None
    for octets in slices:
        piece, rest = reader.feed(octets)
        message += piece
    return message, rest, reader


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n...b\r\n.\r\n", b"a\r\n..b\r\n"),
        (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
    ],
)
def test_dots_are_taken_off_however_the_wire_is_cut(wire: bytes, message: bytes) -> None:
    assert read(wire)[:2] == (message, b"")
    assert read(*(wire[i : i + 1] for i in range(len(wire))))[:2] == (message, b"")
    for cut in range(len(wire)):
        assert read(wire[:cut], wire[cut:])[:2] == (message, b"")


def test_what_follows_the_end_is_given_back() -> None:
    assert read(b"a\r\n.\r\nQUIT\r\n")[:2] == (b"a\r\n", b"QUIT\r\n")


@pytest.mark.parametrize("wire", [b"a\n.\n", b"a\r.\r", b"a\n.\r\n", b"a\r\n.\n", b"a\r\n.\r", b"a\r.\r\n", b"..\r\n"])
def test_only_a_dot_between_two_crlf_ends_content(wire: bytes) -> None:
    assert read(wire)[1] is None


@pytest.mark.parametrize(
    "wire", [b"a\nb\r\n.\r\n", b"\n.\r\n\r\n.\r\n", b"a\rb\r\n.\r\n", b"\r\r\n.\r\n", b"a\r\n.\rb\r\n.\r\n"]
)
def test_a_bare_cr_or_lf_is_a_fault_however_the_wire_is_cut(wire: bytes) -> None:
    for cut in range(len(wire)):
        _, rest, reader = read(wire[:cut], wire[cut:])
        assert (rest, reader.fault) == (b"", ContentFault.BARE_LINE_END)


def test_size_counts_the_message_without_stuffing() -> None:
    assert read(b"..\r\n.\r\n", limit=3)[2].fault is None
    assert read(b"..\r\n.\r\n")[2].size_octets == 3
    assert read(b"..\r\n.\r\n", limit=2)[2].fault is ContentFault.TOO_LARGE


def test_nothing_is_given_out_after_a_fault() -> None:
    message, rest, _ = read(b"x" * 20, b"y" * 20, b"\r\n.\r\nNOOP", limit=30)
    assert (message, rest) == (b"x" * 20, b"NOOP")


@pytest.mark.parametrize(("octets", "has_8bit"), [(b"\x7f", False), (b"\x80", True)])
def test_octets_above_127_are_noticed(octets: bytes, has_8bit: bool) -> None:
    assert read(octets + b"\r\n.\r\n")[2].has_8bit is has_8bit


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\n.\r\n"),
        (b".a\r\n.\r\n", b"..a\r\n..\r\n.\r\n"),
        (b"a\n.\nb", b"a\n..\nb\r\n.\r\n"),
    ],
)
def test_dots_are_put_on_however_the_message_is_cut(message: bytes, wire: bytes) -> None:
    for cut in range(len(message) + 1):
        stuffer = DotStuffer()
        assert stuffer.stuff(message[:cut]) + stuffer.stuff(message[cut:]) + stuffer.finish() == wire
    stuffer = DotStuffer()
    assert b"".join(stuffer.stuff(message[i : i + 1]) for i in range(len(message))) + stuffer.finish() == wire
