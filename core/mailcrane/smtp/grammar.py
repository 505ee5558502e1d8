"""The arguments of SMTP commands: paths, parameters and their values (RFC 5321 section 4.1.2).

Every function takes text of at most one line, does work linear in it, and raises `GrammarError` or `AddressError`
with a text that is safe to show. What a command means is not known here.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime

from mailcrane.model.address import (
    NULL_REVERSE_PATH,
    AddressError,
    Mailbox,
    ReversePath,
    parse_address_literal,
    parse_domain,
)


class GrammarError(ValueError):
    """The text does not follow the grammar; the message says what is wrong and is safe to show to a peer."""


# A path without quotes, or one whose local part is a quoted string, which may hold any of the characters that end
# the first form. The alternatives inside share no first character, so that there is nothing to backtrack into.
_PATH = re.compile(r'<([^"<> ]*)>|<((?:@[^":<> ]*:)?"(?:[^"\\]|\\.)*"@[^"<> ]*)>')
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
# RFC 6531 section 3.4 adds UTF-8 to what a value may hold.
_VALUE = re.compile(r"[!-<>-~\u0080-\U0010ffff]+\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)

parse_mailbox = functools.lru_cache(maxsize=4096)(Mailbox.parse)


def parse_hello_name(text: str) -> str:
    """Return the argument of EHLO or HELO: a domain in lower case or an address literal (RFC 5321 section 4.1.1.1).

    Raises:
        AddressError: it is neither.
    """
    if text.startswith("["):
        return parse_address_literal(text)
    if not text.isascii():
        raise AddressError("bad domain name: not ASCII")
    return parse_domain(text)


def split_path(text: str) -> tuple[str, str]:
    """Split off a path in angle brackets: what is inside, without a source route, and what follows.

    A source route is accepted and ignored, as RFC 5321 appendix C and section 4.1.1.3 ask for.

    Raises:
        GrammarError: there is no path at the start.
        AddressError: the source route has a bad domain.
    """
    found = _PATH.match(text)
    if found is None:
        raise GrammarError("expected a path in angle brackets")
    inside: str = found.group(found.lastindex or 1)
    if inside.startswith("@"):
        route, colon, inside = inside.partition(":")
        if not colon or not inside:
            raise GrammarError("bad source route")
        for hop in route.split(","):
            if not hop.startswith("@"):
                raise GrammarError("bad source route")
            parse_hello_name(hop[1:])
    rest = text[found.end() :]
    if rest and rest[0] != " ":
        raise GrammarError("expected a space after the path")
    return inside, rest


def parse_reverse_path(inside: str) -> ReversePath:
    """Parse what stands between the angle brackets of MAIL; nothing is the null reverse-path.

    Raises:
        AddressError: it is not a mailbox.
    """
    return ReversePath(parse_mailbox(inside)) if inside else NULL_REVERSE_PATH


def parse_forward_path(inside: str, hostname: str) -> Mailbox:
    """Parse what stands between the angle brackets of RCPT; ``postmaster`` alone is the one of `hostname`.

    Raises:
        AddressError: it is not a mailbox.
    """
    # RFC 5321 section 4.1.1.3: "Postmaster" without a domain, in any case, is always a valid recipient.
    if len(inside) == 10 and inside.lower() == "postmaster":
        return Mailbox(inside, hostname)
    return parse_mailbox(inside)


def parse_parameters(text: str) -> dict[str, str | None]:
    """Parse the parameters of MAIL or RCPT: keywords in upper case, None for those without a value.

    Raises:
        GrammarError: a parameter is malformed or given twice.
    """
    parameters: dict[str, str | None] = {}
    for item in text.split(" "):
        if not item:
            continue
        keyword, equals, value = item.partition("=")
        if not _KEYWORD.match(keyword):
            raise GrammarError("bad parameter keyword")
        if equals and not _VALUE.match(value):
            raise GrammarError("bad parameter value")
        keyword = keyword.upper()
        if keyword in parameters:
            raise GrammarError(f"parameter {keyword} is given twice")
        parameters[keyword] = value if equals else None
    return parameters


def parse_number(text: str, *, max_digits: int) -> int:
    """Parse a number of at most so many decimal digits.

    Raises:
        GrammarError: it is empty, too long or has other characters.
    """
    if not (0 < len(text) <= max_digits and text.isascii() and text.isdigit()):
        raise GrammarError(f"expected a number of at most {max_digits} digits")
    return int(text)


def parse_xtext(text: str) -> str:
    """Decode xtext (RFC 3461 section 4).

    Raises:
        GrammarError: it is not xtext, or not UTF-8 once decoded.
    """
    if not _XTEXT.match(text):
        raise GrammarError("bad xtext")
    decoded = _HEX.sub(lambda found: chr(int(found.group(1), 16)), text)
    try:
        return decoded.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise GrammarError("bad xtext: not UTF-8") from None


def encode_xtext(text: str) -> str:
    """Encode as xtext (RFC 3461 section 4)."""
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}" for octet in text.encode()
    )


def parse_date_time(text: str) -> datetime:
    """Parse an RFC 3339 date-time into an aware instant in UTC.

    Raises:
        GrammarError: it is not one, or is outside what can be represented.
    """
    if not _DATE_TIME.match(text):
        raise GrammarError("expected an RFC 3339 date-time")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise GrammarError("expected an RFC 3339 date-time") from None
