"""Stuffing and unstuffing against made-up messages."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailcrane.smtp.data import ContentFault, ContentReader, DotStuffer

PIECES = st.lists(st.sampled_from([b"\r\n", b".", b"..", b"x", b"\xff", b"line"]), max_size=40).map(b"".join)
WILD = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\r\n.", b"\r\n.\r\n"]), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 9), max_size=60)


def cut(octets: bytes, sizes: list[int]) -> list[bytes]:
    slices = []
    for size in sizes:
        slices.append(octets[:size])
        octets = octets[size:]
    return [*slices, octets]


def read(slices: list[bytes], limit: int = 1 << 20) -> tuple[bytes, bytes | None, ContentFault | None, int, bool]:
    """Read as a server does: what follows the end belongs to the next command."""
    reader = ContentReader(limit)
    message = b""
    rest: bytes | None = None
    for number, octets in enumerate(slices):
        piece, rest = reader.feed(octets)
        message += piece
        if rest is not None:
            rest += b"".join(slices[number + 1 :])
            break
    return message, rest, reader.fault, reader.size_octets, reader.has_8bit


def lines_read(wire: bytes) -> tuple[bytes | None, bytes]:
    """The plain way: line by line, as RFC 5321 section 4.5.2 words it."""
    message = b""
    while b"\r\n" in wire:
        line, _, wire = wire.partition(b"\r\n")
        if line == b".":
            return message, wire
        message += line.removeprefix(b".") + b"\r\n"
    return None, b""


@settings(max_examples=500, deadline=None)
@given(PIECES, CUTS, CUTS)
def test_a_message_comes_back_with_a_crlf_at_its_end(message: bytes, first: list[int], second: list[int]) -> None:
    stuffer = DotStuffer()
    wire = b"".join(stuffer.stuff(piece) for piece in cut(message, first)) + stuffer.finish()
    expected = message if not message or message.endswith(b"\r\n") else message + b"\r\n"
    got = read(cut(wire + b"NOOP\r\n", second))
    assert got == (expected, b"NOOP\r\n", None, len(expected), not expected.isascii())


@settings(max_examples=500, deadline=None)
@given(WILD, CUTS, st.integers(1, 30))
def test_reading_does_not_depend_on_the_cuts(wire: bytes, sizes: list[int], limit: int) -> None:
    whole, cut_up = read([wire], limit), read(cut(wire, sizes), limit)
    assert cut_up[1] == whole[1]
    if whole[1] is not None:
        assert cut_up[2] == whole[2]
        if whole[2] is None:
            assert cut_up == whole


@settings(max_examples=500, deadline=None)
@given(WILD)
def test_the_scanner_agrees_with_reading_line_by_line(wire: bytes) -> None:
    expected, rest = lines_read(wire)
    message, got_rest, fault, _, _ = read([wire])
    assert (got_rest is None) == (expected is None)
    if expected is not None:
        assert got_rest == rest
        consumed = wire[: len(wire) - len(rest)]
        has_bare = b"\r" in consumed.replace(b"\r\n", b"") or b"\n" in consumed.replace(b"\r\n", b"")
        assert (fault is ContentFault.BARE_LINE_END) == has_bare
        if not has_bare:
            assert message == expected


def test_slices_of_any_size_are_passed_over_a_fixed_number_of_times() -> None:
    # Never more than four octets wait for the next slice, so that none is looked at often.
    reader = ContentReader(1 << 20)
    for octet in b"\r\n.\r\r\n..\r\nabc\r\n.x" * 200:
        reader.feed(bytes([octet]))
        assert len(reader._carry) <= 4
