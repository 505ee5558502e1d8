from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mailcrane.message import charset, encoded_word
from mailcrane.message.addresses import AddressListError, parse_address_list
from mailcrane.message.date import format_date, parse_date
from mailcrane.message.header import HeaderError, canonical_message_id, message_id, parse_header


def _addresses(value: str) -> list[tuple[str, str]]:
    return [(entry.name, str(entry.mailbox)) for entry in parse_address_list(value)]


def test_fields_are_found_with_their_offsets() -> None:
    octets = b"From: a@b.example\r\nSubject: one\r\n  two\r\n\r\nbody"
    header = parse_header(octets)
    assert [field.name for field in header] == ["From", "Subject"]
    assert header.get("SUBJECT") == "one  two"
    field = header.first("subject")
    assert field is not None
    assert octets[field.offset : field.end] == b"Subject: one\r\n  two\r\n"
    assert octets[header.body_offset :] == b"body"
    assert header.is_terminated


def test_a_header_without_an_empty_line_has_no_body() -> None:
    header = parse_header(b"From: a@b.example\r\n")
    assert not header.is_terminated
    assert header.body_offset == 19


def test_bare_line_feeds_end_lines() -> None:
    header = parse_header(b"A: 1\nB: 2\n 3\n\nbody")
    assert header.get_all("b") == ("2 3",)
    assert header.body_offset == 14


def test_white_space_before_the_colon_is_read() -> None:
    assert parse_header(b"Subject : x\r\n\r\n").get("subject") == "x"


def test_a_line_that_is_no_field_is_an_error_or_passed_over() -> None:
    octets = b"From a@b Mon\r\nSubject: x\r\n\r\n"
    with pytest.raises(HeaderError):
        parse_header(octets)
    assert parse_header(octets, is_strict=False).get("subject") == "x"


def test_too_many_fields_and_too_many_octets_are_errors() -> None:
    with pytest.raises(HeaderError):
        parse_header(b"A: 1\r\n" * 11 + b"\r\n", max_fields=10)
    with pytest.raises(HeaderError):
        parse_header(b"A: " + b"x" * 100 + b"\r\n\r\n", max_octets=50)


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("plain", "plain"),
        ("=?utf-8?Q?caf=C3=A9?= bar", "café bar"),
        ("=?utf-8?q?a?= =?utf-8?q?_b?=", "a b"),
        ("=?utf-8?B?w6k=?=", "é"),
        ("=?utf-8?B?w6k?=", "é"),  # padding is missing
        ("=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),  # a character split between words
        ("=?ISO-8859-1?Q?=A4?=", "¤"),
        ("=?nonsense?Q?a?=", "=?nonsense?Q?a?="),
        ("=?utf-8*en?q?a?=", "a"),
        ("=?rot13?q?a?=", "=?rot13?q?a?="),
        ("=?idna?q?a?=", "=?idna?q?a?="),
    ],
)
def test_encoded_words_are_decoded(text: str, decoded: str) -> None:
    assert encoded_word.decode(text) == decoded


def test_encoded_words_are_short_and_come_back() -> None:
    text = "日本語" * 40 + " naïve_?="
    words = list(encoded_word.encode(text))
    assert max(map(len, words)) <= 64
    assert encoded_word.decode("\r\n ".join(words)) == text


