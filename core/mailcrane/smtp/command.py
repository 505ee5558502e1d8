"""Commands of a client, parsed from the argument of their verb into values (RFC 5321 section 4.1.1).

A parse answers a command or, for a bad argument, the reply that says so. Whether the command fits the state of the
dialog, the size limit and the TLS state is known by `mailcrane.smtp.server` alone.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from mailcrane.model.address import AddressError, Mailbox, ReversePath
from mailcrane.model.reply import Reply
from mailcrane.smtp import grammar, replies
from mailcrane.smtp.grammar import GrammarError

Body = Literal["", "7BIT", "8BITMIME"]


class Hello(Struct, frozen=True):
    """EHLO or HELO.

    Attributes:
        name: A domain in lower case or an address literal. On a submission listener, where it is not checked, it is
            empty when it is neither.
        is_extended: EHLO.
    """

    name: str
    is_extended: bool


class StartTLS(Struct, frozen=True):
    """STARTTLS (RFC 3207)."""


class Auth(Struct, frozen=True):
    """AUTH (RFC 4954).

    Attributes:
        mechanism: In upper case.
        initial_response: None when there is none, which differs from an empty one.
    """

    mechanism: str
    initial_response: bytes | None = None

    def __repr__(self) -> str:
        return f"Auth(mechanism={self.mechanism!r})"


class Mail(Struct, frozen=True):
    """MAIL with its parameters.

    Attributes:
        size_octets: What the client declares (RFC 1870); None when it does not.
        body: As declared (RFC 6152), empty when it is not.
        smtputf8: The client asks for SMTPUTF8 (RFC 6531).
        require_tls: REQUIRETLS (RFC 8689).
        hold_for_seconds: HOLDFOR (RFC 4865).
        hold_until: HOLDUNTIL (RFC 4865), in UTC.
        auth: Who submitted first, as the client says (RFC 4954 section 5); nothing follows from it.
    """

    reverse_path: ReversePath
    size_octets: int | None = None
    body: Body = ""
    smtputf8: bool = False
    require_tls: bool = False
    hold_for_seconds: int | None = None
    hold_until: datetime | None = None
    auth: str | None = None

    def release_at(self, now: datetime) -> datetime | None:
        """The instant before which the message is not to be sent on; None when the client did not ask for one."""
        if self.hold_for_seconds is not None:
            return now + timedelta(seconds=self.hold_for_seconds)
        return self.hold_until

    @property
    def future_release(self) -> str:
        """The request as it is kept with a queue entry: ``for;SECONDS``, ``until;DATE-TIME`` or empty."""
        if self.hold_for_seconds is not None:
            return f"for;{self.hold_for_seconds}"
        if self.hold_until is not None:
            return f"until;{self.hold_until:%Y-%m-%dT%H:%M:%SZ}"
        return ""


class Rcpt(Struct, frozen=True):
    """RCPT; no parameters are supported."""

    forward_path: Mailbox


class Data(Struct, frozen=True):
    """DATA."""


def parse_hello(argument: str, *, is_extended: bool, is_checked: bool) -> Hello | Reply:
    """Parse the argument of EHLO or HELO; without `is_checked` any text will do."""
    argument = argument.strip(" ")
    if not argument:
        return _bad_syntax("a domain or an address literal is missing")
    try:
        return Hello(grammar.parse_hello_name(argument), is_extended)
    except AddressError as error:
        return _bad_syntax(str(error)) if is_checked else Hello("", is_extended)


def parse_auth(argument: str) -> Auth | Reply:
    """Parse the argument of AUTH: a mechanism and perhaps an initial response (RFC 4954 section 4)."""
    words = argument.split(" ")
    if not words[0] or len(words) > 2:
        return _bad_syntax("expected a mechanism and at most one response")
    if len(words) == 1:
        return Auth(words[0].upper())
    # A single equals sign stands for an empty initial response.
    response = b"" if words[1] == "=" else decode_base64(words[1])
    return replies.BAD_BASE64 if response is None else Auth(words[0].upper(), response)


def parse_mail(argument: str, *, allow_future_release: bool, allow_require_tls: bool) -> Mail | Reply:
    """Parse the argument of MAIL; parameters of extensions that are not offered are unknown ones."""
    if argument[:5].upper() != "FROM:":
        return _bad_syntax("expected MAIL FROM:<reverse-path>")
    try:
        inside, rest = grammar.split_path(argument[6:] if argument[5:6] == " " else argument[5:])
    except (GrammarError, AddressError) as error:
        return _bad_syntax(str(error))
    try:
        parameters = grammar.parse_parameters(rest) if rest else {}
    except GrammarError as error:
        return _bad_parameter(str(error))
    if "SMTPUTF8" not in parameters and not inside.isascii():
        return replies.NOT_ASCII_REVERSE_PATH
    try:
        reverse_path = grammar.parse_reverse_path(inside)
    except AddressError as error:
        return _bad_syntax(str(error))
    if not parameters:
        return Mail(reverse_path)
    return _parse_mail_parameters(reverse_path, parameters, allow_future_release, allow_require_tls)


def parse_rcpt(argument: str, *, hostname: str, allow_utf8: bool) -> Rcpt | Reply:
    """Parse the argument of RCPT."""
    if argument[:3].upper() != "TO:":
        return _bad_syntax("expected RCPT TO:<forward-path>")
    try:
        inside, rest = grammar.split_path(argument[4:] if argument[3:4] == " " else argument[3:])
        if rest and grammar.parse_parameters(rest):
            return replies.UNKNOWN_PARAMETER
        if not allow_utf8 and not inside.isascii():
            return replies.NOT_ASCII_FORWARD_PATH
        return Rcpt(grammar.parse_forward_path(inside, hostname))
    except (GrammarError, AddressError) as error:
        return _bad_syntax(str(error))


def decode_base64(text: str | bytes) -> bytes | None:
    """Decode one line of base64 strictly; None when it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _parse_mail_parameters(
    reverse_path: ReversePath, parameters: dict[str, str | None], allow_future_release: bool, allow_require_tls: bool
) -> Mail | Reply:
    size_octets: int | None = None
    body: Body = ""
    hold_for_seconds: int | None = None
    hold_until: datetime | None = None
    auth: str | None = None
    try:
        for keyword, value in parameters.items():
            if keyword == "SIZE":
                size_octets = grammar.parse_number(value or "", max_digits=20)
            elif keyword == "BODY":
                upper = (value or "").upper()
                if upper not in {"7BIT", "8BITMIME"}:
                    return _bad_parameter("BODY is 7BIT or 8BITMIME")
                body = "8BITMIME" if upper == "8BITMIME" else "7BIT"
            elif keyword == "SMTPUTF8" or (keyword == "REQUIRETLS" and allow_require_tls):
                if value is not None:
                    return _bad_parameter(f"{keyword} takes no value")
            elif keyword == "AUTH":
                auth = grammar.parse_xtext(value or "")
                if not auth:
                    return _bad_parameter("AUTH needs a value")
            elif keyword == "HOLDFOR" and allow_future_release:
                hold_for_seconds = grammar.parse_number(value or "", max_digits=9)
                if not hold_for_seconds:  # RFC 4865 section 11: it begins with a digit other than 0.
                    return _bad_parameter("HOLDFOR must be at least one second")
            elif keyword == "HOLDUNTIL" and allow_future_release:
                hold_until = grammar.parse_date_time(value or "")
            else:
                return replies.UNKNOWN_PARAMETER
    except GrammarError as error:
        return _bad_parameter(str(error))
    if hold_for_seconds is not None and hold_until is not None:
        return _bad_parameter("HOLDFOR and HOLDUNTIL exclude each other")
    return Mail(
        reverse_path,
        size_octets,
        body,
        "SMTPUTF8" in parameters,
        "REQUIRETLS" in parameters,
        hold_for_seconds,
        hold_until,
        auth,
    )


def _bad_syntax(text: str) -> Reply:
    return Reply.make(501, "5.5.2", f"Syntax error: {text}")


def _bad_parameter(text: str) -> Reply:
    return Reply.make(501, "5.5.4", f"Bad parameter: {text}")
