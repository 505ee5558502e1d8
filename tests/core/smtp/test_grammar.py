"""Paths, parameters and their values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mailcrane.model.address import AddressError, Mailbox
from mailcrane.smtp import grammar
from mailcrane.smtp.grammar import GrammarError


@pytest.mark.parametrize(
    ("text", "inside", "rest"),
    [
        ("<>", "", ""),
        ("<a@b.example>", "a@b.example", ""),
        ("<a@b.example> SIZE=1", "a@b.example", " SIZE=1"),
        ("<@x.example,@[192.0.2.1]:a@b.example>", "a@b.example", ""),
        ('<"a>b"@b.example>', '"a>b"@b.example', ""),
        ('<"a\\"b"@b.example> X', '"a\\"b"@b.example', " X"),
        ('<@x.example:"a b"@b.example>', '"a b"@b.example', ""),
    ],
)
def test_a_path_is_split_off(text: str, inside: str, rest: str) -> None:
    assert grammar.split_path(text) == (inside, rest)


@pytest.mark.parametrize(
    "text", ["", "a@b", "<a@b", "<a b@c>", "<a@b>x", '<"a@b>', "<@x.example>", "<@x,y:a@b>", "<<a@b>>"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        grammar.split_path(text)


def test_a_source_route_names_hosts() -> None:
    with pytest.raises(AddressError):
        grammar.split_path("<@-x-:a@b.example>")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Mail.Example.NET", "mail.example.net"),
        ("localhost", "localhost"),
        ("my_host", "my_host"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_hello_names_a_domain_or_an_address_literal(text: str, name: str) -> None:
    assert grammar.parse_hello_name(text) == name


def test_postmaster_needs_no_domain_and_nobody_else_does() -> None:
    assert grammar.parse_forward_path("POSTmaster", "h.example") == Mailbox("POSTmaster", "h.example")
    with pytest.raises(AddressError):
        grammar.parse_forward_path("webmaster", "h.example")


def test_parameters_have_keywords_in_upper_case() -> None:
    assert grammar.parse_parameters(" size=1  Body=8BITMIME X-flag") == {
        "SIZE": "1",
        "BODY": "8BITMIME",
        "X-FLAG": None,
    }


@pytest.mark.parametrize("text", ["=1", "A=", "A==", "A=1 a=2", "-A=1", "A_B=1", "A=\x01"])
def test_malformed_or_repeated_parameters_are_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        grammar.parse_parameters(text)


def test_xtext_comes_back_as_it_was() -> None:
    assert grammar.parse_xtext("e+3Dmc2@example.com") == "e=mc2@example.com"
    assert grammar.encode_xtext("e=mc+2 \u00fc") == "e+3Dmc+2B2+20+C3+BC"
    assert grammar.parse_xtext(grammar.encode_xtext("e=mc+2 \u00fc")) == "e=mc+2 \u00fc"


@pytest.mark.parametrize("text", ["+", "+3d", "=", "a b", "+FF", "\u00fc"])
def test_what_is_no_xtext_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        grammar.parse_xtext(text)


@pytest.mark.parametrize("text", ["", "x", "123456", "-1", "\u0661"])
def test_a_number_has_so_many_ascii_digits(text: str) -> None:
    with pytest.raises(GrammarError):
        grammar.parse_number(text, max_digits=5)


def test_date_times_are_turned_into_utc() -> None:
    assert grammar.parse_date_time("2026-03-01T14:00:00.5+02:00") == datetime(2026, 3, 1, 12, 0, 0, 500000, tzinfo=UTC)
    assert grammar.parse_date_time("2026-03-01t12:00:00z") == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-03-01", "2026-03-01T12:00:00", "2026-13-01T12:00:00Z", "9999-12-31T23:59:59-23:59"]
)
def test_other_date_times_are_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        grammar.parse_date_time(text)