def test_octets_without_a_charset_are_utf8_or_windows_1252() -> None:
    assert charset.decode("é".encode()) == "é"
    assert charset.decode(b"\xe9") == "é"
    assert charset.decode(b"\xe9", "no-such-charset\0") == "é"
    assert charset.decode(b"\xff\xe9", "utf-8") == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@b.example", [("", "a@b.example")]),
        ("Ann <a@B.Example>", [("Ann", "a@b.example")]),
        ('"Doe, Ann" <a@b.example>, c@d.example', [("Doe, Ann", "a@b.example"), ("", "c@d.example")]),
        ("John Q. Public <j@b.example>", [("John Q. Public", "j@b.example")]),
        ("a@b.example (Ann (really))", [("Ann (really)", "a@b.example")]),
        ("=?utf-8?q?Z=C3=B6e?= <z@b.example>", [("Zöe", "z@b.example")]),
        ("Zöe <zöe@bücher.example>", [("Zöe", "zöe@xn--bcher-kva.example")]),
        ("A Group: a@b.example, <c@d.example>;, e@f.org", [("", "a@b.example"), ("", "c@d.example"), ("", "e@f.org")]),
        ("undisclosed-recipients:;", []),
        ("<@r1.example,@r2.example:a@b.example>", [("", "a@b.example")]),
        ('"quoted local"@b.example', [("", '"quoted local"@b.example')]),
        ("a . b @ c . example", [("", "a.b@c.example")]),
        (",, a@b.example ,", [("", "a@b.example")]),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("", []),
    ],
)  # fmt: skip
def test_address_lists_are_read(value: str, expected: list[tuple[str, str]]) -> None:
    assert _addresses(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "ann",
        "ann <>",
        "<a@b.example",
        "a@b.example c@d.example",
        "a b@c.example",
        "a@",
        "(open <a@b.example>",
        '"open <a@b.example>',
        "a@b.example;",
        "x: y: a@b.example;",
        "a@b.example>",
        "a..b@c.example",
        "a@-b_!.example",
        "(" * 100 + ")" * 100,
        "\x01a@b.example",
    ],
)
def test_what_is_no_address_list_is_refused(value: str) -> None:
    with pytest.raises(AddressListError):
        parse_address_list(value)


def test_the_number_of_addresses_is_limited() -> None:
    with pytest.raises(AddressListError, match="too many"):
        parse_address_list("a@b.example," * 11, max_addresses=10)


def test_message_ids_are_found_and_compared() -> None:
    assert message_id("  <a@b> (comment)") == "<a@b>"
    assert message_id("a@b") == ""
    assert message_id("<>") == ""
    assert canonical_message_id('<"Abc"@Example.ORG> x') == "abc@example.org"
    assert canonical_message_id("<No At Sign>") == "no at sign"


def test_dates_are_written_and_read() -> None:
    instant = datetime(2026, 3, 1, 4, 5, 6, tzinfo=timezone(-timedelta(hours=3, minutes=30)))
    assert format_date(instant) == "Sun, 1 Mar 2026 04:05:06 -0330"
    assert parse_date(format_date(instant)) == instant
    assert parse_date("Sun, 01 Mar 26 04:05 GMT (comment)") == datetime(2026, 3, 1, 4, 5, tzinfo=UTC)
    assert parse_date("1 Mar 2026 04:05:06 -0000") == datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", ["", "yesterday", "x" * 1000, "Sun, 1 Mar 99999 04:05:06 +0000", "31 Dec 9999 23:59 -2359", "32 Foo"]
)
def test_what_is_no_date_is_none(value: str) -> None:
    assert parse_date(value) is None


def test_a_naive_instant_is_not_formatted() -> None:
    with pytest.raises(ValueError, match="zone"):
        format_date(datetime(2026, 1, 1))


@pytest.mark.parametrize(
    "value",
    [
        ", " * 80_000,
        "(" * 40 + ")" * 40 + " (x)" * 40_000,
        '"' + "\\a" * 60_000,
        "a " * 80_000,
        "x:;" * 40_000,
        "<@a," + "@a," * 40_000,
        "a@" + "b." * 60_000,
        "=?utf-8?q?a?= " * 12_000 + "<a@b.example>",
        "=?x" * 60_000,
    ],
)
def test_hostile_values_are_read_in_one_go(value: str) -> None:
    # Quadratic work would take very long here.
    try:
        parse_address_list(value)
    except AddressListError:
        pass
    encoded_word.decode(value)
    encoded_word.needs_encoding(value)
    parse_header(b"To: " + value.encode() + b"\r\n\r\n", max_octets=1 << 24)
